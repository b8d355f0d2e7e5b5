package stack

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
)

// swallow makes a wire that takes frames and delivers none of those.
func swallow(t testing.TB, w *wire.Wire, dirs ...wire.Dir) {
	t.Helper()
	all := wire.Faults{Filter: func(wire.Dir, []byte) wire.Verdict { return wire.Drop }}
	for _, dir := range dirs {
		if err := w.SetFaults(dir, all); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDeadPeer has the peer vanish, and says when a connection must notice: the
// times are those of a virtual clock.
func TestDeadPeer(t *testing.T) {
	const never = 48 * time.Hour
	probes := net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 2 * time.Second, Count: 3}
	for _, tc := range []struct {
		name     string
		set      func(c *TCPConn) error
		write    bool
		from, to time.Duration
	}{
		{"probes", func(c *TCPConn) error { return c.SetKeepAliveConfig(probes) }, false, 16 * time.Second, 17 * time.Second},
		{"probes as net sets them", func(*TCPConn) error { return nil }, false, 150 * time.Second, 152 * time.Second},
		{"no probes", func(c *TCPConn) error { return c.SetKeepAlive(false) }, false, never, never},
		{"data", func(*TCPConn) error { return nil }, true, 15 * time.Minute, 21 * time.Minute},
		{"data, no probes", func(c *TCPConn) error { return c.SetKeepAlive(false) }, true, 15 * time.Minute, 21 * time.Minute},
		{"data, user timeout", func(c *TCPConn) error { return c.SetUserTimeout(5 * time.Second) }, true, 5 * time.Second, 6 * time.Second},
		{"data, user timeout taken back", func(c *TCPConn) error {
			return errors.Join(c.SetUserTimeout(time.Second), c.SetUserTimeout(0))
		}, true, 15 * time.Minute, 21 * time.Minute},
		{"probes, user timeout", func(c *TCPConn) error {
			return errors.Join(c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 2 * time.Second, Count: 100}),
				c.SetUserTimeout(13*time.Second))
		}, false, 14 * time.Second, 15 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				ow := newOverWire(t, overWireOptions{bubble: true})
				c, s := ow.tcpPair(t, addrB)
				if err := tc.set(c); err != nil {
					t.Fatal(err)
				}
				swallow(t, ow.w, wire.From0, wire.From1)
				start := time.Now()
				if tc.write {
					if _, err := c.Write(make([]byte, 10_000)); err != nil {
						t.Fatal(err)
					}
				}
				c.SetReadDeadline(start.Add(never))
				_, err := c.Read(make([]byte, 1))
				// As with Linux the last thing that went wrong is told: after
				// some time nobody answers for the peer's address either.
				ended := errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, syscall.EHOSTUNREACH)
				if tc.to == never {
					ended = errors.Is(err, os.ErrDeadlineExceeded)
				}
				if d := time.Since(start); !ended || d < tc.from || d > tc.to {
					t.Errorf("after %v: %v; want an end after %v to %v", d, err, tc.from, tc.to)
				}
				if _, err := c.Write([]byte("x")); tc.to != never && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("Write: %v", err)
				}
				c.SetLinger(0) //nolint:errcheck // there is nothing to wait for
				s.SetLinger(0) //nolint:errcheck // there is nothing to wait for
			})
		})
	}
}

func TestUserTimeoutErrors(t *testing.T) {
	p := newPair(t)
	c, _ := p.connect(t, "tcp", addrB)
	wantOp(t, c.SetUserTimeout(-1), "set", syscall.EINVAL)
	c.Close()
	wantOp(t, c.SetUserTimeout(time.Second), "set", net.ErrClosed)
}

// TestDeadPeerClosed closes a connection with data that nobody takes: it ends.
func TestDeadPeerClosed(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		ow := newOverWire(t, overWireOptions{bubble: true})
		c, s := ow.tcpPair(t, addrB)
		swallow(t, ow.w, wire.From0, wire.From1)
		if _, err := c.Write(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
		ep := c.ep.(*tcp.Endpoint)
		c.Close()
		time.Sleep(14 * time.Minute)
		if state := ep.EndpointState(); state != tcp.StateFinWait1 {
			t.Errorf("state %v after 14 minutes", state)
		}
		time.Sleep(2 * time.Minute)
		if state := ep.EndpointState(); state != tcp.StateError && state != tcp.StateClose {
			t.Errorf("state %v after 16 minutes", state)
		}
		s.SetLinger(0) //nolint:errcheck // there is nothing to wait for
	})
}

