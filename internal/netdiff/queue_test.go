package netdiff

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/afxnet/afxnet/stack"
)

// queueBehaviours are about listeners under pressure: connections that wait to be
// accepted, handshakes that wait for their end, and ports that wait to be free.
func queueBehaviours() (all []behaviour) {
	add := func(name string, b behaviour) {
		b.name = "queue/" + name
		all = append(all, b)
	}
	add("of one", behaviour{run: func(e *env) {
		l := e.listenerWith(1)
		for range 10 {
			c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
			e.must(err)
			s := e.accept(l)
			e.send(c, "x")
			e.saw("%q", e.exactly(s, 1))
		}
	}})
	add("handshakes that nobody ends, then all do", behaviour{inside: true, filter: true, slow: true, run: func(e *env) {
		const backlog, dials = 8, 20
		l := e.listenerWith(backlog)
		calls := make(map[int]*call) // by port
		var hear []func() error
		for range dials {
			port := e.spare(e.far)
			d := &net.Dialer{LocalAddr: e.farTCP(port)}
			hear = append(hear, e.frames.deafen(d))
			calls[port] = e.blocked(func() string {
				c, err := e.far.DialBy(context.Background(), d, e.tcp(), hostPort(e.nearHost, portOf(l.Addr())))
				e.must(err)
				e.must(c.SetDeadline(e.late()))
				_, err = c.Write([]byte{byte('a' + portOf(c.LocalAddr())%26)})
				e.must(err)
				return e.read(c, 8)
			})
		}
		for _, h := range hear {
			e.must(h())
		}
		for range dials {
			s := e.accept(l)
			port, b := portOf(s.RemoteAddr()), make([]byte, 1)
			e.must(s.SetReadDeadline(e.late()))
			if _, err := s.Read(b); err != nil {
				panic(stopped(fmt.Sprintf("reading what port %d sent: %s; there: %s", port, e.err(err), calls[port].soFar())))
			}
			e.saw("%v", b[0] == byte('a'+port%26))
			e.send(s, "back")
		}
		for _, c := range calls {
			e.saw("%s", c.result())
		}
	}})
	// Half of what has come waits here, and the other half at the peer.
	add("handshakes that nobody ends, and others do", behaviour{inside: true, filter: true, slow: true, run: func(e *env) {
		const backlog, dials = 4, 12
		l := e.listenerWith(backlog)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for range dials {
			d := &net.Dialer{LocalAddr: e.farTCP(e.spare(e.far))}
			defer e.frames.deafen(d)() //nolint:errcheck // the port is another's afterwards
			e.blocked(func() string {
				_, err := e.far.DialBy(ctx, d, e.tcp(), hostPort(e.nearHost, portOf(l.Addr())))
				return e.err(err)
			})
		}
		for range 2 * backlog {
			c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
			e.must(err)
			s := e.accept(l)
			e.send(s, "x")
			e.saw("%q", e.exactly(c, 1))
		}
	}})

	// A proxy closes first, and so has the connections in TIME-WAIT.
	add("a client that closes first comes back, from any port", behaviour{run: func(e *env) {
		l := e.farListener()
		for range 50 {
			c, err := e.near.DialTCP(e.tcp(), nil, e.farTCP(portOf(l.Addr())))
			e.must(err)
			far := e.accept(l)
			e.send(c, "x")
			e.exactly(far, 1)
			e.must(c.CloseWrite())
			e.readAll(far)
			e.must(far.Close())
			e.saw("%s %s", e.readAll(c), e.err(c.Close()))
		}
	}})
	add("a server that closes first is come back to, from one port", behaviour{run: func(e *env) {
		l := e.nearListener()
		from := e.farTCP(e.spare(e.far))
		e.call(from, "far")
		for range 20 {
			far, err := e.far.DialTCP(e.tcp(), from, e.nearTCP(portOf(l.Addr())))
			for until := e.late(); inUse(err) && time.Now().Before(until); <-time.After(time.Millisecond) {
				far, err = e.far.DialTCP(e.tcp(), from, e.nearTCP(portOf(l.Addr())))
			}
			e.must(err)
			s := e.accept(l)
			e.send(far, "x")
			e.saw("%q from %s", e.exactly(s, 1), e.addr(s.RemoteAddr()))
			e.must(s.Close()) // is in TIME-WAIT when the other end has closed too
			e.saw("%s", e.readAll(far))
			e.must(far.Close())
		}
	}})
	return all
}

// listenerWith returns a listener with room for so many connections that nobody has
// accepted. For package net that is net.core.somaxconn, and the system call's to
// change.
func (e *env) listenerWith(backlog int) tcpListener {
	t := trackedIn(e.near)
	if o, ok := t.network.(ours); ok {
		l, err := (&stack.ListenConfig{Stack: o.Stack, Backlog: backlog}).Listen(context.Background(), e.tcp(), hostPort(e.nearHost, 0))
		e.must(err)
		l, err = t.keepListener(l, nil)
		e.must(err)
		e.call(l.Addr(), "near")
		return l.(tcpListener)
	}
	l := e.nearListener()
	e.must(setBacklog(l.(*trackedListener).tcpListener.(*net.TCPListener), backlog))
	return l
}

// trackedIn returns the network that a mutant is around.
func trackedIn(n network) *tracked {
	for {
		m, ok := n.(*mutant)
		if !ok {
			return n.(*tracked)
		}
		n = m.network
	}
}

// moreBlockers are blockers, too.
var moreBlockers = []blocker{
	{"ReadFromUDPAddrPort", func(e *env) (func() string, func(time.Time) error, func(), func() error) {
		return e.udpBlocker(func(c udpConn) string {
			n, a, err := c.ReadFromUDPAddrPort(make([]byte, 8))
			return e.msg(n, 0, err) + e.addrPort(a)
		})
	}},
	{"ReadMsgUDP", func(e *env) (func() string, func(time.Time) error, func(), func() error) {
		return e.udpBlocker(func(c udpConn) string {
			n, oobn, flags, a, err := c.ReadMsgUDP(make([]byte, 8), make([]byte, 8))
			return e.readMsg(n, oobn, flags, e.addr(a), err)
		})
	}},
	{"ReadBatch of UDP", func(e *env) (func() string, func(time.Time) error, func(), func() error) {
		return e.udpBlocker(func(c udpConn) string {
			n, err := c.ReadBatch(batch(2), 0)
			return fmt.Sprintf("%d datagrams, %s", n, e.cause(err))
		})
	}},
	{"WriteTo of TCP", func(e *env) (func() string, func(time.Time) error, func(), func() error) {
		c, far := e.dialed()
		return func() string { return e.io64(c.WriteTo(discard{})) }, c.SetReadDeadline, func() { e.must(far.CloseWrite()) }, c.Close
	}},
}

// discard is io.Discard without its methods.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// udpBlocker is a blocker that reads from an unconnected socket.
func (e *env) udpBlocker(read func(udpConn) string) (func() string, func(time.Time) error, func(), func() error) {
	c, far := e.nearPacket(), e.farPacket()
	feed := func() {
		_, err := far.WriteToUDP([]byte("x"), e.nearUDP(portOf(c.LocalAddr())))
		e.must(err)
	}
	return func() string { return read(c) }, c.SetReadDeadline, feed, c.Close
}
