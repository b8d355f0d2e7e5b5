package stack

import (
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A pathMTUs remembers by which destinations ICMP has said that a datagram was too
// long for the path. As with Linux, longer ones go there in fragments from then on:
// without, each of them would be lost like the first, since they forbid fragmenting, or
// since nobody but the sender does it, as with IPv6. TCP has its own.
//
// A destination has one place in it, and goes when another wants it: whoever can
// guess a socket's ports can forge such messages. Any goroutine may call its methods.
type pathMTUs struct {
	table atomic.Pointer[pathTable] // nil before the first message
}

type pathTable struct {
	seed  maphash.Seed
	slots [256]atomic.Pointer[pathMTU]
}

// A pathMTU is replaced, never changed.
type pathMTU struct {
	to    tcpip.Address
	bytes int // of IP payload
	until time.Time
}

// pathMTULife is how long it is believed: net.ipv4.route.mtu_expires of Linux.
const pathMTULife = 10 * time.Minute

func (t *pathTable) slot(to tcpip.Address) *atomic.Pointer[pathMTU] {
	return &t.slots[maphash.Comparable(t.seed, to)%uint64(len(t.slots))]
}

// get returns what is known about a destination, or nil.
func (m *pathMTUs) get(to tcpip.Address) *pathMTU {
	t := m.table.Load()
	if t == nil {
		return nil
	}
	p := t.slot(to).Load()
	if p == nil || p.to != to || !time.Now().Before(p.until) {
		return nil
	}
	return p
}

// most returns how many bytes of IP payload go to a destination in one piece, of which
// the link takes so many.
func (m *pathMTUs) most(to tcpip.Address, link uint32) int {
	if p := m.get(to); p != nil {
		return min(p.bytes, int(link))
	}
	return int(link)
}

// learn notes that the path to a destination takes so many bytes of IP payload. It
// does not grow.
func (m *pathMTUs) learn(to tcpip.Address, bytes int) {
	if m.table.Load() == nil {
		m.table.CompareAndSwap(nil, &pathTable{seed: maphash.MakeSeed()})
	}
	if p := m.get(to); p != nil {
		bytes = min(bytes, p.bytes)
	}
	m.table.Load().slot(to).Store(&pathMTU{to, bytes, time.Now().Add(pathMTULife)})
}

// tooLong is told of a message about a datagram, of which pkt's data begins with the
// header. It is believed if a socket can have sent that.
func (g *guard) tooLong(local, remote tcpip.Address, net tcpip.NetworkProtocolNumber, e *icmpError, pkt *gstack.PacketBuffer) {
	h, ok := pkt.Data().PullUp(header.UDPMinimumSize)
	if !ok {
		return
	}
	id := gstack.TransportEndpointID{
		LocalAddress: local, LocalPort: binary.BigEndian.Uint16(h),
		RemoteAddress: remote, RemotePort: binary.BigEndian.Uint16(h[2:]),
	}
	if g.ns.FindTransportEndpoint(net, header.UDPProtocolNumber, id, pkt.NICID) != nil {
		g.paths.learn(remote, int(e.info))
	}
}
