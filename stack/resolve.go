package stack

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// ResolveTCPAddr returns the address that a string means, as net.ResolveTCPAddr
// does, but with the stack's resolver. The network is "tcp", "tcp4" or "tcp6". Of
// several addresses it is the first IPv4 one, unless the host is in brackets.
func (s *Stack) ResolveTCPAddr(network, address string) (*net.TCPAddr, error) {
	ap, err := s.resolveOne("tcp", network, address)
	if err != nil {
		return nil, err
	}
	return tcpAddr(ap), nil
}

// ResolveUDPAddr does for UDP networks what ResolveTCPAddr does for TCP ones.
func (s *Stack) ResolveUDPAddr(network, address string) (*net.UDPAddr, error) {
	ap, err := s.resolveOne("udp", network, address)
	if err != nil {
		return nil, err
	}
	return udpAddr(ap), nil
}

func (s *Stack) resolveOne(proto, name, address string) (netip.AddrPort, error) {
	if name == "" { // as package net, for Go 1.0
		name = proto
	}
	n, err := parseNetwork(name)
	if err == nil && n.proto != proto {
		err = net.UnknownNetworkError(name)
	}
	if err != nil {
		return netip.AddrPort{}, err
	}
	all, err := s.resolve(context.Background(), nil, n, address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if n.family == 0 && strings.Contains(address, "[") {
		return first(all, not4), nil
	}
	return first(all, is4), nil
}

// resolve returns the addresses that a string means, at least one, in the order
// in which they are to be tried. No host is an address that is not valid. The
// errors are those of package net. A nil resolver is the stack's.
func (s *Stack) resolve(ctx context.Context, r *net.Resolver, n network, address string) ([]netip.AddrPort, error) {
	if address == "" {
		return []netip.AddrPort{{}}, nil
	}
	ports := r
	if r == nil {
		// Names of services are the host's, no look-up over the network.
		r, ports = s.Resolver(), net.DefaultResolver
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := ports.LookupPort(ctx, n.name, service)
	if err != nil {
		return nil, err
	}
	if host == "" {
		return []netip.AddrPort{netip.AddrPortFrom(netip.Addr{}, uint16(port))}, nil
	}
	addrs, err := s.hostAddrs(ctx, r, n, host)
	if err != nil {
		return nil, err
	}
	var all []netip.AddrPort
	for _, a := range addrs {
		if n.admits(a) {
			all = append(all, netip.AddrPortFrom(a, uint16(port)))
		}
	}
	if len(all) == 0 {
		return nil, &net.AddrError{Err: errNoSuitable, Addr: host}
	}
	return all, nil
}

// hostAddrs returns the addresses of a host. Among them may be some that the
// network does not admit.
func (s *Stack) hostAddrs(ctx context.Context, r *net.Resolver, n network, host string) ([]netip.Addr, error) {
	if strings.EqualFold(host, "localhost") {
		// IPv4 first, which is what is listened on: a datagram has no second try.
		var own []netip.Addr
		for _, family := range []byte{'4', '6'} {
			if a := s.loopbackOf(family, family); a.IsValid() {
				own = append(own, a)
			}
		}
		return own, nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a == netip.IPv6Unspecified() {
			// The stack itself, which may have no IPv6.
			return []netip.Addr{a, netip.IPv4Unspecified()}, nil
		}
		return []netip.Addr{a.Unmap()}, nil
	}
	addrs, err := s.lookup(ctx, r, n.family, host)
	if err != nil {
		return nil, err
	}
	s.order(addrs)
	return addrs, nil
}

func is4(a netip.AddrPort) bool  { return a.Addr().Is4() }
func not4(a netip.AddrPort) bool { return !is4(a) }

// first returns the first address that is wanted, or else the first.
func first(all []netip.AddrPort, wanted func(netip.AddrPort) bool) netip.AddrPort {
	return all[max(0, slices.IndexFunc(all, wanted))]
}

// partition splits addresses by family. The first one's comes first.
func partition(all []netip.AddrPort) (first, second []netip.AddrPort) {
	for _, a := range all {
		if is4(a) == is4(all[0]) {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	return first, second
}

// suitable returns those addresses that can be dialed from a local address, which
// may be nil.
func suitable(all []netip.AddrPort, proto string, local net.Addr) ([]netip.AddrPort, error) {
	if local == nil {
		return all, nil
	}
	from, ok := addrPortOf(proto, local)
	if !ok {
		return nil, &net.AddrError{Err: "mismatched local address type", Addr: local.String()}
	}
	var fit []netip.AddrPort
	for _, to := range all {
		if wildcard(from.Addr()) || wildcard(to.Addr()) || is4(from) == is4(to) {
			fit = append(fit, to)
		}
	}
	if len(fit) == 0 {
		return nil, &net.AddrError{Err: errNoSuitable, Addr: local.String()}
	}
	return fit, nil
}

// addrPortOf returns an address of a protocol in our form, and false if it is not
// of the protocol. Nil, and a nil pointer, are an address that is not valid.
func addrPortOf(proto string, a net.Addr) (ap netip.AddrPort, ok bool) {
	switch a := a.(type) {
	case nil:
		return ap, true
	case *net.TCPAddr:
		ap, ok = a.AddrPort(), proto == "tcp"
	case *net.UDPAddr:
		ap, ok = a.AddrPort(), proto == "udp"
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), ok
}

// wildcard reports whether a means no address in particular.
func wildcard(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }
