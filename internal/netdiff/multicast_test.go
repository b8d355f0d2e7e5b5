package netdiff

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
)

// A member is what a UDP socket can do with groups. Package net has
// golang.org/x/net/ipv4 and ipv6 for that.
type member interface {
	JoinGroupOn(ifi *net.Interface, group net.Addr) error
	LeaveGroupOn(ifi *net.Interface, group net.Addr) error
	filters
}

func (u stackUDP) JoinGroupOn(ifi *net.Interface, group net.Addr) error {
	return u.UDPConn.JoinGroup(ifi, group)
}

func (u stackUDP) LeaveGroupOn(ifi *net.Interface, group net.Addr) error {
	return u.UDPConn.LeaveGroup(ifi, group)
}

// filters are the methods that all of them have.
type filters interface {
	JoinSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error
	LeaveSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error
	ExcludeSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error
	IncludeSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error
	SetMulticastInterface(ifi *net.Interface) error
	SetMulticastLoopback(on bool) error
}

// sources are the methods that ipv4.PacketConn and ipv6.PacketConn have alike.
type sources interface {
	JoinGroup(ifi *net.Interface, group net.Addr) error
	LeaveGroup(ifi *net.Interface, group net.Addr) error
	filters
}

func (k kernelUDP) sources() sources {
	if k.v4 != nil {
		return k.v4
	}
	return k.v6
}

func (k kernelUDP) JoinGroupOn(ifi *net.Interface, group net.Addr) error {
	return k.sources().JoinGroup(ifi, group)
}

func (k kernelUDP) LeaveGroupOn(ifi *net.Interface, group net.Addr) error {
	return k.sources().LeaveGroup(ifi, group)
}

func (k kernelUDP) JoinSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error {
	return k.sources().JoinSourceSpecificGroup(ifi, group, source)
}

func (k kernelUDP) LeaveSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error {
	return k.sources().LeaveSourceSpecificGroup(ifi, group, source)
}

func (k kernelUDP) ExcludeSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error {
	return k.sources().ExcludeSourceSpecificGroup(ifi, group, source)
}

func (k kernelUDP) IncludeSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error {
	return k.sources().IncludeSourceSpecificGroup(ifi, group, source)
}

func (k kernelUDP) SetMulticastInterface(ifi *net.Interface) error {
	return k.sources().SetMulticastInterface(ifi)
}

func (k kernelUDP) SetMulticastLoopback(on bool) error { return k.sources().SetMulticastLoopback(on) }

// linkGroup is a group of the link that nobody uses.
var linkGroup = netip.MustParseAddr("ff02::66:1")

// groups counts the groups that behaviours have used, so that each has its own.
var groups atomic.Uint32

// newGroup returns a group that nobody is in.
func (e *env) newGroup() netip.Addr {
	if e.family == '4' {
		b := [4]byte{239, 66}
		binary.BigEndian.PutUint16(b[2:], uint16(groups.Add(1)))
		return netip.AddrFrom4(b)
	}
	b := [16]byte{0: 0xff, 1: 5, 13: 66}
	binary.BigEndian.PutUint16(b[14:], uint16(groups.Add(1)))
	return netip.AddrFrom16(b)
}

func atGroup(g netip.Addr, port int) *net.UDPAddr { return &net.UDPAddr{IP: g.AsSlice(), Port: port} }

// anyPacket returns a socket of a network at its wildcard, that sends to groups by
// an interface. No socket of the other end has its number, or they would be told apart
// by nothing.
func (e *env) anyPacket(n network, h linkHost, name string) udpConn {
	c, err := n.ListenUDP(e.udp(), nil)
	e.must(err)
	for e.known(c.LocalAddr()) { // one that is open until the behaviour ends
		c, err = n.ListenUDP(e.udp(), nil)
		e.must(err)
	}
	e.must(c.SetMulticastInterface(h.ifi()))
	e.call(c.LocalAddr(), name)
	return c
}

// sendEnd sends a last datagram to a socket of the near end, by its own address. What
// was sent to a group before has come before it.
func (e *env) sendEnd(from, to udpConn) {
	_, err := from.WriteToUDP([]byte("end"), e.nearUDP(portOf(to.LocalAddr())))
	e.must(err)
}

// gets reads datagrams up to the last one.
func (e *env) gets(who string, c udpConn) {
	e.must(c.SetReadDeadline(e.late()))
	for {
		b := make([]byte, 100)
		n, from, err := c.ReadFrom(b)
		e.must(err)
		e.saw("%s: %q from %s", who, b[:n], e.addr(from))
		if string(b[:n]) == "end" {
			return
		}
	}
}

