package stack

import (
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// nicID is the stack's interface to the link.
const nicID tcpip.NICID = 1

// A network is a parsed network name.
type network struct {
	name   string // as given
	proto  string // "tcp" or "udp"
	family byte   // '4', '6', or 0 for both
}

func parseNetwork(name string) (network, error) {
	switch name {
	case "tcp", "udp":
		return network{name: name, proto: name}, nil
	case "tcp4", "tcp6", "udp4", "udp6":
		return network{name: name, proto: name[:3], family: name[3]}, nil
	}
	return network{}, net.UnknownNetworkError(name)
}

// addr returns net's form of an address of the network's protocol.
func (n network) addr(ap netip.AddrPort) net.Addr {
	if n.proto == "tcp" {
		return tcpAddr(ap)
	}
	return udpAddr(ap)
}

// admits reports whether a may be used with the network.
func (n network) admits(a netip.Addr) bool {
	return n.family == 0 || (n.family == '4') == a.Is4()
}

// wrongIP says what is wrong with an IP address that a caller has given as a value:
// its family, in the words of package net, which opens a socket of the network's
// family and then, for IPv4 with tcp6 or udp6, has the system call fail.
func (n network) wrongIP(ip net.IP, call string, mapped tcpip.Error) error {
	switch {
	case len(ip) == 0 || ip.Equal(net.IPv4zero):
		return nil
	case n.family == '6' && ip.To4() != nil:
		return sysError(call, mapped)
	case n.family == '4' && ip.To4() == nil:
		return &net.AddrError{Err: "non-IPv4 address", Addr: ip.String()}
	}
	return nil
}

// own returns the stack's first address of a family: that one, or if family is
// 0 the preferred one, or failing that the other. It is invalid if there is
// none.
func (s *Stack) own(family, prefer byte) netip.Addr {
	switch {
	case family == '4' || family == 0 && prefer == '4' && s.own4.IsValid():
		return s.own4
	case family == '6' || s.own6.IsValid():
		return s.own6
	}
	return s.own4
}

// destination returns where to send, by a system call, for an address that a
// caller has given. No address and the wildcard mean the stack itself by its
// loopback address, as with package net.
func (s *Stack) destination(call string, n network, to netip.AddrPort) (netip.AddrPort, error) {
	addr := to.Addr().Unmap()
	switch {
	case !addr.IsValid():
		addr = s.loopbackOf(n.family, '4')
	case addr.IsUnspecified() && addr.Is6():
		addr = s.loopbackOf(n.family, '6')
	case addr.IsUnspecified():
		addr = s.loopbackOf(n.family, '4')
	}
	if !addr.IsValid() {
		return netip.AddrPort{}, &net.AddrError{Err: errNoSuitable, Addr: "localhost"}
	}
	if !n.admits(addr) {
		return netip.AddrPort{}, &net.AddrError{Err: errNoSuitable, Addr: addr.String()}
	}
	addr, terr := s.zoned(call, addr)
	if terr == nil && addr.IsLoopback() && !s.reaches(addr) {
		// Netstack would send it out by the default route.
		terr = &tcpip.ErrNetworkUnreachable{}
	}
	if terr != nil {
		return netip.AddrPort{}, sysError(call, terr)
	}
	return netip.AddrPortFrom(addr, to.Port()), nil
}

// listenable says what is wrong with an address to listen on. Whether it is
// the stack's own is netstack's to say.
func (s *Stack) listenable(n network, a netip.Addr) error {
	switch {
	case !a.IsValid():
		return nil
	case n.family == '4' && a.Is6():
		return &net.AddrError{Err: errNotIPv4, Addr: a.String()}
	case n.family == '6' && a.Is4() && !a.IsUnspecified():
		return sysError("bind", &tcpip.ErrInvalidOptionValue{})
	}
	if _, terr := s.zoned("bind", a); terr != nil {
		return sysError("bind", terr)
	}
	return nil
}

// listenFamily returns the netstack protocol to listen with on an address, and
// whether IPv4 is to be kept out of it. A wildcard takes both families if the
// stack has both and the network does not say otherwise.
func (s *Stack) listenFamily(n network, addr netip.Addr) (proto tcpip.NetworkProtocolNumber, v6only bool) {
	wildcard := !addr.IsValid() || addr.IsUnspecified()
	switch {
	case n.family == '4':
		return ipv4.ProtocolNumber, false
	case n.family == '6':
		return ipv6.ProtocolNumber, true
	case wildcard && s.own4.IsValid() && s.own6.IsValid():
		return ipv6.ProtocolNumber, false
	case wildcard && s.own6.IsValid():
		return ipv6.ProtocolNumber, true
	case wildcard:
		return ipv4.ProtocolNumber, false
	}
	return familyOf(addr), true
}

func familyOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// fullAddress returns ap for netstack. The wildcard has no address there, and
// the interface is named where a route cannot be found without it.
func fullAddress(ap netip.AddrPort) tcpip.FullAddress {
	a := ap.Addr()
	full := tcpip.FullAddress{Port: ap.Port()}
	if !a.IsValid() || a.IsUnspecified() {
		return full
	}
	full.Addr = tcpipAddr(a)
	if a.IsMulticast() || a.IsLinkLocalUnicast() && a.Is6() || a == broadcast4 {
		full.NIC = nicID
	}
	return full
}

// broadcast4 is every host on the link.
var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// isBroadcast reports whether an address means all hosts of a network of the stack's.
func (s *Stack) isBroadcast(a netip.Addr) bool {
	return a == broadcast4 || a.Is4() && s.ns.IsSubnetBroadcast(0, ipv4.ProtocolNumber, tcpipAddr(a))
}

func tcpipAddr(a netip.Addr) tcpip.Address {
	if a.Is4() {
		return tcpip.AddrFrom4(a.As4())
	}
	return tcpip.AddrFrom16(a.As16())
}

// addrPort is the way back. IPv4 comes out as IPv4, also if it was mapped.
func (s *Stack) addrPort(full tcpip.FullAddress) netip.AddrPort {
	a := addrOf(full.Addr).Unmap()
	if a.IsLinkLocalUnicast() && a.Is6() {
		a = a.WithZone(s.cfg.Interface)
	}
	return netip.AddrPortFrom(a, full.Port)
}

// addrOf is the way back of tcpipAddr.
func addrOf(a tcpip.Address) netip.Addr {
	switch a.Len() {
	case 4:
		return netip.AddrFrom4(a.As4())
	case 16:
		return netip.AddrFrom16(a.As16())
	}
	return netip.Addr{}
}

// localAddr returns the address of an endpoint of a family.
func (s *Stack) localAddr(ep tcpip.Endpoint, proto tcpip.NetworkProtocolNumber) netip.AddrPort {
	full, err := ep.GetLocalAddress()
	if err != nil {
		return netip.AddrPort{}
	}
	return s.shownAddr(full, proto)
}

// shownAddr returns a local address of a family. The wildcard, which has no
// address in netstack, is shown as package net shows it.
func (s *Stack) shownAddr(full tcpip.FullAddress, proto tcpip.NetworkProtocolNumber) netip.AddrPort {
	if ap := s.addrPort(full); ap.IsValid() {
		return ap
	}
	if proto == ipv4.ProtocolNumber {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), full.Port)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), full.Port)
}

// tcpAddr and udpAddr return net's form of an address. IPv4 has 4 bytes.
func tcpAddr(ap netip.AddrPort) *net.TCPAddr { return net.TCPAddrFromAddrPort(ap) }
func udpAddr(ap netip.AddrPort) *net.UDPAddr { return net.UDPAddrFromAddrPort(ap) }

// tcpAddrs returns what tcpAddr does of both addresses of a connection, in one
// piece of memory.
func tcpAddrs(local, remote netip.AddrPort) (l, r *net.TCPAddr) {
	m := &struct {
		addrs [2]net.TCPAddr
		ips   [2][16]byte
	}{}
	for i, ap := range [2]netip.AddrPort{local, remote} {
		a := &m.addrs[i]
		a.Port, a.Zone = int(ap.Port()), ap.Addr().Zone()
		switch addr := ap.Addr(); {
		case addr.Is4():
			*(*[4]byte)(m.ips[i][:]) = addr.As4()
			a.IP = m.ips[i][:4:4]
		case addr.IsValid():
			m.ips[i] = addr.As16()
			a.IP = m.ips[i][:]
		}
	}
	return &m.addrs[0], &m.addrs[1]
}
