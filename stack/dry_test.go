package stack

import (
	"io"
	"runtime"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// readCounter counts the calls of its endpoint's Read.
type readCounter struct {
	tcpip.Endpoint
	n int
}

func (r *readCounter) Read(w io.Writer, o tcpip.ReadOptions) (tcpip.ReadResult, tcpip.Error) {
	r.n++
	return r.Endpoint.Read(w, o)
}

// TestDryRead has a reader that has had everything wait without asking once more.
func TestDryRead(t *testing.T) {
	p := newPair(t)
	c, s := p.connect(t, "tcp", addrB)
	r := &readCounter{Endpoint: s.ep}
	s.ep = r
	const rounds = 100
	b := make([]byte, 100)
	for range rounds {
		if _, err := c.Write(b[:64]); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Read(b); n != 64 || err != nil {
			t.Fatal(n, err)
		}
		if _, err := s.Write(b[:64]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b[:64]); err != nil {
			t.Fatal(err)
		}
	}
	// A wakeup that was left over costs one more.
	if r.n > rounds*3/2 {
		t.Errorf("the endpoint was asked %d times for %d reads", r.n, rounds)
	}
}

// woken waits until done, and takes the reader's wakeup.
func woken(t *testing.T, s *TCPConn, done func() bool) {
	t.Helper()
	within(t, "the packets", func() {
		for !done() {
			runtime.Gosched()
		}
	})
	if !s.rd.take() {
		t.Error("nobody was woken")
	}
}

// TestDryEnd ends the peer's data with one wakeup for both: the end has to be
// found although nothing else will come.
func TestDryEnd(t *testing.T) {
	p := newPair(t)
	c, s := p.connect(t, "tcp", addrB)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	woken(t, s, func() bool { return tcp.EndpointState(s.ep.State()) == tcp.StateCloseWait })
	within(t, "the end", func() {
		if got, err := io.ReadAll(s); string(got) != "x" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestDryParked has somebody else take the wakeup, and leave the data.
func TestDryParked(t *testing.T) {
	p := newPair(t)
	c, s := p.connect(t, "tcp", addrB)
	b := make([]byte, 10)
	for range 2 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		within(t, "the data", func() {
			if n, err := s.Read(b); n != 1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		})
	}
	s.rd.take()
	s.rd.dry = true
	if _, err := c.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	within(t, "the data", func() {
		for s.ep.Readiness(waiter.ReadableEvents) == 0 {
			runtime.Gosched()
		}
		s.rd.mu.Lock()
		s.rd.park()
		s.rd.mu.Unlock()
		if n, err := s.Read(b); n != 1 || err != nil || b[0] != 'y' {
			t.Errorf("%d, %v", n, err)
		}
	})
}

// TestDryCloseRead ends reading behind data, with one wakeup for both: the end has to
// be found although nothing else will come.
func TestDryCloseRead(t *testing.T) {
	p := newPair(t)
	c, s := p.connect(t, "tcp", addrB)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	within(t, "the data", func() {
		for s.unread() == 0 {
			runtime.Gosched()
		}
	})
	if err := s.CloseRead(); err != nil {
		t.Fatal(err)
	}
	woken(t, s, func() bool { return true })
	within(t, "the end", func() {
		if got, err := io.ReadAll(s); string(got) != "x" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}
