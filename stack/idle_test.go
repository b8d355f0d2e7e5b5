package stack

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

var crowdSize = flag.Int("afxnet.crowd", 0, "number of connections of TestCrowd; 0 is 100,000, 5,000 in a short run and 1,500 in a race run")

const (
	// idleRoom is how many bytes of heap an idle connection may take: some 6.5 KB
	// are usual for one that has been used, 5.4 of them netstack's.
	idleRoom = 7 << 10

	// idleLeft is how many bytes may be left of each connection that has been:
	// each of netstack's timers fires on a goroutine of its own, and of the most
	// that there were at once the runtime keeps some 450 bytes each for good.
	idleLeft = 512
)

// TestCrowd holds many connections at once that have been used and are idle. They
// have no goroutine, take few bytes each, still work, and leave nothing.
func TestCrowd(t *testing.T) {
	n := *crowdSize
	switch {
	case n > 0:
	case raceEnabled:
		n = 1_500
	case testing.Short():
		n = 5_000
	default:
		n = 100_000
	}
	c := newCrowd(t, n)
	conns := make([]*TCPConn, n)
	c.come(t, conns[:crowdWindow])
	c.part(t, conns[:crowdWindow]) // tables that the first one needs are made
	empty := heap()
	c.come(t, conns)
	c.part(t, conns)
	base, sockets, goroutines := heap(), c.sockets(), runtime.NumGoroutine()

	c.come(t, conns)
	c.converse(t, conns, 1)
	// The runtime forgets stopped timers, and what they hold, only by and by: the
	// last ones of those that were before among them.
	if err := poll(func() error {
		each := (int64(heap()) - int64(empty)) / int64(n)
		t.Logf("%d connections: %d bytes each", n, each)
		if each > idleRoom {
			return fmt.Errorf("an idle connection takes %d bytes, want %d at most", each, idleRoom)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	// Some may be about to send a keepalive probe, on a goroutine each.
	if err := poll(func() error {
		if is := runtime.NumGoroutine(); is > goroutines+n/1000 {
			return fmt.Errorf("%d goroutines with %d connections, %d without", is, n, goroutines)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	c.converse(t, conns, 97)

	c.part(t, conns)
	most := int64(n) * idleLeft
	if err := poll(func() error {
		if left := int64(heap()) - int64(base); left > most {
			return fmt.Errorf("%d bytes are left, want %d at most", left, most)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if is := c.sockets(); is != sockets {
		t.Errorf("%d sockets are left, %d were there before", is, sockets)
	}
}

// TestCrowdClose closes a stack with many connections, and more that nobody has
// accepted.
func TestCrowdClose(t *testing.T) {
	const n, waiting = 2000, 1000
	c := newCrowd(t, n+waiting)
	conns := make([]*TCPConn, n)
	c.come(t, conns)
	windows(waiting, func(from, to int) {
		for i := n + from; i < n+to; i++ {
			c.call(i)
		}
		c.await(t, n+from, n+to, clientOpen)
	})
	if err := poll(func() error {
		if is := c.s[0].ns.Stats().TCP.CurrentEstablished.Value(); is != n+waiting {
			return fmt.Errorf("%d connections are established, not %d", is, n+waiting)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.s[0].Close(); err != nil {
		t.Error(err)
	}
	c.await(t, 0, n+waiting, clientGone)
	if _, err := conns[0].Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if is := c.sockets(); is != 0 {
		t.Errorf("%d sockets are left", is)
	}
	if is := len(c.s[0].ns.RegisteredEndpoints()); is != 0 {
		t.Errorf("%d endpoints are left", is)
	}
}

// windows calls f for all clients, so many at a time as the RX ring takes segments
// of.
func windows(n int, f func(from, to int)) {
	for i := 0; i < n; i += crowdWindow {
		f(i, min(i+crowdWindow, n))
	}
}

// come has a client connect for each of conns, and accepts it.
func (c *crowd) come(t *testing.T, conns []*TCPConn) {
	t.Helper()
	windows(len(conns), func(from, to int) {
		for i := from; i < to; i++ {
			c.call(i)
		}
		for range to - from {
			conn, err := c.ln.AcceptTCP()
			if err != nil {
				t.Fatal(err)
			}
			conns[c.of(conn)] = conn
		}
	})
}

// converse has every step-th client say something and hear it again. Its
// connection has deadlines meanwhile, as those of many servers.
func (c *crowd) converse(t *testing.T, conns []*TCPConn, step int) {
	t.Helper()
	windows((len(conns)+step-1)/step, func(from, to int) {
		for i := from * step; i < to*step && i < len(conns); i += step {
			c.say(i)
		}
		b := make([]byte, 2*crowdWords)
		for i := from * step; i < to*step && i < len(conns); i += step {
			conn := conns[i]
			heard := c.heard(i)
			conn.SetDeadline(time.Now().Add(time.Hour)) //nolint:errcheck // it is open
			m, err := io.ReadAtLeast(conn, b, crowdWords)
			if err != nil || string(b[:m]) != words(i) {
				t.Fatalf("client %d said %q, %v", i, b[:m], err)
			}
			if _, err := conn.Write(b[:m]); err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Time{}) //nolint:errcheck // it is open
			if err := poll(func() error {
				if is := c.heard(i); is-heard != crowdWords {
					return fmt.Errorf("client %d has heard %d bytes, and %d before", i, is, heard)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// part ends all connections, in each of the ways that leave nothing behind on the
// stack's side: where the client ends first, or one of both resets. A client is gone
// when it sends its last acknowledgement; until that has come, the stack may send its
// FIN again, to who calls next from there.
func (c *crowd) part(t *testing.T, conns []*TCPConn) {
	t.Helper()
	windows(len(conns), func(from, to int) {
		way := func(i int) int { return i / 2 % 3 }
		for i := from; i < to; i++ {
			if w := way(i); w != 2 {
				c.leave(i, w == 1)
			}
		}
		for i := from; i < to; i++ {
			conn := conns[i]
			conns[i] = nil
			if way(i) == 2 {
				conn.SetLinger(0) //nolint:errcheck // it is open
			} else if _, err := conn.Read(make([]byte, 1)); err == nil || (err == io.EOF) != (way(i) == 0) {
				t.Fatalf("client %d has left; read: %v", i, err)
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
		}
		c.await(t, from, to, clientGone)
	})
	if err := poll(func() error {
		if is := len(c.s[0].ns.RegisteredEndpoints()); is != c.endpoints {
			return fmt.Errorf("%d endpoints are left, %d were there before", is, c.endpoints)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// await returns when all clients from one to another are in a state.
func (c *crowd) await(t *testing.T, from, to int, want clientState) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := poll(func() error {
			if is := c.state(i); is != want {
				return fmt.Errorf("client %d is in state %d, not %d", i, is, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// sockets returns how many sockets the stack knows.
func (c *crowd) sockets() (n int) {
	s := c.s[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := s.first; k != nil; k = k.next {
		n++
	}
	return n
}