// TestBacklogLimit fills the queue of a listener: who comes then waits, and is let
// in when there is room.
func TestBacklogLimit(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		ow := newOverWire(t, overWireOptions{bubble: true})
		l, err := ow.s[1].ListenTCP("tcp", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		const backlog = 4
		if terr := l.ep.Listen(backlog); terr != nil {
			t.Fatal(terr)
		}
		to := net.JoinHostPort(addrB, portOf(l.Addr()))
		dial := func(d time.Duration) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(context.Background(), d)
			defer cancel()
			return ow.s[0].DialContext(ctx, "tcp", to)
		}
		var all []net.Conn
		for {
			c, err := dial(20 * time.Second)
			if err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				break
			}
			if all = append(all, c); len(all) > 10*backlog {
				t.Fatal("no limit")
			}
		}
		if len(all) < backlog || len(all) > backlog+1 {
			t.Errorf("%d connections wait, of a backlog of %d", len(all), backlog)
		}
		if n := ow.s[1].ns.Stats().TCP.ListenOverflowSynDrop.Value(); n == 0 {
			t.Error("no SYN was dropped")
		}
		// One waits and is let in.
		var last net.Conn
		let := make(chan error, 1)
		go func() {
			var err error
			last, err = dial(time.Minute)
			let <- err
		}()
		time.Sleep(time.Second) // its first SYN has been dropped
		first, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if first.RemoteAddr().String() != all[0].LocalAddr().String() {
			t.Errorf("the first to be accepted is %v, want %v", first.RemoteAddr(), all[0].LocalAddr())
		}
		all = append(all, first)
		if err := <-let; err != nil {
			t.Fatalf("with room for one: %v", err)
		}
		all = append(all, last)
		// After Close those that wait are reset.
		l.Close()
		_, err = l.Accept()
		wantOp(t, err, "accept", net.ErrClosed)
		all[1].SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := all[1].Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Read of one that nobody has accepted: %v, want ECONNRESET", err)
		}
		for _, c := range all {
			c.(*TCPConn).SetLinger(0) //nolint:errcheck // there is nothing to wait for
			c.Close()
		}
	})
}

// TestSYNCookies has more handshakes under way than a listener keeps: it goes on
// by cookies, and all become connections.
func TestSYNCookies(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		ow := newOverWire(t, overWireOptions{bubble: true})
		l, err := ow.s[1].ListenTCP("tcp", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		const backlog, dials = 8, 20
		if terr := l.ep.Listen(backlog); terr != nil {
			t.Fatal(terr)
		}
		to := net.JoinHostPort(addrB, portOf(l.Addr()))
		c, err := ow.s[0].Dial("tcp", to) // finds the neighbour
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if c, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		c.Close()
		swallow(t, ow.w, wire.From1) // SYN-ACKs do not come
		var wg sync.WaitGroup
		for range dials {
			wg.Go(func() {
				c, err := ow.s[0].Dial("tcp", to)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := c.Write([]byte("x")); err != nil {
					t.Error(err)
				}
				if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Error(err)
				}
				c.Close()
			})
		}
		time.Sleep(500 * time.Millisecond) // the first SYNs are there
		// The last place of the backlog is for who comes back with a cookie.
		if n := ow.s[1].ns.Stats().TCP.ListenOverflowSynCookieSent.Value(); n != dials-(backlog-1) {
			t.Errorf("%d cookies were sent, want %d", n, dials-(backlog-1))
		}
		if err := ow.w.SetFaults(wire.From1, wire.Faults{}); err != nil {
			t.Fatal(err)
		}
		for range dials {
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				defer c.Close()
				b := make([]byte, 1)
				if _, err := c.Read(b); err == nil {
					c.Write(b) //nolint:errcheck // the other end tells
				}
			}()
		}
		wg.Wait()
	})
}
