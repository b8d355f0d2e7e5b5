package stack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/nettest"
)

func TestNetConn(t *testing.T) {
	for _, tc := range []struct {
		name, host string
		o          pairOptions
	}{
		{"ipv4", addrB, pairOptions{}},
		{"ipv6", addrB6, pairOptions{}},
		{"segments of 64 KB, verified", addrB, pairOptions{gso: true, verified: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				tc.o.a, tc.o.b = testConfig(addrA, addrA6), testConfig(addrB, addrB6)
				p := newPairWith(t, tc.o)
				c, s := p.connect(t, "tcp", tc.host)
				return c, s, func() { c.Close(); s.Close() }, nil
			})
		})
	}
}

// TestTransfer sends a lot both ways at once and compares hashes.
func TestTransfer(t *testing.T) {
	for _, tc := range []struct {
		name, host string
		o          pairOptions
	}{
		{"ipv4", addrB, pairOptions{}},
		{"ipv6 verified", addrB6, pairOptions{verified: true}},
		{"ipv4 64 KB", addrB, pairOptions{gso: true, verified: true}},
		{"ipv6 64 KB", addrB6, pairOptions{gso: true, verified: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.o.a, tc.o.b = testConfig(addrA, addrA6), testConfig(addrB, addrB6)
			p := newPairWith(t, tc.o)
			c, s := p.connect(t, "tcp", tc.host)
			data := make([]byte, 3<<20)
			for i := range data {
				data[i] = byte(rand.Uint32())
			}
			want := sha256.Sum256(data)
			var wg sync.WaitGroup
			for _, conn := range []*TCPConn{c, s} {
				wg.Add(2)
				go func() {
					defer wg.Done()
					if n, err := conn.Write(data); n != len(data) || err != nil {
						t.Errorf("Write = %d, %v", n, err)
					}
					if err := conn.CloseWrite(); err != nil {
						t.Errorf("CloseWrite: %v", err)
					}
				}()
				go func() {
					defer wg.Done()
					h := sha256.New()
					if n, err := io.Copy(h, conn); n != int64(len(data)) || err != nil {
						t.Errorf("read %d bytes, %v", n, err)
					}
					if !bytes.Equal(h.Sum(nil), want[:]) {
						t.Error("what was read is not what was written")
					}
				}()
			}
			within(t, "transfer", wg.Wait)
		})
	}
}

// TestHalfClose ends one direction, and uses the other one after that.
func TestHalfClose(t *testing.T) {
	p := newPair(t)
	for _, order := range []string{"client first", "server first"} {
		t.Run(order, func(t *testing.T) {
			first, second := p.connect(t, "tcp", addrB)
			if order == "server first" {
				first, second = second, first
			}
			if _, err := first.Write([]byte("question")); err != nil {
				t.Fatal(err)
			}
			if err := first.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := first.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Write after CloseWrite: %v, want EPIPE", err)
			}
			if got, err := io.ReadAll(second); string(got) != "question" || err != nil {
				t.Fatalf("second read %q, %v", got, err)
			}
			if n, err := second.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("Read after EOF = %d, %v", n, err)
			}
			if _, err := second.Write([]byte("answer")); err != nil {
				t.Fatal(err)
			}
			if err := second.Close(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(first); string(got) != "answer" || err != nil {
				t.Fatalf("first read %q, %v", got, err)
			}
		})
	}
}

