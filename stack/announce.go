package stack

import (
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A new Ethernet address is announced as often as RFC 4861 (10,
// MAX_NEIGHBOR_ADVERTISEMENT and RETRANS_TIMER) has it.
const (
	announcements    = 3
	announceInterval = time.Second
)

// allNodes is every host on the link (RFC 4291, 2.7.1).
var allNodes = netip.MustParseAddr("ff02::1")

// An announcer tells the link that the stack's addresses are to be found at another
// Ethernet address than before. Neighbours would find out for themselves, Linux after
// half a minute, some routers after hours.
type announcer struct {
	mu    sync.Mutex
	told  tcpip.LinkAddress // what the link knows, or is being told
	cut   bool              // it went down before it was told often enough
	timer tcpip.Timer       // nil before the first announcement
	left  int               // how many are to come
	over  bool
}

// follow has an address announced that the link does not know, now that it is up. The
// first needs no words: nobody has another one in mind.
func (a *announcer) follow(s *Stack, mac tcpip.LinkAddress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.told == "" || a.told == mac && !a.cut
	a.told, a.cut = mac, false
	if known {
		return
	}
	a.left = announcements
	switch {
	case a.over:
	case a.timer == nil:
		a.timer = s.ns.Clock().AfterFunc(0, func() { a.tell(s) })
	default:
		a.timer.Reset(0)
	}
}

// tell announces all addresses, and sees to it that it is done again. While the link is
// down nobody would hear it, as where a driver starts its device anew for the address:
// follow begins again then.
func (a *announcer) tell(s *Stack) {
	a.mu.Lock()
	defer a.mu.Unlock() // end waits for it
	if a.over || a.left == 0 {
		return
	}
	if s.dev.LinkErr() != nil {
		a.cut, a.left = true, 0
		return
	}
	for _, p := range s.cfg.Addresses {
		// One that is lost is as good as one that cannot be sent.
		if addr := tcpipAddr(p.Addr()); p.Addr().Is4() {
			s.announce4(addr)
		} else {
			s.announce6(addr)
		}
	}
	if a.left--; a.left > 0 {
		a.timer.Reset(announceInterval)
	}
}

// end stops it; nothing is sent once it has returned.
func (a *announcer) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	if a.timer != nil {
		a.timer.Stop()
	}
}

// announce4 sends an ARP announcement: a request for the address from the address
// itself (RFC 5227, 3).
func (s *Stack) announce4(addr tcpip.Address) {
	ep, terr := s.ns.GetNetworkEndpoint(nicID, arp.ProtocolNumber)
	if terr != nil {
		return
	}
	if r, ok := ep.(gstack.LinkAddressResolver); ok {
		r.LinkAddressRequest(addr, addr, header.EthernetBroadcastAddress)
	}
}

// announce6 sends an unsolicited neighbour advertisement to all hosts (RFC 4861,
// 7.2.6).
func (s *Stack) announce6(addr tcpip.Address) {
	r, terr := s.ns.FindRoute(nicID, addr, tcpipAddr(allNodes), ipv6.ProtocolNumber, false)
	if terr != nil {
		return
	}
	defer r.Release()
	options := header.NDPOptionsSerializer{header.NDPTargetLinkLayerAddressOption(s.link.LinkAddress())}
	size := header.ICMPv6NeighborAdvertMinimumSize + options.Length()
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{ReserveHeaderBytes: int(r.MaxHeaderLength()) + size})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = header.ICMPv6ProtocolNumber
	h := header.ICMPv6(pkt.TransportHeader().Push(size))
	h.SetType(header.ICMPv6NeighborAdvert)
	na := header.NDPNeighborAdvert(h.MessageBody())
	na.SetOverrideFlag(true)
	na.SetTargetAddress(addr)
	na.Options().Serialize(options)
	h.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: h, Src: r.LocalAddress(), Dst: r.RemoteAddress()}))
	r.WritePacket(gstack.NetworkHeaderParams{Protocol: header.ICMPv6ProtocolNumber, TTL: header.NDPHopLimit}, pkt)
}
