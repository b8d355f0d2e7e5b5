package stack

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestAddressOrder has the examples of RFC 6724, section 10.2: destinations, best
// first, each with the source that it would have.
func TestAddressOrder(t *testing.T) {
	for _, tc := range []struct{ name, order string }{
		{"prefer matching scope", "2001:db8:1::1<2001:db8:1::2 198.51.100.121<169.254.13.78"},
		{"prefer matching scope, IPv4", "198.51.100.121<198.51.100.117 2001:db8:1::1<fe80::1"},
		{"prefer higher precedence", "2001:db8:1::1<2001:db8:1::2 10.1.2.3<10.1.2.4"},
		{"prefer smaller scope", "fe80::1<fe80::2 2001:db8:1::1<2001:db8:1::2"},
		{"longest matching prefix", "2001:db8:1::1<2001:db8:1::2 2001:db8:3ffe::1<2001:db8:3f44::2"},
		{"prefer matching label, 6to4", "2002:c633:6401::1<2002:c633:6401::2 2001:db8:1::1<2002:c633:6401::2"},
		{"prefer higher precedence than 6to4", "2001:db8:1::1<2001:db8:1::2 2002:c633:6401::1<2002:c633:6401::2"},
		{"avoid what has no source", "10.1.2.3<10.1.2.4 2001:db8:1::1<"},
		{"even if the other's is a bad one", "2002:c633:6401::1<169.254.13.78 ::1<"},
		{"unique local is no match for global", "192.0.2.1<10.1.2.4 2001:db8:1::1<fd00::1"},
		{"IPv4 keeps its order", "10.2.0.1<10.1.2.4 10.1.2.3<10.1.2.4"},
	} {
		var want []candidate
		for pair := range strings.FieldsSeq(tc.order) {
			to, from, _ := strings.Cut(pair, "<")
			source, _ := netip.ParseAddr(from)
			want = append(want, newCandidate(netip.MustParseAddr(to), source))
		}
		got := slices.Clone(want)
		if !strings.HasPrefix(tc.name, "IPv4 keeps") {
			slices.Reverse(got)
		}
		slices.SortStableFunc(got, candidate.compare)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the order is %v before %v", tc.name, got[0].to, got[1].to)
		}
	}
}

// TestAddressOrderOfStack sorts by the routes of a stack.
func TestAddressOrderOfStack(t *testing.T) {
	gateways := func(c Config, all ...string) Config {
		for _, g := range all {
			c.Gateways = append(c.Gateways, netip.MustParseAddr(g))
		}
		return c
	}
	for _, tc := range []struct {
		name, want string
		cfg        Config
	}{
		{"IPv6 first", "2001:db8:9::1 192.0.2.1", gateways(testConfig(addrA, globalA6), addrB, globalB6)},
		{"no route by IPv6", "192.0.2.1 2001:db8:9::1", gateways(testConfig(addrA, globalA6), addrB)},
		{"no IPv6", "192.0.2.1 2001:db8:9::1", gateways(testConfig(addrA), addrB)},
		{"no IPv4", "2001:db8:9::1 192.0.2.1", gateways(testConfig(globalA6), globalB6)},
		{"IPv6 for the site only", "192.0.2.1 2001:db8:9::1", gateways(testConfig(addrA, addrA6), addrB, addrB6)},
		{"the site itself", "fd00::7 192.0.2.1", testConfig(addrA6)},
	} {
		s := newPairWith(t, pairOptions{a: tc.cfg, b: testConfig(addrB)}).a
		var want []netip.Addr
		for a := range strings.FieldsSeq(tc.want) {
			want = append(want, netip.MustParseAddr(a))
		}
		for _, reversed := range []bool{false, true} {
			got := slices.Clone(want)
			if reversed {
				slices.Reverse(got)
			}
			s.order(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", tc.name, got, want)
			}
		}
	}
}
