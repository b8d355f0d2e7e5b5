package netdiff

import (
	"context"
	"net"
	"strconv"
)

// selfBehaviours are about a host that talks to itself, by its loopback addresses.
func selfBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) { all = append(all, behaviour{name: "self/" + name, run: run}) }
	only4 := func(name string, run func(*env)) { // IPv6 has one address, and "localhost" may not be it
		all = append(all, behaviour{name: "self/" + name, run: run, only: '4'})
	}
	loop := func(e *env) string {
		if e.family == '4' {
			return "127.0.0.1"
		}
		return "::1"
	}
	// talk connects to a host at the port of a listener and says what both see.
	talk := func(e *env, l net.Listener, host string) {
		e.call(l.Addr(), "near")
		_, port, err := net.SplitHostPort(l.Addr().String())
		e.must(err)
		ctx, cancel := context.WithDeadline(context.Background(), e.late())
		defer cancel()
		c, err := e.near.Dial(ctx, e.tcp(), net.JoinHostPort(host, port))
		if e.saw("%s", e.err(err)); err != nil {
			return
		}
		s := e.accept(l)
		e.saw("%s %s %s", e.addr(l.Addr()), e.addr(c.RemoteAddr()), e.addr(s.LocalAddr()))
		e.saw("from %s", e.ip(ipOf(c.LocalAddr()).AsSlice()))
		e.send(c, "hello")
		e.saw("%q", e.exactly(s, 5))
		e.must(c.Close())
		e.saw("%s", e.readAll(s))
	}
	listen := func(e *env, host string) net.Listener {
		l, err := e.near.Listen(e.tcp(), net.JoinHostPort(host, "0"))
		e.must(err)
		return l
	}
	add("TCP at loopback", func(e *env) { talk(e, listen(e, loop(e)), loop(e)) })
	only4("TCP at localhost", func(e *env) { talk(e, listen(e, "localhost"), "localhost") })
	add("TCP at a wildcard, by loopback", func(e *env) { talk(e, listen(e, ""), loop(e)) })
	only4("TCP at a wildcard, by localhost", func(e *env) { talk(e, listen(e, ""), "localhost") })
	add("TCP at a wildcard, by the own address", func(e *env) { talk(e, listen(e, ""), e.nearHost.String()) })
	add("UDP at loopback", func(e *env) {
		p, err := e.near.ListenPacket(e.udp(), net.JoinHostPort(loop(e), "0"))
		e.must(err)
		s := p.(udpConn)
		e.call(s.LocalAddr(), "near")
		ctx := context.Background()
		d, err := e.near.Dial(ctx, e.udp(), s.LocalAddr().String())
		e.must(err)
		e.call(d.LocalAddr(), "far")
		e.saw("%s %s", e.addr(d.LocalAddr()), e.addr(d.RemoteAddr()))
		e.send(d, "hello")
		e.must(s.SetReadDeadline(e.late()))
		n, from, err := s.ReadFrom(make([]byte, 8))
		e.saw("%d from %s, %s", n, e.addr(from), e.err(err))
		e.saw("%s", e.io(s.WriteTo([]byte("back"), from)))
		e.saw("%q", e.datagram(d.(udpConn)))
	})
	add("UDP refused at loopback", func(e *env) {
		c, err := e.near.DialUDP(e.udp(), nil, &net.UDPAddr{IP: net.ParseIP(loop(e)), Port: discardPort})
		e.must(err)
		e.call(c.LocalAddr(), "near")
		e.saw("%s", e.refusal(c, func() string { return e.read(c, 8) }))
	})
	add("a port taken at loopback is taken at a wildcard", func(e *env) {
		l := listen(e, loop(e))
		e.call(l.Addr(), "near")
		_, port, err := net.SplitHostPort(l.Addr().String())
		e.must(err)
		e.saw("%s", e.tryListen(e.tcp(), ":"+port))
		e.saw("%s", e.tryListen(e.tcp(), net.JoinHostPort(loop(e), port)))
	})
	only4("TCP at another address of 127/8", func(e *env) { talk(e, listen(e, "127.0.0.77"), "127.0.0.77") })
	only4("TCP at another address of 127/8, by 127.0.0.1", func(e *env) {
		port := strconv.Itoa(e.spare(e.near)) // or somebody might have it there
		l, err := e.near.Listen("tcp4", "127.7.7.7:"+port)
		e.must(err)
		e.call(l.Addr(), "near")
		e.saw("%s", e.tryDial("tcp4", "127.0.0.1:"+port))
	})
	only4("TCP at a wildcard, by another address of 127/8", func(e *env) { talk(e, listen(e, ""), "127.1.2.3") })
	only4("UDP from another address of 127/8", func(e *env) {
		s, err := e.near.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		e.must(err)
		e.call(s.LocalAddr(), "near")
		d, err := e.near.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 5, 5, 5)})
		e.must(err)
		e.call(d.LocalAddr(), "far")
		e.saw("%s", e.io(d.WriteTo([]byte("hello"), s.LocalAddr())))
		e.must(s.SetReadDeadline(e.late()))
		n, from, err := s.ReadFrom(make([]byte, 8))
		e.saw("%d from %s, %s", n, e.addr(from), e.err(err))
	})
	return all
}
