package stack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// loopbackID is the interface that leads back to the stack itself. What is sent
// to loopback addresses takes it, and so does what the stack sends to its own
// others; none of it reaches the link. Netstack delivers at once, on the
// goroutine that sends, and neither sums nor checks. A packet of the link that
// claims to be from or to a loopback address is dropped there.
const loopbackID tcpip.NICID = 2

// The stack's loopback addresses, for the families that it has addresses of. As
// with Linux all of 127.0.0.0/8 is its own.
var (
	loopback4 = netip.MustParsePrefix("127.0.0.1/8")
	loopback6 = netip.MustParsePrefix("::1/128")
)

// loopbacks returns the loopback addresses that the stack has.
func (s *Stack) loopbacks() (all []netip.Prefix) {
	if s.own4.IsValid() {
		all = append(all, loopback4)
	}
	if s.own6.IsValid() {
		all = append(all, loopback6)
	}
	return all
}

// addLoopback makes the interface, and returns its routes.
func (s *Stack) addLoopback() (routes []tcpip.Route, err error) {
	if terr := s.ns.CreateNICWithOptions(loopbackID, loopback.New(), gstack.NICOptions{Name: "lo"}); terr != nil {
		return nil, stackError("create loopback interface", terr)
	}
	// The stack's other addresses are the interface's as well: netstack does not
	// answer an echo request to one that it has only lent.
	for _, p := range s.cfg.Addresses {
		if a := p.Addr(); a.Zone() == "" && !a.IsLinkLocalUnicast() {
			terr := s.ns.AddProtocolAddress(loopbackID, tcpip.ProtocolAddress{
				Protocol: familyOf(a), AddressWithPrefix: tcpipAddr(a).WithPrefix(),
			}, gstack.AddressProperties{PEB: gstack.NeverPrimaryEndpoint})
			if terr != nil {
				return nil, stackError("add address "+a.String()+" to the loopback interface", terr)
			}
		}
	}
	for _, p := range s.loopbacks() {
		at := tcpip.AddressWithPrefix{Address: tcpipAddr(p.Addr()), PrefixLen: p.Bits()}
		terr := s.ns.AddProtocolAddress(loopbackID, tcpip.ProtocolAddress{Protocol: familyOf(p.Addr()), AddressWithPrefix: at},
			gstack.AddressProperties{})
		if terr != nil {
			return nil, stackError("add address "+p.String(), terr)
		}
		routes = append(routes, tcpip.Route{Destination: at.Subnet(), NIC: loopbackID})
	}
	return routes, nil
}

// loopbackOf returns the loopback address that stands for the stack itself: that
// of a family, or if family is 0 the preferred one, or failing that the other. It
// is invalid if the stack has no address of that family.
func (s *Stack) loopbackOf(family, prefer byte) netip.Addr {
	own := s.own(family, prefer)
	switch {
	case !own.IsValid():
		return own
	case own.Is4():
		return loopback4.Addr()
	}
	return loopback6.Addr()
}

// The endpoints of the loopback interface. No link has looked at their packets,
// and nobody has to: netstack's own mark says so.
type (
	ipv4Loopback struct{ *ipv4Endpoint }
	ipv6Loopback struct{ *ipv6Endpoint }
)

// HandlePacket implements gstack.NetworkEndpoint.
func (e ipv4Loopback) HandlePacket(pkt *gstack.PacketBuffer) { e.ipv4Inner.HandlePacket(pkt) }

// HandlePacket implements gstack.NetworkEndpoint.
func (e ipv6Loopback) HandlePacket(pkt *gstack.PacketBuffer) { e.ipv6Inner.HandlePacket(pkt) }

