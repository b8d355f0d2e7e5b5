package netdiff

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A blocker is a call that can wait: what to make it on, how to set its deadline,
// and how to let it end well.
type blocker struct {
	name string

	// make returns the call, and the three things to do about it. feed lets one
	// call end; it is nil if that takes more than a moment.
	make func(*env) (do func() string, set func(time.Time) error, feed func(), close func() error)
}

var blockers = []blocker{
	{"Read", func(e *env) (func() string, func(time.Time) error, func(), func() error) {
		c, far := e.dialed()
		return func() string { return e.read(c, 8) }, c.SetReadDeadline, func() { e.send(far, "x") }, c.Close
	}},
	{"Read of an accepted connection", func(e *env) (func() string, func(time.Time) error, func(), func() error) {
		c, far := e.accepted()
		return func() string { return e.read(c, 8) }, c.SetReadDeadline, func() { e.send(far, "x") }, c.Close
	}},
	{"Write", func(e *env) (func() string, func(time.Time) error, func(), func() error) {
		c, far := e.dialed()
		// How much fits is not compared.
		do := func() string {
			n, err := c.Write(tooMuch)
			return fmt.Sprintf("all %v, %s", n == len(tooMuch), e.err(err))
		}
		return do, c.SetWriteDeadline, func() {
			e.start(func() string { return e.readAll(far) })
		}, c.Close
	}},
	{"Accept", func(e *env) (func() string, func(time.Time) error, func(), func() error) {
		l := e.nearListener()
		do := func() string {
			c, err := l.Accept()
			return fmt.Sprintf("%v %s", c == nil, e.err(err))
		}
		feed := func() {
			_, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
			e.must(err)
		}
		return do, l.SetDeadline, feed, l.Close
	}},
	{"ReadFrom", func(e *env) (func() string, func(time.Time) error, func(), func() error) {
		c, far := e.nearPacket(), e.farPacket()
		do := func() string {
			n, a, err := c.ReadFrom(make([]byte, 8))
			return fmt.Sprintf("%d bytes from %s, %s", n, e.addr(a), e.err(err))
		}
		return do, c.SetReadDeadline, func() {
			_, err := far.WriteToUDP([]byte("x"), e.nearUDP(portOf(c.LocalAddr())))
			e.must(err)
		}, c.Close
	}},
	{"Read of UDP", func(e *env) (func() string, func(time.Time) error, func(), func() error) {
		c, far := e.connectedUDP()
		return func() string { return e.read(c, 8) }, c.SetReadDeadline, func() {
			_, err := far.WriteToUDP([]byte("x"), e.nearUDP(portOf(c.LocalAddr())))
			e.must(err)
		}, c.Close
	}},
}

