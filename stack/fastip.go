package stack

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/cpu"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// fastIP is the short way through the IP layer. Netstack's own asks some fifty
// questions about each packet, most of them about features that nobody has set
// up; for a packet between two plain unicast addresses, with no options and in
// one piece, only a few of the answers can differ. Those are asked here. All
// other packets go netstack's way, untouched.
//
// What is repeated here from netstack's IPv4 and IPv6 endpoints: the source is
// no loopback, multicast or broadcast address and not one of our own, the
// destination is one of our own, the lengths agree. What cannot happen to a
// plain packet is left out: packet filters, raw endpoints, forwarding,
// temporary addresses. They can be set up through Stack.Netstack only, so that
// call ends the short way for good (retire).
//
// On receive the packet goes to its endpoint directly; if there is none, nothing
// has been done to it, and netstack answers it. On transmit the header is
// written in a few stores.
type fastIP struct {
	ns    *gstack.Stack
	tcp   queuer
	guard *guard
	long  longLines

	inline inliner

	// off is set once and never cleared.
	off atomic.Bool

	// own is replaced, never changed.
	own atomic.Pointer[ownAddresses]

	v4, v6  ipCounts
	retired atomic.Bool // the counts are in netstack's counters
}

// ipCounts are the packets of one protocol that passed netstack by. Each has a cache
// line of its own, which nobody reads: who sends and who receives are mostly on
// different processors.
type ipCounts struct {
	_        cpu.CacheLinePad
	received atomic.Uint64
	_        cpu.CacheLinePad
	sent     atomic.Uint64
	_        cpu.CacheLinePad
}

// counts returns those of a protocol.
func (f *fastIP) counts(net tcpip.NetworkProtocolNumber) *ipCounts {
	if net == ipv4.ProtocolNumber {
		return &f.v4
	}
	return &f.v6
}

// ownAddresses are the addresses of the stack. A stack has a handful of them, so
// they are searched in order.
type ownAddresses struct {
	v4        []uint32
	broadcast []uint32 // of the networks of v4
	v6        [][16]byte
}

// queuer is TCP as netstack's demultiplexer calls it.
type queuer interface {
	QueuePacket(ep gstack.TransportEndpoint, id gstack.TransportEndpointID, pkt *gstack.PacketBuffer)
}

// attach is called before the first packet. A TCP of another shape than the one
// known here ends the short way.
func (f *fastIP) attach(ns *gstack.Stack) {
	f.ns, f.guard.ns = ns, ns
	f.inline.counts = ns.Stats().TCP
	var ok bool
	if f.tcp, ok = ns.TransportProtocolInstance(tcp.ProtocolNumber).(queuer); !ok {
		f.off.Store(true)
	}
}

// add makes an address known. Calls do not overlap.
func (f *fastIP) add(p netip.Prefix) {
	var o ownAddresses
	if old := f.own.Load(); old != nil {
		o = ownAddresses{slices.Clone(old.v4), slices.Clone(old.broadcast), slices.Clone(old.v6)}
	}
	a := p.Addr()
	if !a.Is4() {
		o.v6 = append(o.v6, a.As16())
		f.own.Store(&o)
		return
	}
	b := a.As4()
	v := binary.BigEndian.Uint32(b[:])
	o.v4 = append(o.v4, v)
	if p.Bits() < 31 { // RFC 3021: longer ones have no broadcast address
		o.broadcast = append(o.broadcast, v|math.MaxUint32>>p.Bits())
	}
	f.own.Store(&o)
}

// retire ends the short way and adds what it has counted to netstack's
// counters: those of the stack and those of the interface.
func (f *fastIP) retire() {
	f.off.Store(true)
	if f.retired.Swap(true) {
		return
	}
	f.inline.stop()
	for _, net := range []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
		c := f.counts(net)
		in, out := c.received.Load(), c.sent.Load()
		for _, ip := range f.netstackCounts(net) {
			ip.PacketsReceived.IncrementBy(in)
			ip.ValidPacketsReceived.IncrementBy(in)
			ip.PacketsDelivered.IncrementBy(in)
			ip.PacketsSent.IncrementBy(out)
		}
	}
}

// netstackCounts returns netstack's own counters of an IP protocol: those of the stack
// and those of the interface.
func (f *fastIP) netstackCounts(net tcpip.NetworkProtocolNumber) []tcpip.IPStats {
	all := []tcpip.IPStats{f.ns.Stats().IP}
	if ip := f.interfaceStats(net); ip != nil {
		all = append(all, *ip)
	}
	return all
}

// interfaceStats returns the counters of an IP protocol on the interface, or nil.
func (f *fastIP) interfaceStats(net tcpip.NetworkProtocolNumber) *tcpip.IPStats {
	ep, err := f.ns.GetNetworkEndpoint(nicID, net)
	if err != nil {
		return nil
	}
	if st, ok := ep.Stats().(gstack.IPNetworkEndpointStats); ok {
		return st.IPStats()
	}
	return nil
}

// plainSource4 tells whether a packet may come from a plain IPv4 host.
func (o *ownAddresses) plainSource4(a uint32) bool {
	switch net := a >> 24; {
	case net == 0, net == 127, net >= 224: // this host, loopback; multicast, reserved, broadcast
		return false
	}
	return !slices.Contains(o.v4, a) && !slices.Contains(o.broadcast, a)
}

