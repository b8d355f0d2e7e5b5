package gvisorpeer

import (
	"fmt"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// NICID is the only interface of a netstack that NewStack made.
const NICID tcpip.NICID = 1

// Socket buffers in bytes and the shortest retransmission timeout: the values
// of package stack.
const (
	bufferMin     = 4 << 10
	bufferDefault = 1 << 20
	bufferMax     = 16 << 20
	minRTO        = 200 * time.Millisecond
)

// NewStack returns a netstack over a link with the given addresses, and with
// the transport settings of package stack. qdisc may be nil. Invalid prefixes
// are left out. The caller destroys it.
func NewStack(link gstack.LinkEndpoint, qdisc gstack.QueueingDiscipline, addrs ...netip.Prefix) (_ *gstack.Stack, err error) {
	v6 := ipv6.NewProtocolWithOptions(ipv6.Options{
		DADConfigs: gstack.DADConfigurations{DupAddrDetectTransmits: 0},
		NDPConfigs: ipv6.NDPConfigurations{HandleRAs: ipv6.HandlingRAsDisabled},
	})
	ns := gstack.New(gstack.Options{
		NetworkProtocols:   []gstack.NetworkProtocolFactory{ipv4.NewProtocol, v6, arp.NewProtocol},
		TransportProtocols: []gstack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		HandleLocal:        true,
	})
	defer func() {
		if err != nil {
			ns.Destroy()
		}
	}()
	if err := setOptions(ns); err != nil {
		return nil, err
	}
	if terr := ns.CreateNICWithOptions(NICID, link, gstack.NICOptions{QDisc: qdisc}); terr != nil {
		return nil, fmt.Errorf("gvisorpeer: create interface: %v", terr)
	}
	var routes []tcpip.Route
	for _, p := range addrs {
		if !p.IsValid() {
			continue
		}
		own := tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(p.Addr().AsSlice()), PrefixLen: p.Bits()}
		terr := ns.AddProtocolAddress(NICID, tcpip.ProtocolAddress{
			Protocol:          protocolOf(p.Addr()),
			AddressWithPrefix: own,
		}, gstack.AddressProperties{})
		if terr != nil {
			return nil, fmt.Errorf("gvisorpeer: add address %v: %v", p, terr)
		}
		routes = append(routes, tcpip.Route{Destination: own.Subnet(), NIC: NICID})
	}
	ns.SetRouteTable(routes)
	return ns, nil
}

// setOptions makes the settings that package stack makes.
func setOptions(ns *gstack.Stack) error {
	var (
		sack     = tcpip.TCPSACKEnabled(true)
		cc       = tcpip.CongestionControlOption("cubic")
		nagle    = tcpip.TCPDelayEnabled(false)
		moderate = tcpip.TCPModerateReceiveBufferOption(true)
		rto      = tcpip.TCPMinRTOOption(minRTO)
		recovery = tcpip.TCPRecovery(0)
		receive  = tcpip.TCPReceiveBufferSizeRangeOption{Min: bufferMin, Default: bufferDefault, Max: bufferMax}
		send     = tcpip.TCPSendBufferSizeRangeOption{Min: bufferMin, Default: bufferDefault, Max: bufferMax}
	)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &cc, &nagle, &moderate, &rto, &recovery, &receive, &send} {
		if err := ns.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("gvisorpeer: set TCP option %T: %v", o, err)
		}
	}
	if err := ns.SetOption(tcpip.SendBufferSizeOption{Min: bufferMin, Default: bufferDefault, Max: bufferMax}); err != nil {
		return fmt.Errorf("gvisorpeer: set send buffer: %v", err)
	}
	if err := ns.SetOption(tcpip.ReceiveBufferSizeOption{Min: bufferMin, Default: bufferDefault, Max: bufferMax}); err != nil {
		return fmt.Errorf("gvisorpeer: set receive buffer: %v", err)
	}
	return nil
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}
