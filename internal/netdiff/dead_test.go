package netdiff

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// deadBehaviours are about peers that die without a word: who notices, and when.
func deadBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "dead/" + name, filter: true, slow: true, run: run})
	}
	probes := net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 1}
	// idle has a connection that is idle lose its peer, and says how it ends.
	idle := func(e *env, c, far tcpConn) {
		e.must(e.frames.mute(c, far))
		e.must(c.SetDeadline(e.late()))
		e.saw("%s", e.read(c, 8))
		e.saw("%s", e.io(c.Write([]byte("x"))))
	}
	add("probes", func(e *env) {
		c, far := e.dialed()
		e.must(c.SetKeepAliveConfig(probes))
		idle(e, c, far)
	})
	add("probes of an accepted connection", func(e *env) {
		c, far := e.accepted()
		e.must(c.SetKeepAliveConfig(probes))
		idle(e, c, far)
	})
	add("probes of a Dialer", func(e *env) {
		l := e.farListener()
		c, err := e.near.DialBy(context.Background(), &net.Dialer{KeepAliveConfig: probes}, e.tcp(), l.Addr().String())
		e.must(err)
		far := e.accept(l)
		e.call(far.RemoteAddr(), "near")
		idle(e, c.(tcpConn), far)
	})
	add("probes of a ListenConfig", func(e *env) {
		l, err := e.near.ListenBy(context.Background(), &net.ListenConfig{KeepAliveConfig: probes}, e.tcp(), hostPort(e.nearHost, 0))
		e.must(err)
		e.call(l.Addr(), "near")
		far, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
		e.must(err)
		e.call(far.LocalAddr(), "far")
		idle(e, e.accept(l), far)
	})
	add("two probes", func(e *env) {
		c, far := e.dialed()
		two := probes
		two.Count = 2
		e.must(c.SetKeepAliveConfig(two))
		idle(e, c, far)
	})
	add("probes and a user timeout", func(e *env) {
		c, far := e.dialed()
		many := probes
		many.Count = 100
		e.must(c.SetKeepAliveConfig(many))
		e.must(setUserTimeout(c, 1500*time.Millisecond))
		idle(e, c, far)
	})
	add("no probes, nothing to say", func(e *env) {
		c, far := e.dialed()
		e.must(c.SetKeepAlive(false))
		e.must(setUserTimeout(c, userTimeout))
		e.must(e.frames.mute(c, far))
		at := time.Now().Add(3 * userTimeout)
		e.must(c.SetReadDeadline(at))
		e.saw("%s", e.read(c, 8))
		e.saw("%s", when(at))
	})
	add("a peer that answers probes lives", func(e *env) {
		c, far := e.dialed()
		many := probes
		many.Count = 6 // an answer may take seconds, on a busy machine
		e.must(c.SetKeepAliveConfig(many))
		at := time.Now().Add(9 * time.Second)
		e.must(c.SetReadDeadline(at))
		e.saw("%s", e.read(c, 8))
		e.saw("%s", when(at))
		e.send(far, "alive")
		e.saw("%q", e.exactly(c, 5))
	})
	add("data, told to Read", func(e *env) {
		c, far := e.dialed()
		e.dies(c, far)
		e.saw("%s", e.read(c, 8))
		e.saw("%s", e.io(c.Write([]byte("x"))))
		e.saw("%s", e.err(c.Close()))
	})
	add("data, told to Write", func(e *env) {
		c, far := e.accepted()
		e.dies(c, far)
		e.saw("%s", e.writeUntilError(c))
		e.saw("%s", e.io(c.Write([]byte("x"))))
	})
	add("data, told to a blocked Write", func(e *env) {
		c, far := e.dialed()
		e.must(e.frames.mute(c, far))
		write := e.blocked(func() string {
			n, err := c.Write(tooMuch)
			return fmt.Sprintf("all %v, %s", n == len(tooMuch), e.err(err))
		})
		e.must(setUserTimeout(c, userTimeout))
		e.saw("%s", write.result())
	})
	add("data, told to WriteTo", func(e *env) {
		c, far := e.dialed()
		e.dies(c, far)
		e.saw("%s", e.io64(c.WriteTo(io.Discard)))
	})
	add("the end, told to Read", func(e *env) {
		c, far := e.dialed()
		e.silenced(c, far)
		e.must(c.CloseWrite()) // which fails once the connection has given up
		e.must(setUserTimeout(c, userTimeout))
		e.saw("%s", e.read(c, 8))
	})
	add("the end alone, told to Read", func(e *env) {
		c, far := e.dialed()
		e.must(setUserTimeout(c, userTimeout))
		e.must(e.frames.mute(c, far))
		e.must(c.CloseWrite())
		e.must(c.SetReadDeadline(e.late()))
		e.saw("%s", e.read(c, 8))
	})
	add("what had come before is read", func(e *env) {
		c, far := e.dialed()
		e.send(far, "last words")
		e.exactly(c, 5)
		e.dies(c, far)
		e.saw("%s", e.writeUntilError(c))
		e.saw("%s", e.read(c, 8))
	})
	add("Close does not wait", func(e *env) {
		c, far := e.dialed()
		e.dies(c, far)
		e.saw("%s", e.err(c.Close()))
		e.saw("%s", e.read(c, 8))
	})
	return all
}
