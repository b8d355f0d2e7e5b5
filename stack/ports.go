package stack

import (
	"net/netip"
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
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