// dropMartian drops an IPv4 packet of the link that claims to be from or to a
// loopback address, and counts it as netstack does. Netstack would write a line to
// the standard error for it, and anybody on the link can send one. As with Linux it
// drops one from 0.0.0.0/8 too, unless it is for all hosts or a group of the link's own
// protocols: to answer 0.0.0.0 is to send to the stack itself (destination), so a server
// that answers everybody would talk to itself for ever.
func (e *ipv4Endpoint) dropMartian(pkt *gstack.PacketBuffer) bool {
	h, ok := pkt.Data().PullUp(header.IPv4MinimumSize)
	if !ok {
		return false
	}
	src, dst := header.IPv4(h).SourceAddress(), header.IPv4(h).DestinationAddress()
	from := header.IsV4LoopbackAddress(src) ||
		src.As4()[0] == 0 && dst != header.IPv4Broadcast && !header.IsV4LinkLocalMulticastAddress(dst)
	if !from && !header.IsV4LoopbackAddress(dst) {
		return false
	}
	for _, ip := range e.fast.netstackCounts(header.IPv4ProtocolNumber) {
		ip.PacketsReceived.Increment()
		if from {
			ip.InvalidSourceAddressesReceived.Increment()
		} else {
			ip.InvalidDestinationAddressesReceived.Increment()
		}
	}
	return true
}

// interfaceOf returns the interface that an address of the stack belongs to, or 0
// if it is none of the stack's.
func (s *Stack) interfaceOf(net tcpip.NetworkProtocolNumber, a tcpip.Address) tcpip.NICID {
	switch {
	case s.ns.CheckLocalAddress(0, net, a) == 0: // asked about an IPv4 interface, it does not look at the address
		return 0
	case addrOf(a).IsLoopback():
		return loopbackID
	}
	return nicID
}

// sourceTo returns the address that a socket without one sends from to another, if
// that is not for netstack's routes to say: all of 127.0.0.0/8 is sent to from
// 127.0.0.1, as with Linux. Netstack would send from the address itself.
func sourceTo(to netip.Addr) netip.Addr {
	if to.Is4() && to.IsLoopback() {
		return loopback4.Addr()
	}
	return netip.Addr{}
}

// findRoute returns the way to an address by an interface, or by any if nic is 0,
// from an address, or from any if source has no bytes. Loopback addresses are
// reached by their own interface, from any address. Datagrams to a group come back
// to the stack if loop is true. The caller releases the route.
func (s *Stack) findRoute(nic tcpip.NICID, source tcpip.Address, to netip.Addr, loop bool) (*gstack.Route, tcpip.Error) {
	full := fullAddress(netip.AddrPortFrom(to, 0))
	if full.NIC == 0 && !to.IsLoopback() {
		full.NIC = nic
	}
	if a := sourceTo(to); source.BitLen() == 0 && a.IsValid() {
		source = tcpipAddr(a)
	}
	if to.Is4() && source.BitLen() != 0 {
		// Netstack takes addresses of many for its own.
		switch {
		case source == header.IPv4Broadcast: // with the errors of Linux
			return nil, &tcpip.ErrInvalidOptionValue{}
		case s.ns.IsSubnetBroadcast(0, header.IPv4ProtocolNumber, source):
			return nil, &tcpip.ErrNetworkUnreachable{}
		}
	}
	r, terr := s.ns.FindRoute(full.NIC, source, full.Addr, familyOf(to), loop)
	return r, s.routeError(addrOf(source), to, terr)
}

// routeError returns what is wrong if netstack has found no way from an address to
// another. With Linux a packet that would leave from a loopback address is invalid.
func (s *Stack) routeError(source, to netip.Addr, terr tcpip.Error) tcpip.Error {
	switch terr.(type) {
	case *tcpip.ErrNetworkUnreachable, *tcpip.ErrHostUnreachable:
		if source.Is4() && source.IsLoopback() && s.sourceOf(to).IsValid() {
			return &tcpip.ErrInvalidOptionValue{}
		}
	}
	return terr
}

// reaches reports whether a loopback address is the stack's.
func (s *Stack) reaches(a netip.Addr) bool {
	return a.Is4() && s.own4.IsValid() || a == loopback6.Addr() && s.own6.IsValid()
}
