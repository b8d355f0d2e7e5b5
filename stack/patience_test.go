package stack

import (
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
)

// TestPatience has a peer that acknowledges all it is sent, and reads nothing for
// longer than one may be silent: the connection waits for it (RFC 9293, 3.8.6.1).
func TestPatience(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		ow := newOverWire(t, overWireOptions{bubble: true})
		c, s := ow.tcpPair(t, addrB)
		for _, conn := range []*TCPConn{c, s} {
			if err := conn.SetKeepAlive(false); err != nil { // or the window is asked for by probes
				t.Fatal(err)
			}
		}
		const size = 4 << 20
		go func() {
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Errorf("Write: %v", err)
			}
			c.Close()
		}()
		time.Sleep(2 * giveUp)
		if n, err := io.Copy(io.Discard, struct{ io.Reader }{s}); n != size || err != nil {
			t.Errorf("%d bytes came, %v; want %d", n, err, size)
		}
		s.Close()
	})
}

// TestImpatience closes a connection to such a peer: what is left of it ends.
func TestImpatience(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		ow := newOverWire(t, overWireOptions{bubble: true})
		c, s := ow.tcpPair(t, addrB)
		if err := s.SetKeepAlive(false); err != nil {
			t.Fatal(err)
		}
		if err := c.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		c.Write(make([]byte, 4<<20)) //nolint:errcheck // not all of it
		c.Close()
		// Its age goes on top, and netstack looks when it probes, which is every 2 minutes.
		const most = giveUp + time.Minute + 2*time.Minute
		time.Sleep(most)
		if n := c.stack.ns.Stats().TCP.CurrentConnected.Value(); n != 0 {
			t.Errorf("%d connections after %v", n, most)
		}
	})
}

// TestLongestUserTimeout closes a connection that has lost something and has the
// longest user timeout that there is: what it wrote still arrives.
func TestLongestUserTimeout(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		ow := newOverWire(t, overWireOptions{bubble: true})
		c, s := ow.tcpPair(t, addrB)
		if err := c.SetUserTimeout(math.MaxInt64); err != nil {
			t.Fatal(err)
		}
		swallow(t, ow.w, wire.From0)
		const size = 10_000
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the timer of retransmission expires
		c.Close()
		time.Sleep(5 * time.Second)
		if err := ow.w.SetFaults(wire.From0, wire.Faults{}); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, struct{ io.Reader }{s}); n != size || err != nil {
			t.Errorf("%d bytes came, %v; want %d", n, err, size)
		}
		s.Close()
	})
}

// TestRareProbes loses the first probe of a connection that is probed more rarely
// than a peer may be silent: the others are sent.
func TestRareProbes(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		ow := newOverWire(t, overWireOptions{bubble: true})
		c, s := ow.tcpPair(t, addrB)
		if err := c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 2 * giveUp, Interval: 10 * time.Second, Count: 3}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetKeepAlive(false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*giveUp - time.Second)
		swallow(t, ow.w, wire.From0)
		time.Sleep(5 * time.Second)
		if err := ow.w.SetFaults(wire.From0, wire.Faults{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := s.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("after one probe was lost: %v", err)
		}
	})
}

// TestTimeoutsFarApart loses all segments of a long transfer for a moment, twice,
// with more time between than data may stay unacknowledged: it goes on. It ends when
// all are lost for good, with the user timeout.
func TestTimeoutsFarApart(t *testing.T) {
	t.Run("default", func(t *testing.T) {
		raced.Bubble(t, func(t *testing.T) { testTimeoutsFarApart(t, 0, giveUp+10*time.Second) })
	})
	t.Run("user timeout", func(t *testing.T) {
		raced.Bubble(t, func(t *testing.T) { testTimeoutsFarApart(t, 30*time.Second, 40*time.Second) })
	})
}

func testTimeoutsFarApart(t *testing.T, timeout, apart time.Duration) {
	var deaf atomic.Bool
	lose := func(_ wire.Dir, f []byte) wire.Verdict {
		var info packet.Info
		if deaf.Load() && packet.Parse(f, &info) == packet.OK && info.Kind.IsTCP() {
			return wire.Drop
		}
		return wire.Pass
	}
	// There is always something under way.
	slow := wire.Faults{Rate: 100_000, QueueBytes: 16 << 10, Delay: 500 * time.Millisecond}
	forth := slow
	forth.Filter = lose
	ow := newOverWire(t, overWireOptions{bubble: true, wire: wire.Config{Faults: [2]wire.Faults{forth, slow}}})
	c, s := ow.tcpPair(t, addrB)
	if err := c.SetUserTimeout(timeout); err != nil {
		t.Fatal(err)
	}
	var over sync.WaitGroup
	defer over.Wait()
	over.Go(func() {
		io.Copy(io.Discard, struct{ io.Reader }{s}) //nolint:errcheck // until the end
	})
	over.Go(func() {
		for range 2 {
			time.Sleep(5 * time.Second)
			deaf.Store(true)
			time.Sleep(6 * time.Second)
			deaf.Store(false)
			time.Sleep(apart)
		}
		deaf.Store(true)
		c.SetLinger(0) //nolint:errcheck // it is open
		s.SetLinger(0) //nolint:errcheck // it is open
		if timeout == 0 {
			c.Close()
		}
	})
	start := time.Now()
	var err error
	for b := make([]byte, 32<<10); err == nil; {
		_, err = c.Write(b)
	}
	end := 2*apart + 22*time.Second
	want := error(net.ErrClosed)
	if timeout != 0 {
		want = syscall.ETIMEDOUT
	}
	if d := time.Since(start); !errors.Is(err, want) || d < end+timeout || d > end+3*timeout {
		t.Errorf("Write after %v: %v; want %v, %v to %v after %v", d, err, want, timeout, 3*timeout, end)
	}
	s.Close()
	if n := ow.s[0].ns.Stats().TCP.Timeouts.Value(); n < 2 {
		t.Errorf("%d timeouts; the test needs 2", n)
	}
}
