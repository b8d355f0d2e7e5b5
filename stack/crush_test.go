package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
)

// A crush is many clients that call a listener with little room at once. For some
// time they do not hear it, and then for some time nobody accepts.
type crush struct {
	ow   *overWire
	host string
	size int // bytes that each client sends

	mu    sync.Mutex
	ended map[int]error // clients, by port; nil: the answer came
	lost  map[int]error // connections that were accepted and had other than all of the data
}

// TestCrush wants each client of a crush to be served or to get an error, and each
// accepted connection to have the client's data unless that is told so. Segments
// are late by more than the clients wait before they call again, and in half of the
// rounds lost, doubled and out of order too.
func TestCrush(t *testing.T) {
	for seed := range uint64(raced.Few(40, 6)) {
		for _, host := range []string{addrA, addrA6} {
			t.Run(fmt.Sprintf("%s/%d", host, seed), func(t *testing.T) {
				raced.Bubble(t, func(t *testing.T) { testCrush(t, host, seed) })
			})
		}
	}
}

func testCrush(t *testing.T, host string, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	o := overWireOptions{bubble: true, forged: true, wire: wire.Config{Seed: seed + 1}}
	o.neighbor = [2]net.HardwareAddr{{2, 0, 0, 0, 0, 2}, {2, 0, 0, 0, 0, 1}} // of the wire's ports
	c := &crush{ow: newOverWire(t, o), host: host, size: []int{1, 1, 2, 3, 10, 3000}[rng.IntN(6)],
		ended: make(map[int]error), lost: make(map[int]error)}
	l, err := (&ListenConfig{Stack: c.ow.s[0], Backlog: 1 + rng.IntN(8)}).Listen(t.Context(), "tcp", net.JoinHostPort(host, "80"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hear := c.deafen(t, randomFaults(rng))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	for port := 11000; port < 11020; port++ {
		pause := time.Duration(rng.IntN(100)) * time.Millisecond
		clients.Go(func() {
			time.Sleep(pause)
			err := c.call(ctx, port)
			c.mu.Lock()
			c.ended[port] = err
			c.mu.Unlock()
		})
	}
	time.Sleep(time.Duration(rng.IntN(8000)) * time.Millisecond)
	hear()
	time.Sleep(time.Duration(rng.IntN(12000)) * time.Millisecond)
	c.serve(l.(*TCPListener), time.Duration(rng.IntN(300))*time.Millisecond)
	cancel()
	clients.Wait()
	for port, err := range c.ended {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the client at port %d: %v; the connection: %v", port, err, c.lost[port])
		}
	}
}

// randomFaults holds up frames for up to some seconds, and may do more to them.
func randomFaults(rng *rand.Rand) wire.Faults {
	f := wire.Faults{Delay: time.Duration(rng.IntN(5)) * 500 * time.Millisecond, Jitter: time.Duration(rng.IntN(4)) * time.Second}
	if rng.IntN(2) == 0 {
		f.Loss, f.Duplicate, f.Reorder, f.ReorderDelay = 0.1*rng.Float64(), 0.2*rng.Float64(), 0.2*rng.Float64(), 2*time.Second
	}
	return f
}

// deafen has faults happen both ways, and the clients hear nothing until hear is
// called.
func (c *crush) deafen(t *testing.T, faults wire.Faults) (hear func()) {
	var heard atomic.Bool
	back := faults
	back.Filter = func(_ wire.Dir, f []byte) wire.Verdict {
		var info packet.Info
		if !heard.Load() && packet.Parse(f, &info) == packet.OK && info.Kind.IsTCP() {
			return wire.Drop
		}
		return wire.Pass
	}
	if err := errors.Join(c.ow.w.SetFaults(wire.From1, faults), c.ow.w.SetFaults(wire.From0, back)); err != nil {
		t.Fatal(err)
	}
	return func() { heard.Store(true) }
}

// data is what a client sends from a port.
func (c *crush) data(port int) []byte {
	b := make([]byte, c.size)
	for i := range b {
		b[i] = byte(port + i)
	}
	return b
}

// call is what a client does.
func (c *crush) call(ctx context.Context, port int) error {
	d := &Dialer{Stack: c.ow.s[1], LocalAddr: &net.TCPAddr{Port: port}}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(c.host, "80"))
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.(*TCPConn).SetLinger(0)                      //nolint:errcheck // it is open
	conn.SetDeadline(time.Now().Add(8 * time.Minute)) //nolint:errcheck // it is open
	if _, err := conn.Write(c.data(port)); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 4))
	return err
}

// serve accepts, with a pause after each, until nobody has come for minutes.
func (c *crush) serve(l *TCPListener, pause time.Duration) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		l.SetDeadline(time.Now().Add(3 * time.Minute)) //nolint:errcheck // it is open
		s, err := l.Accept()
		if err != nil {
			return
		}
		time.Sleep(pause)
		all.Go(func() {
			defer s.Close()
			port, b := s.RemoteAddr().(*net.TCPAddr).Port, make([]byte, c.size)
			s.SetDeadline(time.Now().Add(9 * time.Minute)) //nolint:errcheck // it is open
			n, err := io.ReadFull(s, b)
			if err != nil || !bytes.Equal(b, c.data(port)) {
				c.mu.Lock()
				c.lost[port] = fmt.Errorf("%d bytes of %d, %w", n, c.size, err)
				c.mu.Unlock()
				return
			}
			s.Write([]byte("back")) //nolint:errcheck // the client tells
			s.Read(b)               //nolint:errcheck // the end
		})
	}
}
