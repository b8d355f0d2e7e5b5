package stack

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// order sorts the addresses of a host by RFC 6724, section 6, the best to dial
// first. Go's resolver has done it before, with the kernel's routes and addresses,
// which are not the stack's; and where the kernel has none, in the order in which
// the answers came.
//
// The rules are those of package net: rules 3, 4 and 7 ask for what a Stack has
// not, and rule 9 is for IPv6 only, since with IPv4 it says nothing.
func (s *Stack) order(addrs []netip.Addr) {
	if len(addrs) < 2 {
		return
	}
	all := make([]candidate, len(addrs))
	for i, a := range addrs {
		all[i] = newCandidate(a, s.sourceOf(a))
	}
	slices.SortStableFunc(all, candidate.compare)
	for i, c := range all {
		addrs[i] = c.to
	}
}

// sourceOf returns the address that the stack would send from, or an invalid one
// if there is no route.
func (s *Stack) sourceOf(to netip.Addr) netip.Addr {
	full := fullAddress(netip.AddrPortFrom(to, 0))
	r, terr := s.ns.FindRoute(full.NIC, tcpip.Address{}, full.Addr, familyOf(to), false)
	if terr != nil {
		return netip.Addr{}
	}
	defer r.Release()
	return addrOf(r.LocalAddress())
}

// A candidate is an address to dial, and the one that it would be dialed from.
type candidate struct {
	to, from         netip.Addr
	toAttr, fromAttr attributes
}

func newCandidate(to, from netip.Addr) candidate {
	return candidate{to, from, attributesOf(to), attributesOf(from)}
}

// compare returns a negative number if c is better than d, by RFC 6724.
func (c candidate) compare(d candidate) int {
	better := func(c, d bool) int {
		switch {
		case c && !d:
			return -1
		case d && !c:
			return 1
		}
		return 0
	}
	prefix := 0
	if c.to.Is6() && d.to.Is6() {
		prefix = cmp.Compare(commonPrefix(d.from, d.to), commonPrefix(c.from, c.to))
	}
	if !c.from.IsValid() && !d.from.IsValid() {
		return 0
	}
	return cmp.Or(
		better(c.from.IsValid(), d.from.IsValid()),                                     // rule 1: usable
		better(c.toAttr.scope == c.fromAttr.scope, d.toAttr.scope == d.fromAttr.scope), // rule 2
		better(c.toAttr.label == c.fromAttr.label, d.toAttr.label == d.fromAttr.label), // rule 5
		cmp.Compare(d.toAttr.precedence, c.toAttr.precedence),                          // rule 6
		cmp.Compare(c.toAttr.scope, d.toAttr.scope),                                    // rule 8
		prefix, // rule 9
	)
}

// attributes are what RFC 6724 knows of an address: its scope (section 3.1), and
// its row in the policy table.
type attributes struct{ scope, precedence, label uint8 }

func attributesOf(a netip.Addr) attributes {
	if !a.IsValid() {
		return attributes{}
	}
	p := policyOf(a)
	return attributes{scopeOf(a), p.precedence, p.label}
}

// Scopes, with the numbers that IPv6 multicast addresses have for them.
const (
	scopeLink   = 0x2
	scopeSite   = 0x5
	scopeGlobal = 0xe
)

func scopeOf(a netip.Addr) uint8 {
	switch b := a.As16(); {
	case a.IsLoopback() || a.IsLinkLocalUnicast():
		return scopeLink
	case a.Is4():
		return scopeGlobal
	case a.IsMulticast():
		return b[1] & 0xf
	case b[0] == 0xfe && b[1]&0xc0 == 0xc0: // fec0::/10, of RFC 3879's past
		return scopeSite
	}
	return scopeGlobal
}

// A policy is a row of the table of RFC 6724, section 2.1.
type policy struct {
	prefix            netip.Prefix
	precedence, label uint8
}

// policies has the longest prefixes first.
var policies = []policy{
	{netip.MustParsePrefix("::1/128"), 50, 0},
	{netip.MustParsePrefix("::ffff:0:0/96"), 35, 4},
	{netip.MustParsePrefix("::/96"), 1, 3},
	{netip.MustParsePrefix("2001::/32"), 5, 5},
	{netip.MustParsePrefix("2002::/16"), 30, 2},
	{netip.MustParsePrefix("3ffe::/16"), 1, 12},
	{netip.MustParsePrefix("fec0::/10"), 1, 11},
	{netip.MustParsePrefix("fc00::/7"), 3, 13},
	{netip.MustParsePrefix("::/0"), 40, 1},
}

func policyOf(a netip.Addr) policy {
	a = netip.AddrFrom16(a.As16()) // IPv4 is mapped, and the zone gone
	for _, p := range policies {
		if p.prefix.Contains(a) {
			return p
		}
	}
	return policy{} // not reached: the last row holds everything
}

// commonPrefix returns how many bits two IPv6 addresses have in common, of the 64
// that are not the interface's.
func commonPrefix(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	n := 0
	for i := range 8 {
		same := bits.LeadingZeros8(x[i] ^ y[i])
		n += same
		if same < 8 {
			break
		}
	}
	return n
}
