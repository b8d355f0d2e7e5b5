package netdiff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func inUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// endBehaviours are about Close, and about calls that come to nothing.
func endBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) { all = append(all, behaviour{name: "end/" + name, run: run}) }
	lossy := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "end/" + name, run: run, lossy: true})
	}
	// How a connection ends, for each linger: what its owner and its peer see.
	for _, seconds := range []int{-1, 0, 1} {
		linger := fmt.Sprintf(", linger %d", seconds)
		add("Close with bytes unread"+linger, func(e *env) {
			c, far := e.dialed()
			e.must(c.SetLinger(seconds))
			e.send(far, "hello")
			e.exactly(c, 1)
			e.saw("%s", e.err(c.Close()))
			e.saw("%s", e.readAll(far))
		})
		add("Close after the peer has closed"+linger, func(e *env) {
			c, far := e.accepted()
			e.must(c.SetLinger(seconds))
			e.must(far.CloseWrite())
			e.saw("%s", e.readAll(c))
			e.saw("%s", e.err(c.Close()))
			e.saw("%s", e.readAll(far))
		})
		add("Close after CloseWrite"+linger, func(e *env) {
			c, far := e.dialed()
			e.must(c.SetLinger(seconds))
			e.send(c, "last words")
			e.must(c.CloseWrite())
			e.must(far.SetReadDeadline(e.late()))
			b, err := io.ReadAll(far)
			e.saw("%q %s", b, e.err(err))
			e.saw("%s", e.err(c.Close()))
			e.saw("%s", e.writeUntilError(far))
		})
		add("Close twice, and a Write and a Read"+linger, func(e *env) {
			c, _ := e.dialed()
			e.must(c.SetLinger(seconds))
			e.saw("%s", e.err(c.Close()))
			e.saw("%s", e.err(c.Close()))
			e.saw("%s %s", e.io(c.Write(nil)), e.io(c.Read(nil)))
			e.saw("%s", e.err(c.SetLinger(seconds)))
		})
	}
	add("Close with linger 0 while a Write blocks", func(e *env) {
		c, far := e.dialed()
		write := e.fill(c)
		e.must(c.SetLinger(0))
		e.saw("%s", e.err(c.Close()))
		_, s, _ := bytes.Cut([]byte(write.result()), []byte(", "))
		e.saw("%s", s)
		e.must(far.SetReadDeadline(e.late()))
		_, err := io.Copy(io.Discard, far)
		e.saw("%s", e.err(err))
	})
	add("Close while a Read, a Write and a WriteTo block", func(e *env) {
		c, _ := e.dialed()
		write := e.fill(c)
		read := e.blocked(func() string { return e.read(c, 8) })
		copied := e.blocked(func() string { return e.io64(c.WriteTo(discard{})) })
		e.saw("%s", e.err(c.Close()))
		_, s, _ := bytes.Cut([]byte(write.result()), []byte(", "))
		e.saw("%s / %s / %s", s, read.result(), copied.result())
	})
	add("CloseWrite with bytes that wait", func(e *env) {
		c, far := e.dialed()
		e.must(c.SetWriteDeadline(soon()))
		n, err := c.Write(tooMuch)
		e.saw("all %v, %s", n == len(tooMuch), e.err(err))
		e.saw("%s", e.err(c.CloseWrite()))
		e.saw("%s", e.io(c.Write([]byte("x"))))
		e.must(far.SetReadDeadline(e.late()))
		m, err := io.Copy(io.Discard, far)
		e.saw("all %v, %s", int(m) == n, e.err(err))
		e.send(far, "seen")
		e.saw("%q", e.exactly(c, 4))
	})
	add("many goroutines write, each line arrives whole", func(e *env) {
		c, far := e.accepted()
		const writers, lines = 16, 50
		var calls []*call
		for i := range writers {
			line := append(bytes.Repeat([]byte{byte('a' + i)}, 99+i), '\n')
			calls = append(calls, e.start(func() string {
				for range lines {
					if n, err := c.Write(line); n != len(line) || err != nil {
						return e.io(n, err)
					}
				}
				return ""
			}))
		}
		whole := e.start(func() string {
			e.must(far.SetReadDeadline(e.late()))
			b, err := io.ReadAll(far)
			good := 0
			for line := range bytes.Lines(b) {
				i := int(line[0] - 'a')
				if i < writers && bytes.Equal(line, append(bytes.Repeat(line[:1], 99+i), '\n')) {
					good++
				}
			}
			return fmt.Sprintf("%d whole lines, %s", good, e.err(err))
		})
		for _, w := range calls {
			e.saw("%s", w.result())
		}
		e.must(c.CloseWrite())
		e.saw("%s", whole.result())
	})
	add("Read of nothing waits for who reads", func(e *env) {
		c, far := e.dialed()
		read := e.blocked(func() string { return e.read(c, 8) })
		nothing := e.blocked(func() string { return e.io(c.Read(nil)) })
		e.send(far, "x")
		e.saw("%s", read.result())
		e.saw("%s", nothing.result())
	})
	lossy("a deadline of the past, again and again", func(e *env) {
		c, far := e.dialed()
		for range 5 {
			read := e.blocked(func() string { return e.read(c, 8) })
			e.must(c.SetReadDeadline(time.Unix(1, 0)))
			e.saw("%s", read.result())
			e.must(c.SetReadDeadline(time.Time{}))
		}
		e.send(far, "hello")
		e.saw("%q", e.exactly(c, 5))
	})
	lossy("nothing is written, and something after", func(e *env) {
		c, far := e.accepted()
		for range 3 {
			e.saw("%s %s", e.io(c.Write(nil)), e.io(c.Read([]byte{})))
		}
		e.must(c.SetDeadline(time.Unix(1, 0)))
		e.saw("%s %s", e.io(c.Write(nil)), e.io(c.Read(nil)))
		e.must(c.SetDeadline(time.Time{}))
		e.send(c, "x")
		e.saw("%q", e.exactly(far, 1))
	})
	return all
}

