package stack

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
)

// A joined is a group that a socket is in. As with Linux it has a list of sources
// that are admitted, or else of those that are not.
type joined struct {
	group   tcpip.Address
	include bool
	sources []tcpip.Address
}

// membership is the groups that a socket is in. The list is replaced, never
// changed.
type membership struct{ list atomic.Pointer[[]joined] }

// admits tells whether the socket takes a datagram from a source that was sent to
// an address. To a group that it is not in, others of the stack are: as with
// Linux it is a matter of the address that the socket is bound to, then.
func (m *membership) admits(to, from tcpip.Address) bool {
	all := m.list.Load()
	if all == nil {
		return true
	}
	for _, j := range *all {
		if j.group == to {
			return slices.Contains(j.sources, from) == j.include
		}
	}
	return true
}

// take returns the list and leaves none.
func (m *membership) take() []joined {
	if all := m.list.Swap(nil); all != nil {
		return *all
	}
	return nil
}

// find returns a copy of the list, and where in it a group is, or -1.
func (m *membership) find(group tcpip.Address) ([]joined, int) {
	var all []joined
	if p := m.list.Load(); p != nil {
		all = slices.Clone(*p)
	}
	return all, slices.IndexFunc(all, func(j joined) bool { return j.group == group })
}

// ListenMulticastUDP opens a socket on the port of gaddr that is in its group, as
// net.ListenMulticastUDP does: it listens at the wildcard, other such sockets may
// have the same port, and what it sends to the group does not come back. ifi is nil
// or the stack's interface. Errors are those of JoinGroup.
func (s *Stack) ListenMulticastUDP(network string, ifi *net.Interface, gaddr *net.UDPAddr) (*UDPConn, error) {
	n, err := parseNetwork(network)
	switch {
	case err == nil && n.proto != "udp":
		err = net.UnknownNetworkError(network)
	case err == nil && (gaddr == nil || gaddr.IP == nil):
		err = errMissingAddress
	case err == nil:
		err = n.malformed("bind", gaddr.IP, gaddr.Port)
	}
	if err != nil {
		return nil, opError("listen", network, nil, opAddr(gaddr), err)
	}
	c, err := s.listenUDP(n, gaddr.AddrPort())
	if err != nil {
		return nil, opError("listen", network, nil, gaddr, err)
	}
	err = c.JoinGroup(ifi, gaddr)
	if err == nil {
		err = c.SetMulticastLoopback(false)
	}
	if err != nil {
		c.Close()
		if oe, ok := err.(*net.OpError); ok {
			err = oe.Err
		}
		return nil, opError("listen", network, nil, gaddr, err)
	}
	return c, nil
}

// shared lets sockets that listen at a group have one port together.
var shared = ports.Flags{MostRecent: true}

// JoinGroup has the socket, and the stack with it, receive what is sent to a
// group: a *net.UDPAddr, whose port does not matter, or a *net.IPAddr. ifi is nil
// or the stack's interface. The socket must listen at a wildcard to see it. The
// error is EADDRINUSE if the socket is in the group, EINVAL if it is no group,
// ENODEV for another interface. Over a device that was opened with Open the host
// shares the groups, and it may be one of [netdev.Device.JoinGroup]: EADDRINUSE too
// if a program of the host is in the group, errors.ErrUnsupported for groups of the
// link's own protocols, as 224.0.0.0/24 is, and ENOBUFS for more than the host's
// kernel admits.
func (c *UDPConn) JoinGroup(ifi *net.Interface, group net.Addr) error {
	return c.member(ifi, group, nil, func(j *joined, is bool) error {
		if is {
			return sysErrno("setsockopt", syscall.EADDRINUSE)
		}
		return nil
	})
}

// LeaveGroup ends what JoinGroup or JoinSourceSpecificGroup has begun. The error
// is EADDRNOTAVAIL if the socket is not in the group.
func (c *UDPConn) LeaveGroup(ifi *net.Interface, group net.Addr) error {
	return c.member(ifi, group, nil, func(j *joined, is bool) error {
		if !is {
			return sysErrno("setsockopt", syscall.EADDRNOTAVAIL)
		}
		return errLeave
	})
}

// JoinSourceSpecificGroup has the socket receive what a source sends to a group.
// More sources can be added by more calls. The choice is made here, of all that is
// sent to the group: no router is told of it.
func (c *UDPConn) JoinSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error {
	return c.member(ifi, group, source, func(j *joined, _ bool) error { return j.add(source, true) })
}

// LeaveSourceSpecificGroup takes a source out again, and the socket out of the
// group if it was the last.
func (c *UDPConn) LeaveSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error {
	return c.member(ifi, group, source, func(j *joined, is bool) error {
		if !is {
			return sysErrno("setsockopt", syscall.EINVAL)
		}
		if err := j.remove(source, true); err != nil || len(j.sources) != 0 {
			return err
		}
		return errLeave
	})
}

