package stack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Socket buffers in bytes, for TCP and UDP alike. TCP moves between them by
// itself; netstack advertises half of the free receive buffer as window.
const (
	bufferMin     = 4 << 10
	bufferDefault = 1 << 20
	bufferMax     = 16 << 20
)

const (
	minRTOWAN = 200 * time.Millisecond // as Linux, and RFC 6298 allows
	minRTOLAN = 50 * time.Millisecond  // above the 40 ms of Linux's delayed ACK

	// RACK is off: on paths that lose nothing it sends again without need and
	// costs 40 to 80 percent of the rate. docs/tcp.md has the figures, and says
	// when to measure again.
	recoveryWAN tcpip.TCPRecovery = 0
	recoveryLAN tcpip.TCPRecovery = 0

	// Congestion control as netstack calls it. Its CUBIC counts round trips of
	// less than a millisecond as one millisecond each, so that its window hardly
	// grows there after a loss: docs/tcp.md.
	congestionWAN tcpip.CongestionControlOption = "cubic"
	congestionLAN tcpip.CongestionControlOption = "reno"
)

// Keepalive of every TCP connection, as package net sets it.
const (
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 9
)

// listenBacklog is the number of connections that wait to be accepted, and of
// half-open ones after which SYN cookies are sent. 4096 is the limit of Linux
// since 5.4.
const listenBacklog = 4096

// newNetstack makes a netstack with no interface. If verified is true, its
// interface's link has checked the checksums of unfragmented packets, and they
// take the short way f.
func newNetstack(profile Profile, verified bool, f *fastIP, clock tcpip.Clock) (*gstack.Stack, error) {
	v6 := ipv6.NewProtocolWithOptions(ipv6.Options{
		// Open has checked the addresses (checkDuplicates): they are used at
		// once.
		DADConfigs: gstack.DADConfigurations{DupAddrDetectTransmits: 0},
		NDPConfigs: ipv6.NDPConfigurations{HandleRAs: ipv6.HandlingRAsDisabled},
	})
	ns := gstack.New(gstack.Options{
		NetworkProtocols: []gstack.NetworkProtocolFactory{
			wrapIPv4(ipv4.NewProtocol, verified, f),
			wrapIPv6(v6, verified, f),
			arp.NewProtocol,
		},
		TransportProtocols: []gstack.TransportProtocolFactory{
			tcp.NewProtocolCUBIC,
			udp.NewProtocol,
			icmp.NewProtocol4,
			icmp.NewProtocol6,
		},
		HandleLocal: true,
		Clock:       clock,
	})
	f.attach(ns)
	if err := setOptions(ns, profile); err != nil {
		ns.Destroy()
		return nil, err
	}
	return ns, nil
}

func setOptions(ns *gstack.Stack, profile Profile) error {
	rto, recovery, cc := minRTOWAN, recoveryWAN, congestionWAN
	if profile == ProfileLAN {
		rto, recovery, cc = minRTOLAN, recoveryLAN, congestionLAN
	}
	var (
		sack     = tcpip.TCPSACKEnabled(true)
		nagle    = tcpip.TCPDelayEnabled(false)
		moderate = tcpip.TCPModerateReceiveBufferOption(true)
		minRTO   = tcpip.TCPMinRTOOption(rto)
		receive  = tcpip.TCPReceiveBufferSizeRangeOption{Min: bufferMin, Default: bufferDefault, Max: bufferMax}
		send     = tcpip.TCPSendBufferSizeRangeOption{Min: bufferMin, Default: bufferDefault, Max: bufferMax}
	)
	for _, o := range []struct {
		name  string
		value tcpip.SettableTransportProtocolOption
	}{
		{"TCP SACK", &sack},
		{"TCP congestion control", &cc},
		{"TCP delay", &nagle},
		{"TCP receive buffer moderation", &moderate},
		{"TCP minimum RTO", &minRTO},
		{"TCP recovery", &recovery},
		{"TCP receive buffer", &receive},
		{"TCP send buffer", &send},
	} {
		if err := ns.SetTransportProtocolOption(tcp.ProtocolNumber, o.value); err != nil {
			return stackError("set "+o.name, err)
		}
	}
	if err := ns.SetOption(tcpip.SendBufferSizeOption{Min: bufferMin, Default: bufferDefault, Max: bufferMax}); err != nil {
		return stackError("set send buffer", err)
	}
	if err := ns.SetOption(tcpip.ReceiveBufferSizeOption{Min: bufferMin, Default: bufferDefault, Max: bufferMax}); err != nil {
		return stackError("set receive buffer", err)
	}
	return nil
}