func TestCloseRead(t *testing.T) {
	p := newPair(t)
	c, s := p.connect(t, "tcp", addrB)
	read := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
	p.parkA.wait(t)
	if err := c.CloseRead(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != io.EOF {
		t.Errorf("blocked Read after CloseRead: %v, want bare io.EOF", err)
	}
	if _, err := c.Write([]byte("still")); err != nil {
		t.Errorf("Write after CloseRead: %v", err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(s, got); string(got) != "still" || err != nil {
		t.Errorf("peer read %q, %v", got, err)
	}
}

// TestWritesAreNotMixed has many goroutines write blocks larger than the send
// buffer.
func TestWritesAreNotMixed(t *testing.T) {
	p := newPair(t)
	c, s := p.connect(t, "tcp", addrB)
	if err := c.SetWriteBuffer(8 << 10); err != nil {
		t.Fatal(err)
	}
	const writers, block = 8, 64 << 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if n, err := c.Write(bytes.Repeat([]byte{byte(w)}, block)); n != block || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
		}()
	}
	got := make([]byte, block)
	seen := make(map[byte]bool)
	for range writers {
		if _, err := io.ReadFull(s, got); err != nil {
			t.Fatal(err)
		}
		if seen[got[0]] || !bytes.Equal(got, bytes.Repeat(got[:1], block)) {
			t.Fatal("blocks of several writers are mixed")
		}
		seen[got[0]] = true
	}
	wg.Wait()
}

func TestZeroLength(t *testing.T) {
	p := newPair(t)
	c, s := p.connect(t, "tcp", addrB)
	if n, err := c.Read(nil); n != 0 || err != nil {
		t.Errorf("Read(nil) = %d, %v", n, err)
	}
	if n, err := c.Write(nil); n != 0 || err != nil {
		t.Errorf("Write(nil) = %d, %v", n, err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(nil); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Write(nil) after CloseWrite: %v, want EPIPE", err)
	}
	s.Close()
	c.Close()
	for what, f := range map[string]func([]byte) (int, error){"Read": c.Read, "Write": c.Write} {
		if _, err := f(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s(nil) after Close: %v, want net.ErrClosed", what, err)
		}
	}
}

// TestReadTakesWhatIsThere checks that Read neither waits for more nor loses
// what does not fit.
func TestReadTakesWhatIsThere(t *testing.T) {
	p := newPair(t)
	c, s := p.connect(t, "tcp", addrB)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	var got []byte
	for len(got) < 5 {
		n, err := s.Read(b)
		if n == 0 || err != nil {
			t.Fatalf("Read = %d, %v", n, err)
		}
		got = append(got, b[:n]...)
	}
	if string(got) != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestOptions(t *testing.T) {
	p := newPair(t)
	c, _ := p.connect(t, "tcp", addrB)
	ka := net.KeepAliveConfig{Enable: true, Idle: 1e9, Interval: -1, Count: 3}
	set := map[string]func() error{
		"SetNoDelay":         func() error { return c.SetNoDelay(false) },
		"SetKeepAlive":       func() error { return c.SetKeepAlive(false) },
		"SetKeepAlivePeriod": func() error { return c.SetKeepAlivePeriod(1e9) },
		"SetKeepAliveConfig": func() error { return c.SetKeepAliveConfig(ka) },
		"SetLinger":          func() error { return c.SetLinger(-1) },
		"SetReadBuffer":      func() error { return c.SetReadBuffer(1 << 16) },
		"SetWriteBuffer":     func() error { return c.SetWriteBuffer(1 << 16) },
		"CloseRead":          c.CloseRead,
		"CloseWrite":         c.CloseWrite,
	}
	for name, f := range set {
		if err := f(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.SetReadBuffer(-1); err != nil { // a large one, for Linux
		t.Errorf("SetReadBuffer(-1): %v", err)
	}
	if err := c.SetKeepAlivePeriod(maxKeepAliveTime + 1); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("SetKeepAlivePeriod beyond what Linux takes: %v, want EINVAL", err)
	}
	c.Close()
	for name, f := range set {
		if err := f(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Close: %v, want net.ErrClosed", name, err)
		}
	}
}

// TestCloseBothUnread shuts both directions while bytes wait to be read.
func TestCloseBothUnread(t *testing.T) {
	for _, order := range []string{"read first", "write first"} {
		t.Run(order, func(t *testing.T) {
			p := newPair(t)
			c, s := p.connect(t, "tcp", addrB)
			if _, err := s.Write([]byte("late")); err != nil {
				t.Fatal(err)
			}
			within(t, "the data", func() {
				for c.unread() == 0 {
					runtime.Gosched()
				}
			})
			if _, err := c.Write([]byte("answer")); err != nil {
				t.Fatal(err)
			}
			first, second := c.CloseRead, c.CloseWrite
			if order == "write first" {
				first, second = second, first
			}
			if err := first(); err != nil {
				t.Error(err)
			}
			if err := second(); err != nil {
				t.Error(err)
			}
			if got, err := io.ReadAll(s); string(got) != "answer" || err != nil {
				t.Errorf("peer: %q, %v", got, err)
			}
			if got, err := io.ReadAll(c); string(got) != "late" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
