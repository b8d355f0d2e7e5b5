package netdiff

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// A linkHost is a host as the link knows it: an address that needs a zone, and the
// interface that is the zone, seen from the host.
type linkHost struct {
	addr  netip.Addr
	name  string
	index int
}

// ifi returns the interface.
func (h linkHost) ifi() *net.Interface { return &net.Interface{Index: h.index, Name: h.name} }

// zones returns the zones that a caller may come up with, by what they are.
func (e *env) zones() []struct{ name, zone string } {
	return []struct{ name, zone string }{
		{"a name", e.nearLink.name}, {"an index", strconv.Itoa(e.nearLink.index)}, {"none", ""},
		{"no interface's name", "nosuch"}, {"no interface's index", "99"},
		{"another interface's name", "lo"}, {"another interface's index", "1"},
	}
}

// zoneBehaviours are about IPv6 addresses with zones.
func zoneBehaviours() (all []behaviour) {
	inLab := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "zone/" + name, only: '6', lab: true, alone: true, run: run})
	}
	add := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "zone/" + name, only: '6', alone: true, run: run})
	}
	at := func(h linkHost, zone string, port int) string {
		a := h.addr.String()
		if zone != "" {
			a += "%" + zone
		}
		return net.JoinHostPort(a, strconv.Itoa(port))
	}
	farListener := func(e *env) net.Listener {
		l, err := e.far.ListenTCP("tcp6", &net.TCPAddr{IP: e.farLink.addr.AsSlice(), Zone: strconv.Itoa(e.farLink.index)})
		e.must(err)
		e.call(l.Addr(), "far")
		return l
	}
	farPacket := func(e *env) udpConn {
		c, err := e.far.ListenUDP("udp6", &net.UDPAddr{IP: e.farLink.addr.AsSlice(), Zone: strconv.Itoa(e.farLink.index)})
		e.must(err)
		e.call(c.LocalAddr(), "far")
		return c
	}

	// Of the link.
	inLab("Dial TCP", func(e *env) {
		l := farListener(e)
		for _, z := range e.zones() {
			c, err := e.near.Dial(context.Background(), "tcp", at(e.nearLink.with(e.farLink.addr), z.zone, portOf(l.Addr())))
			if e.saw("%s: %s", z.name, e.opened(c == nil, err)); err != nil {
				continue
			}
			far := e.accept(l)
			e.call(far.RemoteAddr(), "near")
			e.saw("%s %s, named %v", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()), c.RemoteAddr().(*net.TCPAddr).Zone == e.nearLink.name)
			e.send(c, "hello")
			e.saw("%q", e.exactly(far, 5))
		}
	})
	inLab("Dial UDP", func(e *env) {
		far := farPacket(e)
		for _, z := range e.zones() {
			c, err := e.near.Dial(context.Background(), "udp6", at(e.nearLink.with(e.farLink.addr), z.zone, portOf(far.LocalAddr())))
			if e.saw("%s: %s", z.name, e.opened(c == nil, err)); err != nil {
				continue
			}
			e.call(c.LocalAddr(), "near")
			e.saw("%s %s, named %v", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()), c.RemoteAddr().(*net.UDPAddr).Zone == e.nearLink.name)
			e.send(c, "hello")
			e.saw("%q", e.datagram(far))
		}
	})
	inLab("Listen and ListenPacket", func(e *env) {
		for _, z := range e.zones() {
			l, err := e.near.Listen("tcp", at(e.nearLink, z.zone, 0))
			e.saw("%s: %s", z.name, e.opened(l == nil, err))
			if err == nil {
				e.call(l.Addr(), "near")
				e.saw("%s", e.addr(l.Addr()))
			}
			c, err := e.near.ListenPacket("udp", at(e.nearLink, z.zone, 0))
			e.saw("%s: %s", z.name, e.opened(c == nil, err))
			if err == nil {
				e.call(c.LocalAddr(), "near too")
				e.saw("%s", e.addr(c.LocalAddr()))
			}
		}
	})
	inLab("an accepted connection", func(e *env) {
		l, err := e.near.Listen("tcp6", ":0")
		e.must(err)
		e.call(l.Addr(), "near")
		to := &net.TCPAddr{IP: e.nearLink.addr.AsSlice(), Port: portOf(l.Addr()), Zone: strconv.Itoa(e.farLink.index)}
		far, err := e.far.DialTCP("tcp6", nil, to)
		e.must(err)
		e.call(far.LocalAddr(), "far")
		c := e.accept(l)
		e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
		e.send(c, "hello")
		e.saw("%q", e.exactly(far, 5))
	})
	inLab("WriteTo", func(e *env) {
		far := farPacket(e)
		c, err := e.near.ListenUDP("udp6", nil)
		e.must(err)
		e.call(c.LocalAddr(), "near")
		for _, z := range e.zones() {
			if z.name == "a name" || z.name == "another interface's name" {
				continue // package net would look for it where the test runs
			}
			to := &net.UDPAddr{IP: e.farLink.addr.AsSlice(), Port: portOf(far.LocalAddr()), Zone: z.zone}
			n, err := c.WriteTo([]byte("hello"), to)
			if e.saw("WriteTo, %s: %s", z.name, e.io(n, err)); err == nil {
				e.saw("%q", e.datagram(far))
			}
			n, err = c.WriteToUDPAddrPort([]byte("hello"), to.AddrPort())
			if e.saw("WriteToUDPAddrPort, %s: %s", z.name, e.io(n, err)); err == nil {
				e.saw("%q", e.datagram(far))
			}
			n, _, err = c.WriteMsgUDP([]byte("hello"), nil, to)
			if e.saw("WriteMsgUDP, %s: %s", z.name, e.io(n, err)); err == nil {
				e.saw("%q", e.datagram(far))
			}
		}
	})
	inLab("ReadFrom", func(e *env) {
		far := farPacket(e)
		c, err := e.near.ListenUDP("udp6", nil)
		e.must(err)
		e.call(c.LocalAddr(), "near")
		e.must(c.SetReadDeadline(e.late()))
		to := &net.UDPAddr{IP: e.nearLink.addr.AsSlice(), Port: portOf(c.LocalAddr()), Zone: strconv.Itoa(e.farLink.index)}
		for range 3 {
			_, err = far.WriteToUDP([]byte("hello"), to)
			e.must(err)
		}
		n, from, err := c.ReadFrom(make([]byte, 8))
		e.saw("%s from %s", e.io(n, err), e.addr(from))
		n, ap, err := c.ReadFromUDPAddrPort(make([]byte, 8))
		e.saw("%s from %s", e.io(n, err), e.addrPort(ap))
		n, _, _, addr, err := c.ReadMsgUDP(make([]byte, 8), nil)
		e.saw("%s from %s", e.io(n, err), e.addr(addr))
		ap = netip.AddrPortFrom(ap.Addr().WithZone(strconv.Itoa(e.nearLink.index)), ap.Port())
		e.saw("%s", e.io(c.WriteToUDPAddrPort([]byte("answer"), ap)))
		e.saw("%q", e.datagram(far))
	})
	inLab("a local address", func(e *env) {
		l := farListener(e)
		for _, z := range e.zones() {
			from := &net.TCPAddr{IP: e.nearLink.addr.AsSlice(), Zone: z.zone}
			for _, zone := range []string{"", e.nearLink.name} { // that of the socket counts
				c, err := e.near.DialTCP("tcp6", from, &net.TCPAddr{IP: e.farLink.addr.AsSlice(), Port: portOf(l.Addr()), Zone: zone})
				if e.saw("%s, peer's %v: %s", z.name, zone != "", e.opened(c == nil, err)); err == nil {
					e.call(e.accept(l).RemoteAddr(), "near")
					e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
				}
			}
		}
	})
	inLab("a socket at an address of the link sends", func(e *env) {
		far := farPacket(e)
		c, err := e.near.ListenUDP("udp6", &net.UDPAddr{IP: e.nearLink.addr.AsSlice(), Zone: e.nearLink.name})
		e.must(err)
		e.call(c.LocalAddr(), "near")
		for _, zone := range []string{"", strconv.Itoa(e.nearLink.index), "1"} {
			n, err := c.WriteToUDP([]byte("hello"), &net.UDPAddr{IP: e.farLink.addr.AsSlice(), Port: portOf(far.LocalAddr()), Zone: zone})
			if e.saw("%s", e.io(n, err)); err == nil {
				e.saw("%q", e.datagram(far))
			}
		}
	})
	inLab("Dial UDP to a group", func(e *env) {
		for _, z := range e.zones() {
			c, err := e.near.Dial(context.Background(), "udp6", at(e.nearLink.with(linkGroup), z.zone, discardPort))
			if e.saw("%s: %s", z.name, e.opened(c == nil, err)); err == nil {
				e.saw("%s", e.addr(c.RemoteAddr()))
			}
		}
	})

	// Of others a zone says nothing.
	for _, zone := range []string{"nosuch", "99", "1"} {
		add(fmt.Sprintf("%%%s of an address that needs none", zone), func(e *env) {
			l, far := e.farListener(), e.farPacket()
			to := e.farHost.WithZone(zone)
			c, err := e.near.Dial(context.Background(), "tcp", hostPort(to, portOf(l.Addr())))
			e.must(err)
			e.call(e.accept(l).RemoteAddr(), "near")
			e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
			u, err := e.near.Dial(context.Background(), "udp6", hostPort(to, portOf(far.LocalAddr())))
			e.must(err)
			e.call(u.LocalAddr(), "near too")
			e.saw("%s %s", e.addr(u.LocalAddr()), e.addr(u.RemoteAddr()))
			at, err := e.near.Listen("tcp", hostPort(e.nearHost.WithZone(zone), 0))
			e.must(err)
			e.call(at.Addr(), "near again")
			e.saw("%s", e.addr(at.Addr()))
			p, err := e.near.ListenUDP("udp", &net.UDPAddr{IP: e.nearHost.AsSlice(), Zone: zone})
			e.must(err)
			e.call(p.LocalAddr(), "near at last")
			e.saw("%s", e.addr(p.LocalAddr()))
			e.saw("%s", e.io(p.WriteToUDP([]byte("hello"), &net.UDPAddr{IP: to.AsSlice(), Port: portOf(far.LocalAddr()), Zone: zone})))
			e.saw("%q", e.datagram(far))
			from := &net.TCPAddr{IP: e.nearHost.AsSlice(), Zone: zone}
			d, err := e.near.DialTCP("tcp6", from, &net.TCPAddr{IP: to.AsSlice(), Port: portOf(l.Addr()), Zone: zone})
			e.must(err)
			e.call(e.accept(l).RemoteAddr(), "near by its address")
			e.saw("%s %s", e.addr(d.LocalAddr()), e.addr(d.RemoteAddr()))
		})
	}
	return all
}

// with returns another host seen from this one.
func (h linkHost) with(a netip.Addr) linkHost {
	h.addr = a
	return h
}
