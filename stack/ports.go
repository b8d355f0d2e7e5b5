package stack

import (
	"net/netip"
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A portTable knows which listeners have which port. Listeners must allow the
// reuse of their addresses, so that a service can start while connections of
// its last run are alive; netstack then lets a wildcard and an address of it
// listen on one port, which Linux does not, and which hides that a service is
// started twice.
type portTable struct {
	mu     sync.Mutex
	byPort map[uint16][]*claim
}

// A claim is what a listener listens on.
type claim struct {
	addr   netip.Addr // invalid for the wildcard
	port   uint16
	v4, v6 bool
}

func newClaim(at netip.AddrPort, proto tcpip.NetworkProtocolNumber, v6only bool) *claim {
	c := &claim{addr: at.Addr(), port: at.Port(), v4: proto == ipv4.ProtocolNumber || !v6only, v6: proto == ipv6.ProtocolNumber}
	if c.addr.IsUnspecified() {
		c.addr = netip.Addr{}
	}
	return c
}

func (c *claim) overlaps(d *claim) bool {
	return (c.v4 && d.v4 || c.v6 && d.v6) &&
		(!c.addr.IsValid() || !d.addr.IsValid() || c.addr == d.addr)
}

// take enters c, unless another claim is in the way.
func (t *portTable) take(c *claim) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.ContainsFunc(t.byPort[c.port], c.overlaps) {
		return false
	}
	if t.byPort == nil {
		t.byPort = make(map[uint16][]*claim)
	}
	t.byPort[c.port] = append(t.byPort[c.port], c)
	return true
}

// free takes c out again.
func (t *portTable) free(c *claim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := slices.DeleteFunc(t.byPort[c.port], func(d *claim) bool { return c == d })
	if len(rest) == 0 {
		delete(t.byPort, c.port)
	} else {
		t.byPort[c.port] = rest
	}
}

// dialSource returns what to bind to before a connection is made from one address to
// another. What is not valid, or 0, netstack chooses when it connects.
//
// It is never the wildcard, if there is a route: netstack gives the port of a
// connection back for the address that it is from. For the wildcard it would stay
// taken, for good (cleanupLocked in pkg/tcpip/transport/tcp/endpoint.go).
//
// Nor is it the address that is dialed, if the port may be any: netstack would choose
// the dialed one, too, and if nobody listens there the connection would be with itself,
// which package net does not have either. When it connects it leaves that one out.
func (s *Stack) dialSource(from, to netip.AddrPort) (netip.AddrPort, error) {
	a := from.Addr().Unmap()
	anyAddr := wildcard(a)
	if anyAddr {
		a = sourceTo(to.Addr())
	}
	if from.Port() == 0 {
		if a.WithZone("") == to.Addr().WithZone("") && s.interfaceOf(familyOf(a), tcpipAddr(a)) != 0 {
			a = netip.Addr{}
		}
		return netip.AddrPortFrom(a, 0), nil
	}
	if anyAddr {
		// As with Linux, nobody may have the port at another address either.
		all := ports.Reservation{
			Networks:  []tcpip.NetworkProtocolNumber{familyOf(to.Addr())},
			Transport: tcp.ProtocolNumber,
			Port:      from.Port(),
		}
		if _, terr := s.ns.ReservePort(s.ns.SecureRNG(), all, nil); terr != nil {
			return from, sysError("bind", terr)
		}
		s.ns.ReleasePort(all)
		if !a.IsValid() {
			a = s.sourceOf(to.Addr())
		}
	}
	return netip.AddrPortFrom(a, from.Port()), nil
}