// deadlineBehaviours are about deadlines and Close, for each call that can block.
func deadlineBehaviours() (all []behaviour) {
	for _, b := range slices.Concat(blockers, moreBlockers) {
		add := func(name string, run func(*env)) {
			all = append(all, behaviour{name: "blocking/" + b.name + "/" + name, run: run})
		}
		lossy := func(name string, run func(*env)) {
			// Datagrams that are lost stay lost, and more than fits takes minutes.
			bears := !strings.Contains(b.name, "UDP") && b.name != "ReadFrom" && b.name != "Write"
			all = append(all, behaviour{name: "blocking/" + b.name + "/" + name, run: run, lossy: bears})
		}
		add("deadline long past", func(e *env) {
			do, set, _, _ := b.make(e)
			e.must(set(time.Unix(1, 0)))
			e.saw("%s", do())
			e.saw("%s", do())
		})
		lossy("deadline reached", func(e *env) {
			do, set, _, _ := b.make(e)
			at := soon()
			e.must(set(at))
			e.saw("%s", do())
			e.saw("%s", when(at))
			e.saw("%s", do())
		})
		add("deadline set while it waits", func(e *env) {
			do, set, _, _ := b.make(e)
			c := e.blocked(do)
			at := soon()
			e.must(set(at))
			e.saw("%s", c.result())
			e.saw("%s", when(at))
		})
		add("deadline set to the past while it waits", func(e *env) {
			do, set, _, _ := b.make(e)
			c := e.blocked(do)
			e.must(set(time.Unix(1, 0)))
			e.saw("%s", c.result())
		})
		add("deadline moved closer while it waits", func(e *env) {
			do, set, _, _ := b.make(e)
			e.must(set(e.late()))
			c := e.blocked(do)
			at := soon()
			e.must(set(at))
			e.saw("%s", c.result())
			e.saw("%s", when(at))
		})
		add("deadline moved away while it waits", func(e *env) {
			do, set, feed, _ := b.make(e)
			other := e.nearPacket() // keeps the first deadline, too
			var c *call
			for d := 100 * time.Millisecond; ; d *= 2 {
				at := time.Now().Add(d)
				e.must(set(at))
				e.must(other.SetReadDeadline(at))
				c = e.blocked(do)
				e.must(set(e.late()))
				if time.Now().Before(at) {
					break
				}
				e.must(set(time.Unix(1, 0))) // too slow to see what this is about
				c.result()
			}
			other.ReadFrom(make([]byte, 1)) // until then
			feed()
			e.saw("%s", c.result())
		})
		add("deadline taken back", func(e *env) {
			do, set, feed, _ := b.make(e)
			e.must(set(time.Unix(1, 0)))
			e.saw("%s", do())
			e.must(set(time.Time{}))
			c := e.blocked(do)
			feed()
			e.saw("%s", c.result())
		})
		lossy("ends well before a deadline", func(e *env) {
			do, set, feed, _ := b.make(e)
			e.must(set(e.late()))
			c := e.blocked(do)
			feed()
			e.saw("%s", c.result())
		})
		add("deadline past, and there is something", func(e *env) {
			do, set, feed, _ := b.make(e)
			feed()
			e.must(set(time.Unix(1, 0)))
			e.saw("%s", do())
		})
		lossy("Close while it waits", func(e *env) {
			do, _, _, closing := b.make(e)
			c := e.blocked(do)
			e.saw("%s", e.err(closing()))
			e.saw("%s", c.result())
		})
		add("Close while three wait", func(e *env) {
			do, _, _, closing := b.make(e)
			var calls []*call
			for range 3 {
				calls = append(calls, e.blocked(do))
			}
			e.saw("%s", e.err(closing()))
			for _, c := range calls {
				e.saw("%s", c.result())
			}
		})
		add("Close while it waits for a deadline", func(e *env) {
			do, set, _, closing := b.make(e)
			e.must(set(e.late()))
			c := e.blocked(do)
			e.saw("%s", e.err(closing()))
			e.saw("%s", c.result())
			e.saw("%s", e.err(set(e.late())))
		})
		add("Close after a deadline", func(e *env) {
			do, set, _, closing := b.make(e)
			e.must(set(time.Unix(1, 0)))
			e.saw("%s", do())
			e.saw("%s", e.err(closing()))
			e.saw("%s", do())
		})
		add("two wait, a deadline ends both", func(e *env) {
			do, set, _, _ := b.make(e)
			c, d := e.blocked(do), e.blocked(do)
			e.must(set(soon()))
			e.saw("%s", c.result())
			e.saw("%s", d.result())
		})
		add("Close twice at once", func(e *env) {
			_, _, _, closing := b.make(e)
			c, d := e.start(func() string { return e.err(closing()) }), e.start(func() string { return e.err(closing()) })
			first, second := c.result(), d.result()
			if first != "ok" {
				first, second = second, first
			}
			e.saw("%s / %s", first, second)
		})
	}
	add := func(name string, run func(*env)) { all = append(all, behaviour{name: "blocking/" + name, run: run}) }
	add("a read deadline does not end a Write", func(e *env) {
		c, far := e.dialed()
		e.must(c.SetReadDeadline(time.Unix(1, 0)))
		e.saw("%s", e.io(c.Write([]byte("hello"))))
		e.saw("%q", e.exactly(far, 5))
	})
	add("a write deadline does not end a Read", func(e *env) {
		c, far := e.dialed()
		e.must(c.SetWriteDeadline(time.Unix(1, 0)))
		e.send(far, "hello")
		e.saw("%q", e.exactly(c, 5))
	})
	add("SetDeadline ends both", func(e *env) {
		c, _ := e.dialed()
		write := e.blocked(func() string {
			_, err := c.Write(tooMuch)
			return e.err(err)
		})
		read := e.blocked(func() string { return e.read(c, 1) })
		e.must(c.SetDeadline(soon()))
		e.saw("%s", write.result())
		e.saw("%s", read.result())
	})
	add("SetDeadline clears both", func(e *env) {
		c, far := e.dialed()
		e.must(c.SetDeadline(time.Unix(1, 0)))
		e.must(c.SetDeadline(time.Time{}))
		e.saw("%s", e.io(c.Write([]byte("hello"))))
		e.send(far, "hello")
		e.saw("%q", e.exactly(c, 5))
	})
	add("SetDeadline ends a Write of UDP that is past it", func(e *env) {
		c, _ := e.connectedUDP()
		e.must(c.SetDeadline(time.Unix(1, 0)))
		e.saw("%s", e.io(c.Write([]byte("hello"))))
	})
	add("CloseRead ends a Read", func(e *env) {
		c, _ := e.dialed()
		read := e.blocked(func() string { return e.read(c, 1) })
		e.saw("%s", e.err(c.CloseRead()))
		e.saw("%s", read.result())
	})
	add("CloseWrite ends a Write", func(e *env) {
		c, _ := e.dialed()
		write := e.blocked(func() string {
			n, err := c.Write(tooMuch)
			return fmt.Sprintf("all %v, %s", n == len(tooMuch), e.err(err))
		})
		e.saw("%s", e.err(c.CloseWrite()))
		e.saw("%s", write.result())
	})
	add("the peer's CloseWrite ends a Read", func(e *env) {
		c, far := e.dialed()
		read := e.blocked(func() string { return e.read(c, 1) })
		e.must(far.CloseWrite())
		e.saw("%s", read.result())
	})
	add("Close does not end the peer's Write at once", func(e *env) {
		c, far := e.dialed()
		e.must(c.Close())
		e.saw("%s", e.readAll(far))
		e.saw("%s", e.io(far.Write([]byte("x"))))
	})
	add("Accept, Close and the connection in the queue", func(e *env) {
		l := e.nearListener()
		c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
		e.must(err)
		// The second one shows that the first is in the queue.
		_, err = e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
		e.must(err)
		e.must(c.SetReadDeadline(e.late()))
		e.accept(l)
		e.accept(l)
		e.must(l.Close())
		e.must(c.SetReadDeadline(soon()))
		e.saw("%s", e.read(c, 1)) // accepted ones stay
	})
	add("net.Pipe-like ping-pong with deadlines that move", func(e *env) {
		c, far := e.dialed()
		for i := range 20 {
			e.must(c.SetDeadline(e.late()))
			e.send(c, string(rune('a'+i)))
			e.send(far, string(e.exactly(far, 1)))
			e.saw("%q", e.exactly(c, 1))
		}
	})
	return all
}