// stageBehaviours are about the stages of a dial by name to two families. Package
// net dials those on goroutines of its own, which are not in the lab.
func stageBehaviours() (all []behaviour) {
	add := func(only byte, name string, run func(*env)) {
		all = append(all, behaviour{name: "stage/" + name, only: only, inside: true, run: run})
	}
	// By name, IPv6 is dialed first. The hole of IPv6 answers to nothing.
	both := func(e *env, delay time.Duration) *net.Dialer {
		return &net.Dialer{FallbackDelay: delay, Resolver: e.answers().resolver()}
	}
	hole := func(e *env) string {
		e.call(&net.TCPAddr{Port: int(e.hole.Port())}, "hole")
		return hostPortOf("both.test.", int(e.hole.Port()))
	}
	for _, x := range []struct {
		name  string
		delay time.Duration
	}{{"before the other family is dialed", time.Hour}, {"while both families are dialed", time.Nanosecond}} {
		add('6', "canceled "+x.name, func(e *env) { e.saw("%s", e.canceled(hole(e), x.delay)) })
		add('6', "deadline "+x.name, func(e *env) {
			e.saw("%s", e.pastLookup(x.delay, func(d *net.Dialer, _ <-chan struct{}) string {
				at := soon()
				ctx, cancel := context.WithDeadline(context.Background(), at)
				defer cancel()
				c, err := e.near.DialBy(ctx, d, "tcp", hole(e))
				return e.opened(c == nil, err) + " " + timing(at, err)
			}))
		})
		add('6', "Timeout "+x.name, func(e *env) {
			e.saw("%s", e.pastLookup(x.delay, func(d *net.Dialer, _ <-chan struct{}) string {
				at := soon()
				d.Timeout = time.Until(at)
				c, err := e.near.DialBy(context.Background(), d, "tcp", hole(e))
				return e.opened(c == nil, err) + " " + timing(at, err)
			}))
		})
	}
	add('6', "canceled before the other family, of those in turn", func(e *env) { e.saw("%s", e.canceled(hole(e), -1)) })
	add('4', "one family refused, the other does not wait for the delay", func(e *env) {
		l, err := e.far.ListenTCP("tcp4", e.farTCP(e.spare(e.far)))
		e.must(err)
		e.call(l.Addr(), "far")
		c, err := e.near.DialBy(context.Background(), both(e, time.Hour), "tcp", hostPortOf("both.test.", portOf(l.Addr())))
		e.must(err)
		e.saw("%s", e.addr(c.RemoteAddr()))
		e.must(c.SetDeadline(e.late()))
		e.send(c, "hello")
		e.saw("%q", e.exactly(e.accept(l), 5))
	})
	add('4', "both families refused", func(e *env) {
		port := e.spare(e.far)
		e.call(&net.TCPAddr{Port: port}, "closed")
		c, err := e.near.DialBy(context.Background(), both(e, time.Hour), "tcp", hostPortOf("both.test.", port))
		e.saw("%s", e.opened(c == nil, err))
	})
	add('6', "canceled after, by the function that made the context", func(e *env) {
		l := e.farListenerAt(e.spare(e.far))
		ctx, cancel := context.WithCancel(context.Background())
		c, err := e.near.DialBy(ctx, both(e, time.Hour), "tcp", hostPortOf("both.test.", portOf(l.Addr())))
		e.must(err)
		cancel()
		far := e.accept(l)
		e.send(far, "hello")
		e.saw("%q", e.exactly(c, 5))
	})
	return all
}

// canceled has a dial canceled once it is past the look-up.
func (e *env) canceled(address string, delay time.Duration) string {
	return e.pastLookup(delay, func(d *net.Dialer, known <-chan struct{}) string {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		dial := e.blocked(func() string {
			c, err := e.near.DialBy(ctx, d, "tcp", address)
			return e.opened(c == nil, err)
		})
		<-known
		cancel()
		return dial.result()
	})
}

// anyHole takes from errors which of the two addresses they name: for package net it
// is the first or the second, by whether a dial ends before it has begun or after.
var anyHole = strings.NewReplacer("host4:hole", "a hole", "host6:hole", "a hole")

// pastLookup repeats a dial to the two addresses of a name until it ends when both
// were known, and gives it a channel that is closed then: one that ends before may have
// begun with one of them, or none. delay is the dialer's before the second family.
func (e *env) pastLookup(delay time.Duration, dial func(d *net.Dialer, known <-chan struct{}) string) string {
	for until := e.late(); time.Now().Before(until); {
		var answers atomic.Int32
		known := make(chan struct{})
		s := dial(&net.Dialer{FallbackDelay: delay, Resolver: e.answers().resolverTelling(func() {
			if answers.Add(1) == 2 {
				close(known)
			}
		})}, known)
		select {
		case <-known:
			if !strings.Contains(s, "DNSError") {
				return anyHole.Replace(s)
			}
		default:
		}
	}
	return "the look-up does not end"
}
