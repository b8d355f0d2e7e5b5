package netdiff

import (
	"context"
	"net"
	"strings"
	"time"
)

// attemptBehaviours are about dials of names that have been looked up: how long
// each attempt may take, and what ends it. And about local addresses that are
// pointers to nothing, and multipath TCP.
func attemptBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "attempt/" + name, run: run})
	}

	// A dial that ends after the look-up: one that ended before has a DNSError, and
	// is tried again with more time.
	after := func(e *env, end func(wait time.Duration) string) {
		wait := 30 * time.Millisecond
		for until := e.late(); time.Now().Before(until); wait *= 2 {
			if s := end(wait); !strings.Contains(s, "DNSError") {
				e.saw("%s", s)
				return
			}
		}
		e.saw("the look-up does not end")
	}
	for _, name := range []string{"hole.test.", "holes.test."} {
		address := func(e *env) string { return hostPortOf(name, int(e.hole.Port())) }
		add("Timeout after "+name+" was looked up", func(e *env) {
			after(e, func(wait time.Duration) string {
				at := time.Now().Add(wait)
				d := &net.Dialer{Deadline: at, Resolver: e.answers().resolver()}
				c, err := e.near.DialBy(context.Background(), d, e.tcp(), address(e))
				return e.opened(c == nil, err) + ", " + timing(at, err)
			})
		})
		add("the context's deadline after "+name+" was looked up", func(e *env) {
			after(e, func(wait time.Duration) string {
				at := time.Now().Add(wait)
				ctx, cancel := context.WithDeadline(context.Background(), at)
				defer cancel()
				c, err := e.near.DialBy(ctx, &net.Dialer{Resolver: e.answers().resolver()}, "tcp", address(e))
				return e.opened(c == nil, err) + ", " + timing(at, err)
			})
		})
		add("canceled after "+name+" was looked up", func(e *env) {
			after(e, func(wait time.Duration) string {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				defer time.AfterFunc(wait, cancel).Stop()
				c, err := e.near.DialBy(ctx, &net.Dialer{Resolver: e.answers().resolver()}, e.tcp(), address(e))
				return e.opened(c == nil, err)
			})
		})
		add("Cancel after "+name+" was looked up", func(e *env) {
			after(e, func(wait time.Duration) string {
				done := make(chan struct{})
				defer time.AfterFunc(wait, func() { close(done) }).Stop()
				d := canceledBy(done)
				d.Resolver = e.answers().resolver()
				c, err := e.near.DialBy(context.Background(), d, e.tcp(), address(e))
				return e.opened(c == nil, err)
			})
		})
	}

	// The far end answers at this port by IPv4 only, and by IPv6 nobody says no.
	half := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "attempt/" + name, only: '4', inside: true, alone: true, run: func(e *env) {
			l, err := e.far.ListenTCP("tcp4", &net.TCPAddr{IP: e.farHosts[0].AsSlice(), Port: e.half})
			e.must(err)
			defer l.Close()
			e.call(&net.TCPAddr{Port: e.half}, "half") // of both families
			run(e)
		}})
	}
	// dialHalf dials both families, with or without an end to it.
	dialHalf := func(e *env, network string, d *net.Dialer, limit bool) {
		after(e, func(wait time.Duration) string {
			d := *d
			d.Resolver = e.answers().resolver()
			if limit {
				d.Deadline = time.Now().Add(wait)
			}
			c, err := e.near.DialBy(context.Background(), &d, network, hostPortOf("both.test.", e.half))
			if err != nil {
				// Whose turn it was when the time was over, depends in package net on
				// which of its timers is first.
				s := e.opened(c == nil, err) + ", " + timing(d.Deadline, err)
				return strings.ReplaceAll(s, "host4", "host6")
			}
			return e.addr(c.RemoteAddr())
		})
	}
	half("FallbackDelay, the first family waits", func(e *env) {
		dialHalf(e, "tcp", &net.Dialer{FallbackDelay: time.Millisecond}, false)
	})
	half("FallbackDelay of 0, the first family waits", func(e *env) { dialHalf(e, "tcp", &net.Dialer{}, false) })
	half("FallbackDelay below 0, the first family waits", func(e *env) {
		dialHalf(e, "tcp", &net.Dialer{FallbackDelay: -1}, true)
	})
	half("FallbackDelay beyond Timeout, the first family waits", func(e *env) {
		dialHalf(e, "tcp", &net.Dialer{FallbackDelay: time.Hour}, true)
	})
	half("FallbackDelay, the network is IPv6's", func(e *env) {
		dialHalf(e, "tcp6", &net.Dialer{FallbackDelay: time.Millisecond}, true)
	})
	half("FallbackDelay, the local address is IPv4's", func(e *env) {
		dialHalf(e, "tcp", &net.Dialer{FallbackDelay: -1, LocalAddr: e.nearTCP(0)}, false)
	})

	// Pointers to nothing.
	var noTCP *net.TCPAddr
	var noUDP *net.UDPAddr
	add("LocalAddr is a nil *TCPAddr", func(e *env) {
		l := e.farListener()
		c, err := e.near.DialBy(context.Background(), &net.Dialer{LocalAddr: noTCP}, "tcp", l.Addr().String())
		e.must(err)
		e.call(e.accept(l).RemoteAddr(), "near")
		e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
	})
	add("LocalAddr is a nil *UDPAddr", func(e *env) {
		c, err := e.near.DialBy(context.Background(), &net.Dialer{LocalAddr: noUDP}, "udp", hostPort(e.farHost, discardPort))
		e.must(err)
		e.call(c.LocalAddr(), "near")
		e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
	})
	add("LocalAddr is a nil *TCPAddr, refused", func(e *env) {
		e.saw("%s", e.dialBy(&net.Dialer{LocalAddr: noTCP}, e.tcp(), hostPort(e.farHost, e.closedTCP())))
	})
	add("LocalAddr is a nil *UDPAddr, for TCP", func(e *env) {
		e.saw("%s", e.dialBy(&net.Dialer{LocalAddr: noUDP}, e.tcp(), e.hole.String()))
	})
	add("LocalAddr is a nil *TCPAddr, for UDP", func(e *env) {
		e.saw("%s", e.dialBy(&net.Dialer{LocalAddr: noTCP}, "udp", hostPort(e.farHost, discardPort)))
	})

	// Multipath TCP, which the other end does not speak.
	add("SetMultipathTCP of a Dialer", func(e *env) {
		d := &net.Dialer{}
		d.SetMultipathTCP(true)
		l := e.farListener()
		c, err := e.near.DialBy(context.Background(), d, e.tcp(), l.Addr().String())
		e.must(err)
		e.call(e.accept(l).RemoteAddr(), "near")
		is, err := c.(tcpConn).MultipathTCP()
		e.saw("%v, %s, %s", is, e.err(err), e.addr(c.LocalAddr()))
	})
	add("SetMultipathTCP of a ListenConfig", func(e *env) {
		lc := &net.ListenConfig{}
		lc.SetMultipathTCP(true)
		l, err := e.near.ListenBy(context.Background(), lc, e.tcp(), hostPort(e.nearHost, 0))
		e.must(err)
		e.call(l.Addr(), "near")
		_, err = e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
		e.must(err)
		c := e.accept(l)
		is, err := c.MultipathTCP()
		e.saw("%v, %s, %s", is, e.err(err), e.addr(c.LocalAddr()))
	})
	return all
}
