package stack

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
)

// TestListenErrors gives the same addresses to package net, and compares.
func TestListenErrors(t *testing.T) {
	needIPv6(t)
	p := newPairWith(t, pairOptions{a: testConfig(addrA, globalA6), b: testConfig(addrB)})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := portOf(taken.Addr())
	ours, err := p.a.Listen("tcp", addrA+":"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		network, address string
		ctx              context.Context
	}{
		{"tcp", "127.0.0.1:" + port, t.Context()},
		{"tcp", "127.0.0.1:" + port, canceled},
		{"tcp", "192.0.2.77:0", t.Context()},
		{"udp", "192.0.2.77:0", t.Context()},
		{"tcp", "[2001:db8:77::9]:0", t.Context()},
		{"udp", "127.0.0.1:0", t.Context()}, // Listen
		{"tcp", "127.0.0.1:0", t.Context()}, // ListenPacket
		{"udp6", "[::1]:0", t.Context()},
		{"udp", "x", t.Context()},
		{"tcp4", "[::1]:0", t.Context()},
		{"tcp6", "127.0.0.1:0", t.Context()},
		{"no", "127.0.0.1:0", t.Context()},
		{"tcp", "127.0.0.1:no-such-service", t.Context()},
	} {
		lc, theirs := ListenConfig{Stack: p.a}, net.ListenConfig{}
		for _, f := range map[string][2]func() (io.Closer, error){
			"Listen": {
				func() (io.Closer, error) { return lc.Listen(tc.ctx, tc.network, toOurs.Replace(tc.address)) },
				func() (io.Closer, error) { return theirs.Listen(tc.ctx, tc.network, tc.address) },
			},
			"ListenPacket": {
				func() (io.Closer, error) { return lc.ListenPacket(tc.ctx, tc.network, toOurs.Replace(tc.address)) },
				func() (io.Closer, error) { return theirs.ListenPacket(tc.ctx, tc.network, tc.address) },
			},
		} {
			c, got := f[0]()
			if got == nil {
				c.Close()
			}
			c, want := f[1]()
			if want == nil {
				c.Close()
			}
			if describe(got) != describe(want) {
				t.Errorf("%s %q:\n     %s\nnet: %s", tc.network, tc.address, describe(got), describe(want))
			}
		}
	}
	n := newNamed(t)
	_, err = (&ListenConfig{Stack: n.a}).Listen(canceled, "tcp", "silent.test.:0")
	wantOp(t, err, "listen", context.Canceled)
	for _, tc := range []struct{ network, address string }{
		{"tcp4", "[::1]:0"},
		{"tcp4", "[::]:0"},
		{"tcp6", "127.0.0.1:0"},
		{"tcp6", "0.0.0.0:0"},
		{"udp", "127.0.0.1:0"},
		{"tcp", "192.0.2.77:0"},
	} {
		at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tc.address))
		_, got := p.a.ListenTCP(tc.network, replaced(at).(*net.TCPAddr))
		theirs, want := net.ListenTCP(tc.network, at)
		if want == nil {
			theirs.Close()
		}
		if describe(got) != describe(want) {
			t.Errorf("ListenTCP %s %v:\n     %s\nnet: %s", tc.network, at, describe(got), describe(want))
		}
	}
}

// TestListenBacklog fills the queue of a listener.
func TestListenBacklog(t *testing.T) {
	p := newPair(t)
	const backlog = 3
	l, err := (&ListenConfig{Stack: p.b, Backlog: backlog}).Listen(t.Context(), "tcp", addrB+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := &Dialer{Stack: p.a}
	for range backlog + 1 {
		c, err := d.Dial("tcp", addrB+":80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	// The listener hears of a connection after the dialer.
	waitFor(t, "accepted connections", func() bool { return p.b.ns.Stats().TCP.PassiveConnectionOpenings.Value() == backlog+1 })
	full := p.b.ns.Stats().TCP.ListenOverflowSynDrop
	before := full.Value()
	ctx, cancel := context.WithCancel(t.Context())
	late := dialed(t, d, ctx, addrB+":80", 1)
	waitFor(t, "a SYN that is dropped", func() bool { return full.Value() != before })
	select {
	case err := <-late:
		t.Fatalf("the connection beyond the backlog: %v, want none", err)
	default:
	}
	cancel()
	within(t, "dial", func() { wantOp(t, <-late, "dial", context.Canceled) })
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c, err = d.Dial("tcp", addrB+":80"); err != nil {
		t.Fatalf("with room: %v", err)
	}
	c.Close()
}
