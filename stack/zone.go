package stack

import (
	"net/netip"
	"strconv"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// scoped reports whether an address means something together with an interface
// only: its zone.
func scoped(a netip.Addr) bool {
	return a.Is6() && (a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast())
}

// zoned returns an address, not one of IPv4 mapped to IPv6, with the zone that it
// has in the stack: a scoped one the stack's interface, any other one none,
// whatever it came with. The errors are those of Linux for the system call: "bind",
// "connect", or one that sends.
//
// Linux asks for a zone, but not of who sends. A stack whose interface has no name
// does not ask, since nobody could answer.
func (s *Stack) zoned(call string, a netip.Addr) (netip.Addr, tcpip.Error) {
	zone := a.Zone()
	if !scoped(a) {
		return a.WithZone(""), nil
	}
	if zone == s.cfg.Interface {
		return a, nil
	}
	switch i := s.zoneIndex(zone); {
	case i == s.index, i == 0 && call != "bind" && call != "connect":
		return a.WithZone(s.cfg.Interface), nil
	case i == 0:
		return a, &tcpip.ErrInvalidOptionValue{}
	case call != "bind":
		return a, &tcpip.ErrNetworkUnreachable{}
	case i == loopbackIndex:
		return a, &tcpip.ErrBadLocalAddress{}
	}
	return a, &tcpip.ErrUnknownDevice{}
}

// zoneIndex returns the index of the interface that a zone names. A zone may be an
// index itself. What is no interface's name is 0 then, as with package net: no zone.
func (s *Stack) zoneIndex(zone string) int {
	switch zone {
	case s.cfg.Interface:
		return s.index
	case "lo":
		return loopbackIndex
	}
	i, _ := strconv.ParseUint(zone, 10, 31)
	return int(i)
}