// multicastBehaviours are about what is sent to groups, over a link.
func multicastBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "group/" + name, lab: true, run: run})
	}
	// ends returns a socket that may join, and one that sends to groups.
	ends := func(e *env) (near, far udpConn) {
		return e.anyPacket(e.near, e.nearLink, "near"), e.anyPacket(e.far, e.farLink, "far")
	}
	sends := func(e *env, c udpConn, text string, to *net.UDPAddr) {
		_, err := c.WriteToUDP([]byte(text), to)
		e.must(err)
	}
	add("a member hears", func(e *env) {
		c, far := ends(e)
		g := atGroup(e.newGroup(), portOf(c.LocalAddr()))
		sends(e, far, "before", g)
		e.sendEnd(far, c)
		e.gets("before", c)
		e.saw("%s", e.cause(c.JoinGroupOn(e.nearLink.ifi(), g)))
		sends(e, far, "one", g)
		sends(e, far, "", g)
		sends(e, far, "three", g)
		e.sendEnd(far, c)
		e.gets("member", c)
		e.saw("%s", e.cause(c.LeaveGroupOn(e.nearLink.ifi(), g)))
		sends(e, far, "after", g)
		e.sendEnd(far, c)
		e.gets("after", c)
	})
	add("a member answers", func(e *env) {
		c, far := ends(e)
		g := atGroup(e.newGroup(), portOf(c.LocalAddr()))
		e.must(c.JoinGroupOn(e.nearLink.ifi(), g))
		sends(e, far, "question", g)
		e.must(c.SetReadDeadline(e.late()))
		n, from, err := c.ReadFromUDP(make([]byte, 100))
		e.saw("%s from %s", e.io(n, err), e.addr(from))
		e.saw("%s", e.io(c.WriteToUDP([]byte("answer"), &net.UDPAddr{IP: from.IP, Port: from.Port})))
		e.saw("%q", e.datagram(far))
	})
	add("who sends to members need be none", func(e *env) {
		c, far := ends(e)
		g := atGroup(e.newGroup(), portOf(far.LocalAddr()))
		e.must(far.JoinGroupOn(e.farLink.ifi(), g))
		e.saw("%s", e.io(c.WriteToUDP([]byte("hello"), g)))
		e.saw("%s", e.io(c.WriteToUDPAddrPort([]byte("again"), g.AddrPort())))
		e.saw("%q %q", e.datagram(far), e.datagram(far))
	})
	add("a connected socket sends to members", func(e *env) {
		_, far := ends(e)
		g := atGroup(e.newGroup(), portOf(far.LocalAddr()))
		e.must(far.JoinGroupOn(e.farLink.ifi(), g))
		c, err := e.near.DialUDP(e.udp(), e.nearUDP(0), g)
		e.must(err)
		e.call(c.LocalAddr(), "connected")
		e.saw("%s", e.addr(c.LocalAddr()))
		e.saw("%s", e.io(c.Write([]byte("hello"))))
		e.saw("%q", e.datagram(far))
	})
	add("a member that sends hears itself", func(e *env) {
		c, far := ends(e)
		g := atGroup(e.newGroup(), portOf(c.LocalAddr()))
		e.must(c.JoinGroupOn(e.nearLink.ifi(), g))
		for _, on := range []bool{true, false, true} {
			e.saw("%s", e.cause(c.SetMulticastLoopback(on)))
			e.saw("%s", e.io(c.WriteToUDP([]byte("loop "+strconv.FormatBool(on)), g)))
			e.sendEnd(far, c)
			e.gets("itself", c)
		}
	})
	add("a socket that is in no group hears what another is in", func(e *env) {
		c, far := ends(e)
		other := e.anyPacket(e.near, e.nearLink, "other")
		g := atGroup(e.newGroup(), portOf(c.LocalAddr()))
		e.must(other.JoinGroupOn(e.nearLink.ifi(), g))
		sends(e, far, "for the port", g)
		e.sendEnd(far, c)
		e.gets("the port", c)
		sends(e, far, "other port", atGroup(netip.MustParseAddr(g.IP.String()), portOf(other.LocalAddr())))
		e.sendEnd(far, other)
		e.gets("the member", other)
	})
	add("a socket at an address hears no group", func(e *env) {
		c, far := e.nearPacket(), e.anyPacket(e.far, e.farLink, "far")
		g := atGroup(e.newGroup(), portOf(c.LocalAddr()))
		e.must(c.JoinGroupOn(e.nearLink.ifi(), g))
		sends(e, far, "nobody", g)
		e.sendEnd(far, c)
		e.gets("near", c)
	})
	add("a closed member has left", func(e *env) {
		c, far := ends(e)
		other := e.anyPacket(e.near, e.nearLink, "other")
		g := atGroup(e.newGroup(), portOf(other.LocalAddr()))
		e.must(c.JoinGroupOn(e.nearLink.ifi(), g))
		e.must(c.Close())
		sends(e, far, "nobody", g)
		e.sendEnd(far, other)
		e.gets("other", other)
	})
	add("interfaces to join on and to send by", func(e *env) {
		c := e.anyPacket(e.near, e.nearLink, "near")
		g := atGroup(e.newGroup(), 0)
		other := &net.Interface{Index: 99, Name: "nosuch"}
		e.saw("join: %s", e.cause(c.JoinGroupOn(other, g)))
		e.saw("join: %s", e.cause(c.JoinGroupOn(e.nearLink.ifi(), g)))
		e.saw("leave: %s", e.cause(c.LeaveGroupOn(e.nearLink.ifi(), g)))
		e.saw("join: %s", e.cause(c.JoinGroupOn(nil, g)))
		e.saw("leave: %s", e.cause(c.LeaveGroupOn(nil, g)))
		e.saw("set: %s", e.cause(c.SetMulticastInterface(e.nearLink.ifi())))
		if e.family == '6' { // of IPv4 golang.org/x/net tells of the address
			e.saw("set: %s", e.cause(c.SetMulticastInterface(other)))
		}
	})

	// Sources.
	source := func(e *env) net.Addr { return &net.UDPAddr{IP: e.farHost.AsSlice()} }
	elsewhere := func(e *env) net.Addr { return &net.UDPAddr{IP: e.nobody().AsSlice()} }
	add("a source that is wanted", func(e *env) {
		c, far := ends(e)
		g := atGroup(e.newGroup(), portOf(c.LocalAddr()))
		ifi := e.nearLink.ifi()
		e.saw("%s", e.cause(c.JoinSourceSpecificGroup(ifi, g, elsewhere(e))))
		sends(e, far, "not wanted", g)
		e.sendEnd(far, c)
		e.gets("another", c)
		e.saw("%s", e.cause(c.JoinSourceSpecificGroup(ifi, g, source(e))))
		sends(e, far, "wanted", g)
		e.sendEnd(far, c)
		e.gets("both", c)
		e.saw("%s", e.cause(c.LeaveSourceSpecificGroup(ifi, g, source(e))))
		sends(e, far, "not wanted any more", g)
		e.sendEnd(far, c)
		e.gets("after", c)
		e.saw("%s", e.cause(c.LeaveSourceSpecificGroup(ifi, g, source(e))))
		e.saw("%s", e.cause(c.LeaveGroupOn(ifi, g)))
		e.saw("%s", e.cause(c.LeaveGroupOn(ifi, g)))
	})
	add("a source that is not wanted", func(e *env) {
		c, far := ends(e)
		g := atGroup(e.newGroup(), portOf(c.LocalAddr()))
		ifi := e.nearLink.ifi()
		e.saw("%s", e.cause(c.ExcludeSourceSpecificGroup(ifi, g, source(e))))
		e.must(c.JoinGroupOn(ifi, g))
		e.saw("%s", e.cause(c.ExcludeSourceSpecificGroup(ifi, g, source(e))))
		sends(e, far, "not wanted", g)
		e.sendEnd(far, c)
		e.gets("excluded", c)
		e.saw("%s", e.cause(c.IncludeSourceSpecificGroup(ifi, g, source(e))))
		sends(e, far, "wanted", g)
		e.sendEnd(far, c)
		e.gets("included", c)
		e.saw("%s", e.cause(c.IncludeSourceSpecificGroup(ifi, g, source(e))))
		e.saw("%s", e.cause(c.JoinSourceSpecificGroup(ifi, g, source(e))))
	})

	// Sockets that listen at a group.
	add("ListenMulticastUDP", func(e *env) {
		_, far := ends(e)
		port := e.spare(e.near)
		g := atGroup(e.newGroup(), port)
		e.call(&net.UDPAddr{Port: port}, "port")
		c, err := e.near.ListenMulticastUDP(e.udp(), e.nearLink.ifi(), g)
		e.must(err)
		d, err := e.near.ListenMulticastUDP(e.udp(), e.nearLink.ifi(), g)
		e.must(err)
		e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(d.LocalAddr()))
		sends(e, far, "both", g)
		e.saw("%q %q", e.datagram(c), e.datagram(d))
		sends(e, far, "one", e.nearUDP(port))
		e.saw("%q", e.datagram(d)) // the last one
		e.must(d.Close())
		sends(e, far, "first", g)
		e.saw("%q", e.datagram(c))
		sends(e, far, "own", e.nearUDP(port))
		e.saw("%q", e.datagram(c))
		e.must(c.SetMulticastInterface(e.nearLink.ifi()))
		e.saw("%s", e.io(c.WriteToUDP([]byte("not to itself"), g)))
		sends(e, far, "end", g)
		e.saw("%q", e.datagram(c))
		e.saw("%s", e.cause(c.JoinGroupOn(e.nearLink.ifi(), g)))
	})
	add("ListenPacket at a group", func(e *env) {
		_, far := ends(e)
		port := e.spare(e.near)
		g := atGroup(e.newGroup(), port)
		e.call(&net.UDPAddr{Port: port}, "port")
		p, err := e.near.ListenPacket(e.udp(), g.String())
		e.must(err)
		e.saw("%s", e.addr(p.LocalAddr()))
		c, err := e.near.ListenUDP(e.udp(), g)
		e.must(err)
		e.saw("%s", e.addr(c.LocalAddr()))
		_, err = e.near.ListenUDP(e.udp(), &net.UDPAddr{Port: port})
		e.saw("%s", e.err(err))
		e.must(c.JoinGroupOn(e.nearLink.ifi(), g))
		sends(e, far, "hello", g)
		e.saw("%q %q", e.datagram(c), e.datagram(p.(udpConn)))
	})
	add("ListenMulticastUDP, what is no group", func(e *env) {
		for _, network := range []string{e.udp(), "tcp", "", "udp9"} {
			for _, at := range []*net.UDPAddr{nil, {}, e.nearUDP(0)} {
				c, err := e.near.ListenMulticastUDP(network, nil, at)
				e.saw("%s", e.opened(c == nil, err))
			}
		}
	})
	all = append(all, behaviour{name: "group/of the link", lab: true, only: '6', alone: true, run: func(e *env) {
		c, far := ends(e)
		e.must(c.SetReadDeadline(e.late()))
		g := &net.UDPAddr{IP: linkGroup.AsSlice(), Port: portOf(c.LocalAddr())}
		e.saw("%s", e.cause(c.JoinGroupOn(e.nearLink.ifi(), g)))
		for _, zone := range []string{"", strconv.Itoa(e.farLink.index)} {
			_, err := far.WriteToUDP([]byte("hello"), &net.UDPAddr{IP: g.IP, Port: g.Port, Zone: zone})
			e.must(err)
			n, from, err := c.ReadFrom(make([]byte, 8))
			e.saw("%s from %s, of the link %v", e.io(n, err), e.addr(from), ipOf(from).IsLinkLocalUnicast())
		}
		e.must(far.JoinGroupOn(e.farLink.ifi(), g))
		for _, zone := range []string{"", strconv.Itoa(e.nearLink.index), "1", "99"} {
			to := &net.UDPAddr{IP: g.IP, Port: portOf(far.LocalAddr()), Zone: zone}
			n, err := c.WriteToUDP([]byte("hello"), to)
			if e.saw("%s", e.io(n, err)); err == nil {
				b := make([]byte, 8)
				e.must(far.SetReadDeadline(e.late()))
				n, from, err := far.ReadFromUDP(b)
				e.must(err)
				e.saw("%q from the link %v", b[:n], from.IP.IsLinkLocalUnicast())
			}
		}
		e.saw("%s", e.cause(c.LeaveGroupOn(e.nearLink.ifi(), g)))
		_, err := far.WriteToUDP([]byte("after"), &net.UDPAddr{IP: g.IP, Port: g.Port, Zone: strconv.Itoa(e.farLink.index)})
		e.must(err)
		e.sendEnd(far, c)
		n, _, err := c.ReadFrom(make([]byte, 8))
		e.saw("%s", e.io(n, err))
	}})
	all = append(all, behaviour{name: "dial/TCP to a group", run: func(e *env) {
		_, err := e.near.DialTCP(e.tcp(), nil, &net.TCPAddr{IP: e.group().IP, Port: 80})
		e.saw("%s", e.err(err))
	}})
	return all
}