// listenBehaviours are about listeners and ports.
func listenBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) { all = append(all, behaviour{name: "listen/" + name, run: run}) }
	lossy := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "listen/" + name, run: run, lossy: true})
	}
	// Two sockets on one port: which pairs there can be.
	type place struct{ name, network, host string }
	places := []place{
		{"all", "", ""}, {"family", "FAMILY", ""}, {"other family", "OTHER", ""}, {"host", "", "HOST"},
		{"wildcard of the family", "", "ANY"},
	}
	words := func(e *env, p place, proto, port string) (network, address string) {
		network = strings.NewReplacer("FAMILY", string(e.family), "OTHER", e.other()).Replace(proto + p.network)
		anyHost := map[byte]string{'4': "0.0.0.0", '6': "[::]"}[e.family]
		return network, strings.NewReplacer("HOST", bracket(e.nearHost), "ANY", anyHost).Replace(p.host) + ":" + port
	}
	for _, first := range places {
		for _, second := range places {
			add(fmt.Sprintf("TCP %s, then %s", first.name, second.name), func(e *env) {
				port := strconv.Itoa(e.spare(e.near))
				l, err := e.near.Listen(words(e, first, "tcp", port))
				e.must(err)
				e.call(l.Addr(), "near")
				e.saw("%s", e.tryListen(words(e, second, "tcp", port)))
			})
			add(fmt.Sprintf("UDP %s, then %s", first.name, second.name), func(e *env) {
				port := strconv.Itoa(e.spare(e.near))
				c, err := e.near.ListenPacket(words(e, first, "udp", port))
				e.must(err)
				e.call(c.LocalAddr(), "near")
				e.saw("%s", e.tryListenPacket(words(e, second, "udp", port)))
			})
		}
	}
	add("TCP and UDP on one port", func(e *env) {
		l, err := e.near.ListenTCP(e.tcp(), e.nearTCP(e.spare(e.near)))
		e.must(err)
		e.saw("%s", e.tryListenPacket(e.udp(), l.Addr().String()))
	})
	add("again after Close", func(e *env) {
		l, err := e.near.ListenTCP(e.tcp(), e.nearTCP(e.spare(e.near)))
		e.must(err)
		e.call(l.Addr(), "near")
		e.must(l.Close())
		e.saw("%s", e.tryListen(e.tcp(), l.Addr().String()))
	})
	add("UDP again after Close", func(e *env) {
		c, err := e.near.ListenUDP(e.udp(), e.nearUDP(e.spare(e.near)))
		e.must(err)
		e.must(c.Close())
		e.saw("%s", e.tryListenPacket(e.udp(), c.LocalAddr().String()))
	})
	add("again while a connection lives", func(e *env) {
		c, _ := e.acceptedAt(e.spare(e.near))
		e.saw("%s", e.tryListen(e.tcp(), c.LocalAddr().String()))
	})
	add("again while a connection is in TIME-WAIT", func(e *env) {
		c, far := e.acceptedAt(e.spare(e.near))
		e.must(c.Close())
		e.saw("%s", e.readAll(far))
		e.must(far.Close())
		e.saw("%s", e.tryListen(e.tcp(), c.LocalAddr().String()))
	})
	add("on the port of a connection that was dialed", func(e *env) {
		c, _ := e.dialed()
		e.saw("%s", e.tryListen(e.tcp(), c.LocalAddr().String()))
	})
	add("on the port of a UDP socket that was dialed", func(e *env) {
		c, _ := e.connectedUDP()
		e.saw("%s", e.tryListenPacket(e.udp(), c.LocalAddr().String()))
	})
	lossy("connections come in order", func(e *env) {
		l := e.nearListener()
		for i := range 5 {
			c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
			e.must(err)
			s := e.accept(l)
			e.saw("%d %v", i, s.RemoteAddr().String() == c.LocalAddr().String())
		}
	})
	add("connections wait to be accepted", func(e *env) {
		l := e.nearListener()
		var from []string
		for range 50 {
			c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
			e.must(err)
			from = append(from, c.LocalAddr().String())
		}
		for i := range from {
			e.saw("%v", e.accept(l).RemoteAddr().String() != "" && from[i] != "")
		}
	})
	lossy("bytes come before Accept", func(e *env) {
		l := e.nearListener()
		c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
		e.must(err)
		e.send(c, "early")
		e.must(c.Close())
		s := e.accept(l)
		e.saw("%q", e.exactly(s, 5))
		e.saw("%s", e.readAll(s))
	})
	add("a connection that was closed before Accept", func(e *env) {
		l := e.nearListener()
		c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
		e.must(err)
		e.must(c.Close())
		s := e.accept(l)
		e.saw("%s", e.readAll(s))
	})
	add("Close resets who waits to be accepted", func(e *env) {
		l := e.nearListenerAt(e.spare(e.near))
		c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
		e.must(err)
		e.call(c.LocalAddr(), "far")
		next, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
		e.must(err)
		// The first to connect is the first to be accepted, so that the second is
		// in the queue when this returns, or will be when its bytes have come.
		e.accept(l)
		e.send(next, "x")
		e.call(next.LocalAddr(), "next")
		e.accept(l)
		e.must(l.Close())
		e.saw("%s", e.tryDialFar(l))
	})
	add("accepted connections outlive the listener", func(e *env) {
		l := e.nearListener()
		c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
		e.must(err)
		s := e.accept(l)
		e.must(l.Close())
		e.send(c, "hello")
		e.saw("%q", e.exactly(s, 5))
		e.saw("%s", e.io(s.Write([]byte("hello"))))
	})
	add("two accept at once", func(e *env) {
		l := e.nearListener()
		do := func() string {
			_, err := l.Accept()
			return e.err(err)
		}
		a, b := e.blocked(do), e.blocked(do)
		for range 2 {
			_, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
			e.must(err)
		}
		e.saw("%s %s", a.result(), b.result())
	})
	// A listener for both families.
	add("a wildcard takes the family", func(e *env) {
		l, err := e.near.Listen("tcp", ":0")
		e.must(err)
		e.call(l.Addr(), "near")
		c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
		e.must(err)
		e.call(c.LocalAddr(), "far")
		s := e.accept(l)
		e.saw("%s %s", e.names.text(s.LocalAddr().String()), e.names.text(s.RemoteAddr().String()))
	})
	add("a wildcard of one family", func(e *env) {
		// Of the other family, any port might be somebody's who runs beside it.
		l, err := e.near.Listen("tcp"+e.other(), ":"+strconv.Itoa(e.spare(e.near)))
		e.must(err)
		e.call(l.Addr(), "near")
		c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
		if err == nil {
			e.saw("reached: %s", e.addr(c.RemoteAddr()))
		} else {
			e.saw("not reached")
		}
	})
	return all
}

// tryDialFar has the far end dial a listener of the near one.
func (e *env) tryDialFar(l net.Listener) string {
	c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
	return e.opened(c == nil, err)
}