// plainSource6 tells whether a packet may come from a plain IPv6 host.
func (o *ownAddresses) plainSource6(a [16]byte) bool {
	if a[0] == 0xff { // multicast
		return false
	}
	if binary.BigEndian.Uint64(a[:]) == 0 { // unspecified, loopback, IPv4-mapped
		return false
	}
	return !slices.Contains(o.v6, a)
}

// foreign4 tells whether an IPv4 address is for sure none of the stack's, nor one
// that it receives packets of.
func (f *fastIP) foreign4(a tcpip.Address) bool {
	own := f.own.Load()
	if own == nil || f.off.Load() || a.Len() != header.IPv4AddressSize {
		return false
	}
	b := a.As4()
	return own.plainSource4(binary.BigEndian.Uint32(b[:]))
}

// receive4 delivers an IPv4 packet whose checksums the device has verified, or
// returns false and leaves it as it was.
func (f *fastIP) receive4(pkt *gstack.PacketBuffer) bool {
	own := f.own.Load()
	if own == nil || f.off.Load() {
		return false
	}
	h, ok := pkt.Data().PullUp(header.IPv4MinimumSize + header.UDPMinimumSize)
	if !ok || h[0] != 0x45 || int(binary.BigEndian.Uint16(h[2:])) != pkt.Data().Size() {
		return false
	}
	if binary.BigEndian.Uint16(h[6:])&0x3fff != 0 { // a fragment
		return false
	}
	if !own.plainSource4(binary.BigEndian.Uint32(h[12:])) || !slices.Contains(own.v4, binary.BigEndian.Uint32(h[16:])) {
		return false
	}
	id := gstack.TransportEndpointID{
		LocalAddress:  tcpip.AddrFrom4([4]byte(h[16:])),
		RemoteAddress: tcpip.AddrFrom4([4]byte(h[12:])),
	}
	return f.deliver(ipv4.ProtocolNumber, tcpip.TransportProtocolNumber(h[9]), header.IPv4MinimumSize, id, pkt)
}

// receive6 does for IPv6 what receive4 does for IPv4.
func (f *fastIP) receive6(pkt *gstack.PacketBuffer) bool {
	own := f.own.Load()
	if own == nil || f.off.Load() {
		return false
	}
	h, ok := pkt.Data().PullUp(header.IPv6MinimumSize + header.UDPMinimumSize)
	if !ok || h[0]>>4 != 6 || header.IPv6MinimumSize+int(binary.BigEndian.Uint16(h[4:])) != pkt.Data().Size() {
		return false
	}
	src, dst := [16]byte(h[8:]), [16]byte(h[24:])
	if !own.plainSource6(src) || !slices.Contains(own.v6, dst) {
		return false
	}
	id := gstack.TransportEndpointID{LocalAddress: tcpip.AddrFrom16(dst), RemoteAddress: tcpip.AddrFrom16(src)}
	return f.deliver(ipv6.ProtocolNumber, tcpip.TransportProtocolNumber(h[6]), header.IPv6MinimumSize, id, pkt)
}

// deliver hands a packet to its endpoint. ipLen is the length of the IP header.
func (f *fastIP) deliver(net tcpip.NetworkProtocolNumber, proto tcpip.TransportProtocolNumber, ipLen int, id gstack.TransportEndpointID, pkt *gstack.PacketBuffer) bool {
	need := ipLen + header.UDPMinimumSize
	if proto == header.TCPProtocolNumber {
		need = ipLen + header.TCPMinimumSize
	} else if proto != header.UDPProtocolNumber {
		return false
	}
	h, ok := pkt.Data().PullUp(need)
	if !ok {
		return false
	}
	h = h[ipLen:]
	id.RemotePort, id.LocalPort = binary.BigEndian.Uint16(h), binary.BigEndian.Uint16(h[2:])
	headerLen, room := header.UDPMinimumSize, pkt.Data().Size()-ipLen
	if proto == header.TCPProtocolNumber {
		if headerLen = int(h[12]>>4) * 4; headerLen < header.TCPMinimumSize || headerLen > room {
			return false
		}
	} else if int(binary.BigEndian.Uint16(h[4:])) != room {
		return false // what is behind the datagram has to be cut off
	}
	ep := f.ns.FindTransportEndpoint(net, proto, id, nicID)
	if proto == header.TCPProtocolNumber && opens(header.TCP(h)) {
		if whole, ok := pkt.Data().PullUp(ipLen + headerLen); ok && f.guard.makeWay(net, id, ep, header.TCP(whole[ipLen:])) {
			ep = f.ns.FindTransportEndpoint(net, proto, id, nicID)
		}
	}
	if ep == nil {
		return false
	}
	// From here on the packet is ours.
	pkt.NetworkHeader().Consume(ipLen)
	transport, _ := pkt.TransportHeader().Consume(headerLen)
	pkt.NetworkProtocolNumber, pkt.TransportProtocolNumber = net, proto
	pkt.NICID, pkt.InputNICID = nicID, nicID
	f.counts(net).received.Add(1)
	if proto != header.TCPProtocolNumber {
		ep.HandlePacket(id, pkt)
		return true
	}
	f.guard.screen(pkt, transport, ep)
	if !f.inline.queue(ep, id, pkt, transport) {
		f.tcp.QueuePacket(ep, id, pkt)
	}
	return true
}
