package netdiff

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"
)

// dialBy dials by a Dialer and says what came of it.
func (e *env) dialBy(d *net.Dialer, network, address string) string {
	c, err := e.near.DialBy(context.Background(), d, network, address)
	return e.opened(c == nil, err)
}

// works dials a listener of the far end by a Dialer, and has the connection carry
// something.
func (e *env) works(d *net.Dialer) {
	l := e.farListener()
	c, err := e.near.DialBy(context.Background(), d, e.tcp(), l.Addr().String())
	if e.saw("%s", e.opened(c == nil, err)); err != nil {
		return
	}
	far := e.accept(l)
	e.call(far.RemoteAddr(), "near")
	e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
	if want := portOf(d.LocalAddr); want != 0 {
		e.saw("from the port: %v", portOf(far.RemoteAddr()) == want)
	}
	e.send(c, "hello")
	e.saw("%q", e.exactly(far, 5))
}

// canceledBy returns a Dialer with the field that is deprecated.
func canceledBy(done <-chan struct{}) *net.Dialer {
	//lint:ignore SA1019 what there is is compared
	return &net.Dialer{Cancel: done}
}

// dialerBehaviours are about the fields of Dialer and of ListenConfig.
func dialerBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) { all = append(all, behaviour{name: "dialer/" + name, run: run}) }
	lossy := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "dialer/" + name, run: run, lossy: true})
	}

	// Timeout and Deadline.
	lossy("Timeout while it waits", func(e *env) {
		at := soon()
		c, err := e.near.DialBy(context.Background(), &net.Dialer{Timeout: time.Until(at)}, e.tcp(), e.hole.String())
		e.saw("%s, %s", e.opened(c == nil, err), timing(at, err))
	})
	lossy("Deadline while it waits", func(e *env) {
		at := soon()
		c, err := e.near.DialBy(context.Background(), &net.Dialer{Deadline: at}, e.tcp(), e.hole.String())
		e.saw("%s, %s", e.opened(c == nil, err), timing(at, err))
	})
	add("Timeout before Deadline", func(e *env) {
		at := soon()
		d := &net.Dialer{Timeout: time.Until(at), Deadline: e.late()}
		c, err := e.near.DialBy(context.Background(), d, e.tcp(), e.hole.String())
		e.saw("%s, %s", e.opened(c == nil, err), timing(at, err))
	})
	add("Deadline before Timeout", func(e *env) {
		at := soon()
		d := &net.Dialer{Timeout: e.patience, Deadline: at}
		c, err := e.near.DialBy(context.Background(), d, e.tcp(), e.hole.String())
		e.saw("%s, %s", e.opened(c == nil, err), timing(at, err))
	})
	add("the context before Timeout", func(e *env) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		dial := e.blocked(func() string {
			c, err := e.near.DialBy(ctx, &net.Dialer{Timeout: 2 * e.patience}, e.tcp(), e.hole.String())
			return e.opened(c == nil, err)
		})
		cancel()
		e.saw("%s", dial.result())
	})
	for _, d := range []net.Dialer{{Timeout: -1}, {Timeout: 1}, {Deadline: time.Unix(1, 0)}} {
		name := fmt.Sprintf("Timeout %d, Deadline set %v", d.Timeout, !d.Deadline.IsZero())
		add(name, func(e *env) {
			d := d
			e.saw("%s", e.dialBy(&d, e.tcp(), e.hole.String()))
		})
		if d.Timeout != 1 { // which may be over or not
			add(name+", UDP", func(e *env) {
				d := d
				e.saw("%s", e.dialBy(&d, e.udp(), hostPort(e.farHost, discardPort)))
			})
		}
	}
	lossy("Timeout that is not reached", func(e *env) { e.works(&net.Dialer{Timeout: e.patience, Deadline: e.late()}) })
	add("Cancel before", func(e *env) {
		done := make(chan struct{})
		close(done)
		e.saw("%s", e.dialBy(canceledBy(done), e.tcp(), e.hole.String()))
	})
	add("Cancel while it waits", func(e *env) {
		done := make(chan struct{})
		dial := e.blocked(func() string {
			return e.dialBy(canceledBy(done), e.tcp(), e.hole.String())
		})
		close(done)
		e.saw("%s", dial.result())
	})

	// LocalAddr.
	add("LocalAddr, an address", func(e *env) { e.works(&net.Dialer{LocalAddr: e.nearTCP(0)}) })
	add("LocalAddr, an address and a port", func(e *env) {
		at := e.nearTCP(e.spare(e.near))
		e.call(at, "near")
		e.works(&net.Dialer{LocalAddr: at})
	})
	add("LocalAddr, a port", func(e *env) {
		at := &net.TCPAddr{Port: e.spare(e.near)}
		e.call(at, "near")
		e.works(&net.Dialer{LocalAddr: at})
	})
	add("LocalAddr, nothing", func(e *env) { e.works(&net.Dialer{LocalAddr: &net.TCPAddr{}}) })
	add("LocalAddr of UDP for TCP", func(e *env) {
		e.saw("%s", e.dialBy(&net.Dialer{LocalAddr: &net.UDPAddr{}}, e.tcp(), e.hole.String()))
	})
	add("LocalAddr of TCP for UDP", func(e *env) {
		e.saw("%s", e.dialBy(&net.Dialer{LocalAddr: &net.TCPAddr{}}, e.udp(), hostPort(e.farHost, discardPort)))
	})
	add("LocalAddr of the other family", func(e *env) {
		e.saw("%s", e.dialBy(&net.Dialer{LocalAddr: &net.TCPAddr{IP: e.strange(e.other()).AsSlice()}}, "tcp", e.hole.String()))
	})
	add("LocalAddr not ours", func(e *env) {
		e.saw("%s", e.dialBy(&net.Dialer{LocalAddr: &net.TCPAddr{IP: e.strange(string(e.family)).AsSlice()}}, "tcp", e.hole.String()))
	})
	add("LocalAddr, UDP", func(e *env) {
		far := e.farPacket()
		c, err := e.near.DialBy(context.Background(), &net.Dialer{LocalAddr: e.nearUDP(0)}, "udp", far.LocalAddr().String())
		e.must(err)
		e.call(c.LocalAddr(), "near")
		e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
		e.send(c, "hello")
		e.saw("%q", e.datagram(far))
	})
	add("refused, with all fields", func(e *env) {
		d := &net.Dialer{LocalAddr: e.nearTCP(0), Timeout: e.patience, KeepAlive: -1, FallbackDelay: -1}
		e.saw("%s", e.dialBy(d, e.tcp(), hostPort(e.farHost, e.closedTCP())))
	})

	// KeepAlive, and what cannot be.
	for name, d := range map[string]net.Dialer{
		"KeepAlive off": {KeepAlive: -1}, "KeepAlive 1 ns": {KeepAlive: 1},
		"KeepAlive too long":     {KeepAlive: 40000 * time.Second},
		"KeepAliveConfig":        {KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: time.Second, Count: 3}},
		"KeepAliveConfig beyond": {KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 40000 * time.Second, Count: 1000}},
		"FallbackDelay off":      {FallbackDelay: -1}, "FallbackDelay": {FallbackDelay: time.Hour},
	} {
		add(name, func(e *env) {
			d := d
			e.works(&d)
		})
	}
	add("Control", func(e *env) {
		called := false
		e.works(&net.Dialer{Control: func(string, string, syscall.RawConn) error { called = true; return nil }})
		e.saw("called: %v", called)
		e.works(&net.Dialer{ControlContext: func(context.Context, string, string, syscall.RawConn) error { return nil }})
		d := &net.Dialer{Control: func(string, string, syscall.RawConn) error { return nil }}
		e.saw("%s", e.dialBy(d, e.udp(), hostPort(e.farHost, discardPort)))
	})
	add("ListenConfig.Control", func(e *env) {
		lc := &net.ListenConfig{Control: func(string, string, syscall.RawConn) error { return nil }}
		l, err := e.near.ListenBy(context.Background(), lc, e.tcp(), hostPort(e.nearHost, 0))
		e.saw("%s", e.opened(l == nil, err))
		c, err := e.near.ListenPacketBy(context.Background(), lc, e.udp(), hostPort(e.nearHost, 0))
		e.saw("%s", e.opened(c == nil, err))
	})
	for name, lc := range map[string]net.ListenConfig{
		"ListenConfig.KeepAlive off":   {KeepAlive: -1},
		"ListenConfig.KeepAliveConfig": {KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute}},
	} {
		add(name, func(e *env) {
			lc := lc
			l, err := e.near.ListenBy(context.Background(), &lc, e.tcp(), hostPort(e.nearHost, 0))
			e.must(err)
			e.call(l.Addr(), "near")
			far, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
			e.must(err)
			c := e.accept(l)
			e.send(far, "hello")
			e.saw("%q", e.exactly(c, 5))
		})
	}
	ended := func() context.Context {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx
	}
	add("ListenConfig.Listen, context canceled", func(e *env) {
		l, err := e.near.ListenBy(ended(), &net.ListenConfig{}, e.tcp(), hostPort(e.nearHost, 0))
		e.saw("%s", e.opened(l == nil, err))
	})
	add("ListenConfig.ListenPacket, context canceled", func(e *env) {
		c, err := e.near.ListenPacketBy(ended(), &net.ListenConfig{}, e.udp(), hostPort(e.nearHost, 0))
		e.saw("%s", e.opened(c == nil, err))
	})
	return all
}