// ExcludeSourceSpecificGroup keeps from the socket what a source sends to a group
// that it is in by JoinGroup.
func (c *UDPConn) ExcludeSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error {
	return c.member(ifi, group, source, func(j *joined, is bool) error {
		if !is {
			return sysErrno("setsockopt", syscall.EINVAL)
		}
		return j.add(source, false)
	})
}

// IncludeSourceSpecificGroup takes ExcludeSourceSpecificGroup back.
func (c *UDPConn) IncludeSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error {
	return c.member(ifi, group, source, func(j *joined, is bool) error {
		if !is {
			return sysErrno("setsockopt", syscall.EINVAL)
		}
		return j.remove(source, false)
	})
}

// errLeave is what a change of membership returns to end it.
var errLeave = errors.New("leave")

// add puts a source on the list, which is one of those admitted or of the others.
func (j *joined) add(source net.Addr, include bool) error {
	from := groupAddr(source)
	a := tcpipAddr(from)
	switch {
	case !from.IsValid(): // no source would be one, that nobody is
		return sysErrno("setsockopt", syscall.EINVAL)
	case j.sources == nil: // of either kind, as long as there has been none
		j.include = include
	case j.include != include:
		return sysErrno("setsockopt", syscall.EINVAL)
	case slices.Contains(j.sources, a):
		return sysErrno("setsockopt", syscall.EADDRNOTAVAIL)
	}
	j.sources = append(slices.Clip(j.sources), a)
	return nil
}

// remove is the opposite of add.
func (j *joined) remove(source net.Addr, include bool) error {
	i := slices.Index(j.sources, tcpipAddr(groupAddr(source)))
	switch {
	case i < 0:
		return sysErrno("setsockopt", syscall.EADDRNOTAVAIL)
	case j.include != include:
		return sysErrno("setsockopt", syscall.EINVAL)
	}
	j.sources = slices.Delete(slices.Clone(j.sources), i, i+1)
	return nil
}

// groupAddr returns the IP address in a *net.UDPAddr or *net.IPAddr, or an
// invalid one.
func groupAddr(a net.Addr) netip.Addr {
	var ip net.IP
	switch a := a.(type) {
	case *net.UDPAddr:
		if a != nil {
			ip = a.IP
		}
	case *net.IPAddr:
		if a != nil {
			ip = a.IP
		}
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// member calls change with the socket's membership in a group, which is new
// unless is says otherwise, and makes it so.
func (c *UDPConn) member(ifi *net.Interface, group, source net.Addr, change func(j *joined, is bool) error) error {
	c.control.Lock()
	defer c.control.Unlock()
	if c.released || c.closed() {
		return c.setErr(net.ErrClosed)
	}
	a := groupAddr(group)
	fits := a.IsMulticast() && (c.dual || familyOf(a) == c.family)
	if from := groupAddr(source); source != nil && (!from.IsValid() || from.Is4() != a.Is4()) {
		fits = false
	}
	if !fits {
		return c.setErr(sysErrno("setsockopt", syscall.EINVAL))
	}
	if terr := c.stack.checkInterface(ifi); terr != nil {
		return c.setErr(sysError("setsockopt", terr))
	}
	all, i := c.udp.groups.find(tcpipAddr(a))
	is := i >= 0
	if !is {
		i, all = len(all), append(all, joined{group: tcpipAddr(a)})
	}
	err := change(&all[i], is)
	switch {
	case err == errLeave:
		all = slices.Delete(all, i, i+1)
		c.udp.groups.list.Store(&all)
		c.stack.leaveGroup(a)
		return nil
	case err != nil:
		return c.setErr(err)
	case !is:
		if err := c.stack.joinGroup(a); err != nil {
			return c.setErr(err)
		}
	}
	c.udp.groups.list.Store(&all)
	return nil
}

// joinGroup has netstack and the device take what is sent to a group. Both count
// the sockets.
func (s *Stack) joinGroup(a netip.Addr) error {
	if terr := s.ns.JoinGroup(familyOf(a), nicID, tcpipAddr(a)); terr != nil {
		return sysError("setsockopt", terr)
	}
	if s.dev == nil {
		return nil
	}
	if err := s.dev.JoinGroup(a); err != nil {
		_ = s.ns.LeaveGroup(familyOf(a), nicID, tcpipAddr(a)) // joined above
		return err
	}
	return nil
}

// leaveGroup takes joinGroup back.
func (s *Stack) leaveGroup(a netip.Addr) {
	_ = s.ns.LeaveGroup(familyOf(a), nicID, tcpipAddr(a)) // joined by joinGroup
	if s.dev != nil {
		s.dev.LeaveGroup(a)
	}
}

// shareGroup has a socket that is to listen at a group, and is new, listen at the
// wildcard, and share the port with others of that kind, as package net has it:
// groups have to be joined, and whoever has the port hears of all that the stack is
// in.
func (s *Stack) shareGroup(c *UDPConn, n network, group netip.AddrPort) (at netip.AddrPort, v6only bool) {
	c.udp.flags = shared
	if group.Addr().Is4() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), group.Port()), false
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), group.Port()), n.family == '6' || !s.own4.IsValid()
}
