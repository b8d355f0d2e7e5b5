package stack

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// maxWaiting is how many packets wait for the link address of one neighbour: as many
// as netstack sends when it has it.
const maxWaiting = 256

// An unresolved knows for which neighbours packets wait. Netstack keeps the newest 256
// of each, but of every packet that has come to wait, also of those that it has dropped
// since, two callbacks (pkg/tcpip/stack/neighbor_cache.go, entry) until the neighbour
// answers or three questions were in vain: some 300 bytes for three seconds. Nobody
// holds up who sends, since what waits is a copy, and whoever has the stack answer an
// address that no host has lets it send as fast as he likes. So what comes after the
// first 256 is dropped before netstack sees it.
//
// Any goroutine may call its methods.
type unresolved struct {
	full atomic.Int32 // neighbours for which maxWaiting packets wait

	mu   sync.Mutex             // a leaf: netstack calls known with its locks held
	hops map[tcpip.Address]int  // packets that wait, or more
	gone map[tcpip.Address]bool // neighbours that have not answered when they were asked last
}

// maxGone is how many neighbours gone has room for: more than netstack asks for in the
// moment between giving one up and saying so.
const maxGone = 1024

// admits tells whether a packet may wait for a neighbour.
func (u *unresolved) admits(hop tcpip.Address) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.hops[hop] < maxWaiting
}

// waits notes that a packet does, and tells whether it is the first.
func (u *unresolved) waits(hop tcpip.Address) (first bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.hops == nil {
		u.hops = make(map[tcpip.Address]int)
	}
	u.hops[hop]++
	if u.hops[hop] == maxWaiting {
		u.full.Add(1)
	}
	return u.hops[hop] == 1
}

// known ends the wait for a neighbour: it has answered, is given up for now, or had to
// make room for others.
func (u *unresolved) known(hop tcpip.Address, err tcpip.Error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.hops[hop] >= maxWaiting {
		u.full.Add(-1)
	}
	delete(u.hops, hop)
	if _, aborted := err.(*tcpip.ErrAborted); err == nil {
		delete(u.gone, hop)
	} else if !aborted {
		if u.gone == nil {
			u.gone = make(map[tcpip.Address]bool)
		} else if len(u.gone) >= maxGone {
			clear(u.gone)
		}
		u.gone[hop] = true
	}
}

// isGone tells whether a neighbour has been given up, and not answered since.
func (u *unresolved) isGone(hop tcpip.Address) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.gone[hop]
}

// A linkInterface is the link's interface as an IP endpoint sees it: less waits for
// link addresses.
type linkInterface struct {
	gstack.NetworkInterface
	fast *fastIP
	unresolved
}

// bound returns an interface that bounds what waits, unless nothing does.
func (f *fastIP) bound(nic gstack.NetworkInterface) gstack.NetworkInterface {
	if nic.IsLoopback() {
		return nic
	}
	return &linkInterface{NetworkInterface: nic, fast: f}
}

// WritePacket implements gstack.NetworkInterface.
func (l *linkInterface) WritePacket(r *gstack.Route, pkt *gstack.PacketBuffer) tcpip.Error {
	if l.full.Load() != 0 && len(r.RemoteLinkAddress()) == 0 && !l.admits(hopOf(r)) {
		for _, ip := range l.fast.netstackCounts(r.NetProto()) {
			ip.OutgoingPacketErrors.Increment()
		}
		return nil // as netstack does where it drops one that waits
	}
	err := l.NetworkInterface.WritePacket(r, pkt)
	// A packet that is sent is told its link address, one that waits is copied.
	if err == nil && len(pkt.EgressRoute.RemoteLinkAddress) == 0 && r.IsResolutionRequired() {
		if hop := hopOf(r); l.waits(hop) {
			_ = r.ResolvedFields(func(res gstack.ResolvedFieldsResult) { l.known(hop, res.Err) }) // at once or later
		}
	}
	return err
}

// unreachable tells whether a packet that has waited in vain did so because the
// neighbour does not answer. Netstack asks for 64 neighbours at a time, and gives the
// packets of the oldest up for those of one more, as if they could not be sent: a dial
// would end, of many at once, though the answer is under way. Without their error they
// are as if lost.
func (l *linkInterface) unreachable(pkt *gstack.PacketBuffer) bool {
	ip := pkt.Network()
	r, terr := l.fast.ns.FindRoute(l.ID(), ip.SourceAddress(), ip.DestinationAddress(), pkt.NetworkProtocolNumber, false)
	if terr != nil {
		return true
	}
	defer r.Release()
	return l.isGone(hopOf(r))
}

// HandleLinkResolutionFailure implements gstack.LinkResolvableNetworkEndpoint.
func (e *ipv4Endpoint) HandleLinkResolutionFailure(pkt *gstack.PacketBuffer) {
	if l, ok := e.nic.(*linkInterface); !ok || l.unreachable(pkt) {
		e.ipv4Inner.HandleLinkResolutionFailure(pkt)
	}
}

// HandleLinkResolutionFailure implements gstack.LinkResolvableNetworkEndpoint.
func (e *ipv6Endpoint) HandleLinkResolutionFailure(pkt *gstack.PacketBuffer) {
	if l, ok := e.nic.(*linkInterface); !ok || l.unreachable(pkt) {
		e.ipv6Inner.HandleLinkResolutionFailure(pkt)
	}
}

// hopOf returns the neighbour that a route leads to first.
func hopOf(r *gstack.Route) tcpip.Address {
	if hop := r.NextHop(); hop.BitLen() != 0 {
		return hop
	}
	return r.RemoteAddress()
}
