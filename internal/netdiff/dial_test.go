package netdiff

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// dialBehaviours are about how connections come to be, or do not.
func dialBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) { all = append(all, behaviour{name: "dial/" + name, run: run}) }
	lossy := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "dial/" + name, run: run, lossy: true})
	}
	inLab := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "dial/" + name, run: run, lab: true})
	}

	lossy("TCP refused", func(e *env) {
		e.saw("%s", e.tryDial(e.tcp(), hostPort(e.farHost, e.closedTCP())))
	})
	add("TCP refused, any family", func(e *env) {
		e.saw("%s", e.tryDial("tcp", hostPort(e.farHost, e.closedTCP())))
	})
	add("DialTCP refused", func(e *env) {
		c, err := e.near.DialTCP("tcp", nil, e.farTCP(e.closedTCP()))
		e.saw("%s", e.opened(c == nil, err))
	})
	add("DialTCP refused, local address without a port", func(e *env) {
		c, err := e.near.DialTCP(e.tcp(), e.nearTCP(0), e.farTCP(e.closedTCP()))
		e.saw("%s", e.opened(c == nil, err))
	})
	add("DialTCP refused, a local port without an address", func(e *env) {
		from := &net.TCPAddr{Port: e.spare(e.near)}
		e.call(from, "near")
		c, err := e.near.DialTCP(e.tcp(), from, e.farTCP(e.closedTCP()))
		e.saw("%s", e.opened(c == nil, err))
	})
	add("TCP refused again and again", func(e *env) {
		port := e.closedTCP()
		for range 5 {
			e.saw("%s", e.tryDial(e.tcp(), hostPort(e.farHost, port)))
		}
	})
	add("TCP refused by a listener that was closed", func(e *env) {
		l, err := e.far.ListenTCP(e.tcp(), e.farTCP(e.spare(e.far)))
		e.must(err)
		e.call(l.Addr(), "closed")
		e.must(l.Close())
		e.saw("%s", e.tryDial(e.tcp(), l.Addr().String()))
	})
	add("TCP port 0", func(e *env) { e.saw("%s", e.tryDial(e.tcp(), hostPort(e.farHost, 0))) })
	add("UDP port 0", func(e *env) { e.saw("%s", e.tryDial(e.udp(), hostPort(e.farHost, 0))) })
	add("UDP to nobody", func(e *env) { e.saw("%s", e.tryDial(e.udp(), hostPort(e.farHost, e.closedUDP()))) })

	// The context ends, at every stage.
	add("canceled before", func(e *env) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		l := e.farListener()
		c, err := e.near.Dial(ctx, e.tcp(), l.Addr().String())
		e.saw("%s", e.opened(c == nil, err))
	})
	add("UDP canceled before", func(e *env) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		c, err := e.near.Dial(ctx, e.udp(), hostPort(e.farHost, e.closedUDP()))
		e.saw("%s", e.opened(c == nil, err))
	})
	add("canceled while it waits", func(e *env) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		dial := e.blocked(func() string {
			c, err := e.near.Dial(ctx, e.tcp(), e.hole.String())
			return e.opened(c == nil, err)
		})
		cancel()
		e.saw("%s", dial.result())
	})
	add("canceled after", func(e *env) {
		ctx, cancel := context.WithCancel(context.Background())
		l := e.farListener()
		c, err := e.near.Dial(ctx, e.tcp(), l.Addr().String())
		e.must(err)
		far := e.accept(l)
		cancel()
		e.send(c, "hello")
		e.saw("%q", e.exactly(far, 5))
	})
	add("deadline before", func(e *env) {
		ctx, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
		defer cancel()
		l := e.farListener()
		c, err := e.near.Dial(ctx, e.tcp(), l.Addr().String())
		e.saw("%s", e.opened(c == nil, err))
	})
	lossy("deadline while it waits", func(e *env) {
		at := soon()
		ctx, cancel := context.WithDeadline(context.Background(), at)
		defer cancel()
		c, err := e.near.Dial(ctx, e.tcp(), e.hole.String())
		e.saw("%s, %s", e.opened(c == nil, err), timing(at, err))
	})
	add("deadline after", func(e *env) {
		ctx, cancel := context.WithDeadline(context.Background(), e.late())
		l := e.farListener()
		c, err := e.near.Dial(ctx, e.tcp(), l.Addr().String())
		e.must(err)
		far := e.accept(l)
		cancel()
		e.send(c, "hello")
		e.saw("%q", e.exactly(far, 5))
	})
	add("many wait, each ends by its own deadline", func(e *env) {
		var calls []*call
		for range 8 {
			calls = append(calls, e.start(func() string {
				at := soon()
				ctx, cancel := context.WithDeadline(context.Background(), at)
				defer cancel()
				_, err := e.near.Dial(ctx, e.tcp(), e.hole.String())
				return timing(at, err)
			}))
		}
		for _, c := range calls {
			e.saw("%s", c.result())
		}
	})

	// Where there is no way.
	inLab("TCP network unreachable", func(e *env) {
		e.saw("%s", e.tryDial(e.tcp(), hostPort(e.strange(string(e.family)), 80)))
	})
	inLab("UDP network unreachable", func(e *env) {
		e.saw("%s", e.tryDial(e.udp(), hostPort(e.strange(string(e.family)), 80)))
	})
	inLab("TCP host unreachable", func(e *env) {
		e.saw("%s", e.tryDial(e.tcp(), hostPort(e.nobody(), 80)))
	})
	inLab("WriteTo network unreachable", func(e *env) {
		c := e.nearPacket()
		e.saw("%s", e.io(c.WriteToUDP([]byte("x"), &net.UDPAddr{IP: e.strange(string(e.family)).AsSlice(), Port: 80})))
	})

	all = append(all, behaviour{name: "dial/WriteTo the network's broadcast address", lab: true, only: '4', run: func(e *env) {
		c := e.nearPacket()
		far, err := e.far.ListenUDP("udp4", nil)
		e.must(err)
		port := portOf(far.LocalAddr())
		b := e.nearHost.As4()
		b[3] = 255
		e.saw("%s", e.io(c.WriteToUDP([]byte("all"), &net.UDPAddr{IP: b[:], Port: port})))
		// Datagrams of a socket do not overtake each other: what comes first tells.
		_, err = c.WriteToUDP([]byte("end"), e.farUDP(port))
		e.must(err)
		e.saw("arrived: %v", string(e.datagram(far)) == "all")
	}}, behaviour{name: "dial/WriteTo the broadcast address", lab: true, only: '4', run: func(e *env) {
		c := e.nearPacket()
		e.saw("%s", e.io(c.WriteToUDP([]byte("all"), &net.UDPAddr{IP: net.IPv4bcast, Port: discardPort})))
	}})

	// Addresses of what came to be.
	lossy("TCP addresses", func(e *env) {
		c, far := e.dialed()
		e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
		e.saw("%s %s", e.names.text(c.LocalAddr().String()), e.names.text(c.RemoteAddr().String()))
		e.saw("%s %s", c.LocalAddr().Network(), c.RemoteAddr().Network())
		e.saw("%v %v", c.LocalAddr().String() == far.RemoteAddr().String(), c.RemoteAddr().String() == far.LocalAddr().String())
	})
	add("addresses of an accepted connection", func(e *env) {
		c, far := e.accepted()
		e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
		e.saw("%v %v", c.LocalAddr().String() == far.RemoteAddr().String(), c.RemoteAddr().String() == far.LocalAddr().String())
	})
	add("UDP addresses", func(e *env) {
		c, far := e.connectedUDP()
		e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
		e.saw("%s %s", e.names.text(c.LocalAddr().String()), e.names.text(c.RemoteAddr().String()))
		e.saw("%s %v", c.LocalAddr().Network(), c.RemoteAddr().String() == far.LocalAddr().String())
	})
	add("addresses are kept after a reset and Close", func(e *env) {
		c, far := e.dialed()
		e.reset(far)
		e.saw("%s", e.readAll(c))
		e.must(c.Close())
		e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
	})
	add("TCP from a port", func(e *env) {
		port := e.spare(e.near)
		e.call(e.nearTCP(port), "near")
		l := e.farListener()
		c, err := e.near.DialTCP(e.tcp(), e.nearTCP(port), e.farTCP(portOf(l.Addr())))
		e.must(err)
		e.saw("%s %v", e.addr(c.LocalAddr()), portOf(c.LocalAddr()) == port)
		e.saw("%v", portOf(e.accept(l).RemoteAddr()) == port)
	})
	add("TCP from a port of any address", func(e *env) {
		port := e.spare(e.near)
		e.call(e.nearTCP(port), "near")
		l := e.farListener()
		c, err := e.near.DialTCP(e.tcp(), &net.TCPAddr{Port: port}, e.farTCP(portOf(l.Addr())))
		e.must(err)
		e.saw("%s %v", e.addr(c.LocalAddr()), portOf(c.LocalAddr()) == port)
	})
	add("TCP from the port of a listener", func(e *env) {
		l := e.farListener()
		mine := e.nearListener()
		c, err := e.near.DialTCP(e.tcp(), e.nearTCP(portOf(mine.Addr())), e.farTCP(portOf(l.Addr())))
		e.saw("%s", e.opened(c == nil, err))
	})
	add("TCP twice from one port to one address", func(e *env) {
		l := e.farListener()
		c, err := e.near.DialTCP(e.tcp(), nil, e.farTCP(portOf(l.Addr())))
		e.must(err)
		e.call(e.accept(l).RemoteAddr(), "near")
		again, err := e.near.DialTCP(e.tcp(), e.nearTCP(portOf(c.LocalAddr())), e.farTCP(portOf(l.Addr())))
		e.saw("%s", e.opened(again == nil, err))
	})
	add("TCP again from a port in TIME-WAIT", func(e *env) {
		l := e.farListener()
		c, err := e.near.DialTCP(e.tcp(), e.nearTCP(e.spare(e.near)), e.farTCP(portOf(l.Addr())))
		e.must(err)
		far := e.accept(l)
		e.call(far.RemoteAddr(), "near")
		e.must(c.CloseWrite())
		e.saw("%s", e.readAll(far))
		e.must(far.Close())
		e.saw("%s", e.readAll(c))
		e.must(c.Close())
		again, err := e.near.DialTCP(e.tcp(), e.nearTCP(portOf(c.LocalAddr())), e.farTCP(portOf(l.Addr())))
		e.saw("%s", e.opened(again == nil, err))
	})
	lossy("TCP again from a port after the peer has closed", func(e *env) {
		l := e.farListener()
		c, err := e.near.DialTCP(e.tcp(), e.nearTCP(e.spare(e.near)), e.farTCP(portOf(l.Addr())))
		e.must(err)
		e.must(e.accept(l).Close())
		e.saw("%s", e.readAll(c))
		e.must(c.Close())
		var again tcpConn
		for until := e.late(); time.Now().Before(until); <-time.After(time.Millisecond) {
			// The port is free when the peer has acknowledged the end.
			again, err = e.near.DialTCP(e.tcp(), e.nearTCP(portOf(c.LocalAddr())), e.farTCP(portOf(l.Addr())))
			if !errors.Is(err, syscall.EADDRINUSE) {
				break
			}
		}
		e.must(err)
		far := e.accept(l)
		e.send(again, "hello")
		e.saw("%q", e.exactly(far, 5))
	})
	add("UDP from a port", func(e *env) {
		port := e.spare(e.near)
		e.call(e.nearUDP(port), "near")
		far := e.farPacket()
		c, err := e.near.DialUDP(e.udp(), e.nearUDP(port), e.farUDP(portOf(far.LocalAddr())))
		e.must(err)
		e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
	})
	add("UDP from a port that is taken", func(e *env) {
		c := e.nearPacket()
		far := e.farPacket()
		again, err := e.near.DialUDP(e.udp(), e.nearUDP(portOf(c.LocalAddr())), e.farUDP(portOf(far.LocalAddr())))
		e.saw("%s", e.opened(again == nil, err))
	})
	add("ports differ", func(e *env) {
		l := e.farListener()
		seen := make(map[int]bool)
		for range 20 {
			c, err := e.near.DialTCP(e.tcp(), nil, e.farTCP(portOf(l.Addr())))
			e.must(err)
			e.accept(l)
			seen[portOf(c.LocalAddr())] = true
		}
		e.saw("%d ports, %v", len(seen), seen[0])
	})

	// To oneself.
	for _, host := range []string{"", "HOST", "0.0.0.0", "[::]"} {
		if host == "0.0.0.0" || host == "[::]" {
			only := byte('4')
			if host == "[::]" {
				only = '6'
			}
			all = append(all, behaviour{name: "dial/TCP to oneself, " + host, only: only, run: func(e *env) { e.dialSelf(host) }})
			continue
		}
		add("TCP to oneself, "+host, func(e *env) {
			if host == "HOST" {
				e.dialSelf(bracket(e.nearHost))
			} else {
				e.dialSelf("")
			}
		})
	}
	add("UDP to oneself", func(e *env) {
		c := e.nearPacket()
		d, err := e.near.DialUDP(e.udp(), nil, e.nearUDP(portOf(c.LocalAddr())))
		e.must(err)
		e.send(d, "hello")
		e.saw("%q", e.datagram(c))
		_, err = c.WriteTo([]byte("you too"), d.LocalAddr())
		e.must(err)
		e.saw("%q", e.datagram(d))
	})
	add("TCP to oneself, refused", func(e *env) {
		at := e.nearTCP(e.spare(e.near))
		e.call(at, "closed")
		e.saw("%s", e.tryDial(e.tcp(), at.String()))
	})
	return all
}

// dialSelf dials a listener of the same end.
func (e *env) dialSelf(host string) {
	l, err := e.near.Listen(e.tcp(), ":0")
	e.must(err)
	e.call(l.Addr(), "near")
	ctx, cancel := context.WithDeadline(context.Background(), e.late())
	defer cancel()
	_, port, err := net.SplitHostPort(l.Addr().String())
	e.must(err)
	c, err := e.near.Dial(ctx, e.tcp(), host+":"+port)
	e.must(err)
	s := e.accept(l)
	e.saw("%s %s", e.addr(c.RemoteAddr()), e.addr(s.LocalAddr()))
	e.saw("%v", c.LocalAddr().String() == s.RemoteAddr().String())
	e.send(c, "hello")
	e.saw("%q", e.exactly(s, 5))
	e.must(s.Close())
	e.saw("%s", e.readAll(c))
}
