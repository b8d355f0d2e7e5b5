package stack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/afxnet/afxnet/internal/raced"
)

// A way is one of those that bytes can be copied between connections; the near
// end of both pairs is given to the copy.
type way struct {
	name string
	in   func(t testing.TB, ow *overWire) (far, near net.Conn) // what is copied from
	out  func(t testing.TB, ow *overWire) (near, far net.Conn) // what is copied to
}

func ourPair(t testing.TB, ow *overWire) (far, near net.Conn) {
	c, s := ow.tcpPair(t, addrB)
	return c, s
}

// kernelPair is a pair of connections of package net.
func kernelPair(network string) func(testing.TB, *overWire) (far, near net.Conn) {
	return func(t testing.TB, _ *overWire) (far, near net.Conn) {
		t.Helper()
		at := "127.0.0.1:0"
		if network == "unix" {
			at = filepath.Join(t.TempDir(), "s")
		}
		l, err := net.Listen(network, at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if far, err = net.Dial(network, l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if near, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { far.Close(); near.Close() })
		return far, near
	}
}

func swapped(f func(testing.TB, *overWire) (far, near net.Conn)) func(testing.TB, *overWire) (near, far net.Conn) {
	return func(t testing.TB, ow *overWire) (net.Conn, net.Conn) {
		far, near := f(t, ow)
		return near, far
	}
}

// plain hides everything of a connection but Read and Write.
func plain(f func(testing.TB, *overWire) (far, near net.Conn)) func(testing.TB, *overWire) (far, near net.Conn) {
	return func(t testing.TB, ow *overWire) (net.Conn, net.Conn) {
		far, near := f(t, ow)
		return far, struct{ net.Conn }{near}
	}
}

var ways = []way{
	{"ours to ours", ourPair, swapped(ourPair)},
	{"ours to kernel TCP", ourPair, swapped(kernelPair("tcp"))},
	{"ours to kernel Unix", ourPair, swapped(kernelPair("unix"))},
	{"kernel TCP to ours", kernelPair("tcp"), swapped(ourPair)},
	{"kernel Unix to ours", kernelPair("unix"), swapped(ourPair)},
	{"ours to a writer", ourPair, swapped(plain(kernelPair("tcp")))},
	{"a reader to ours", plain(kernelPair("tcp")), swapped(ourPair)},
}

type closeWriter interface{ CloseWrite() error }

// TestCopy copies a lot, in pieces of any length, through buffers that are
// sometimes full, and compares.
func TestCopy(t *testing.T) {
	for _, w := range ways {
		for _, small := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, small buffers %v", w.name, small), func(t *testing.T) {
				ow := newOverWire(t, overWireOptions{})
				src, in := w.in(t, ow)
				out, dst := w.out(t, ow)
				if small {
					for _, c := range []net.Conn{in, out} {
						if b, ok := c.(interface{ SetWriteBuffer(int) error }); ok {
							b.SetWriteBuffer(4 << 10) //nolint:errcheck // smaller is enough
						}
					}
				}
				n := 6 << 20
				if raceEnabled || small || testing.Short() {
					n = 256 << 10
				}
				data := make([]byte, n)
				rand.NewChaCha8([32]byte{byte(n)}).Read(data)
				go func() {
					for rest := data; len(rest) > 0; {
						k := min(len(rest), 1+len(rest)%100_003)
						if _, err := src.Write(rest[:k]); err != nil {
							t.Error(err)
						}
						rest = rest[k:]
					}
					src.(closeWriter).CloseWrite() //nolint:errcheck // the reader tells
				}()
				copied := make(chan error, 1)
				go func() {
					m, err := io.Copy(out, in)
					if m != int64(n) && err == nil {
						err = fmt.Errorf("%d bytes of %d", m, n)
					}
					if cw, ok := out.(closeWriter); ok {
						cw.CloseWrite() //nolint:errcheck // the reader tells
					} else {
						out.Close()
					}
					copied <- err
				}()
				within(t, "the copy", func() {
					h := sha256.New()
					m, err := io.Copy(h, struct{ io.Reader }{dst})
					if m != int64(n) || err != nil || [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
						t.Errorf("%d bytes of %d, %v", m, n, err)
					}
					if err := <-copied; err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestCopyLimited copies that many bytes and leaves the rest.
func TestCopyLimited(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			ow := newOverWire(t, overWireOptions{})
			src, in := w.in(t, ow)
			out, dst := w.out(t, ow)
			data := make([]byte, 200<<10)
			rand.NewChaCha8([32]byte{1}).Read(data)
			go func() {
				src.Write(data)                //nolint:errcheck // the reader tells
				src.(closeWriter).CloseWrite() //nolint:errcheck // the reader tells
			}()
			const first = 150_001
			go func() {
				if n, err := io.CopyN(out, in, first); n != first || err != nil {
					t.Errorf("CopyN = %d, %v", n, err)
				}
				if n, err := io.CopyN(out, in, 1<<20); n != int64(len(data)-first) || err != io.EOF {
					t.Errorf("CopyN of the rest = %d, %v, want EOF", n, err)
				}
				out.Close()
			}()
			within(t, "the copy", func() {
				got, err := io.ReadAll(struct{ io.Reader }{dst})
				if !bytes.Equal(got, data) || err != nil {
					t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
				}
			})
		})
	}
}

// TestCopyEcho has a connection send back what comes.
func TestCopyEcho(t *testing.T) {
	ow := newOverWire(t, overWireOptions{})
	c, s := ow.tcpPair(t, addrB)
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(s, s)
		done <- errors.Join(err, s.CloseWrite())
	}()
	go send(c, 5, 1<<20) //nolint:errcheck // the reader tells
	within(t, "the echo", func() {
		if n, err := io.Copy(io.Discard, c); n != 1<<20 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestCopyProxy copies both ways between two connections at once, which both are
// ours, and then between ours and the kernel's.
func TestCopyProxy(t *testing.T) {
	for _, w := range ways[:2] {
		t.Run(w.name, func(t *testing.T) {
			ow := newOverWire(t, overWireOptions{})
			src, in := w.in(t, ow)
			out, dst := w.out(t, ow)
			for _, p := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					io.Copy(p[1], p[0])             //nolint:errcheck // the readers tell
					p[1].(closeWriter).CloseWrite() //nolint:errcheck // the readers tell
				}()
			}
			const n = 2 << 20
			for _, end := range []net.Conn{src, dst} {
				go func() {
					end.Write(make([]byte, n))     //nolint:errcheck // the readers tell
					end.(closeWriter).CloseWrite() //nolint:errcheck // the readers tell
				}()
			}
			// One after the other: meanwhile the windows of one direction are shut.
			within(t, "the copies", func() {
				for _, end := range []net.Conn{src, dst} {
					if m, err := io.Copy(io.Discard, struct{ io.Reader }{end}); m != n || err != nil {
						t.Errorf("%d bytes of %d, %v", m, n, err)
					}
				}
			})
		})
	}
}

// TestCopyReader copies from and to what is no connection.
func TestCopyReader(t *testing.T) {
	ow := newOverWire(t, overWireOptions{})
	text := strings.Repeat("0123456789", 30_000)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []struct {
		name string
		open func() io.Reader
	}{
		{"a strings.Reader", func() io.Reader { return strings.NewReader(text) }},
		{"a reader", func() io.Reader { return struct{ io.Reader }{strings.NewReader(text)} }},
		{"a file", func() io.Reader {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f
		}},
		{"a part of a file", func() io.Reader {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return io.LimitReader(f, int64(len(text)))
		}},
	} {
		t.Run(from.name, func(t *testing.T) {
			c, s := ow.tcpPair(t, addrB)
			go func() {
				if n, err := c.ReadFrom(from.open()); n != int64(len(text)) || err != nil {
					t.Errorf("ReadFrom = %d, %v", n, err)
				}
				c.CloseWrite() //nolint:errcheck // the reader tells
			}()
			within(t, "the copy", func() {
				var b bytes.Buffer
				if n, err := s.WriteTo(&b); n != int64(len(text)) || err != nil || b.String() != text {
					t.Errorf("WriteTo = %d, %v", n, err)
				}
			})
		})
	}
}

// TestCopyErrors ends either side while a copy waits for data.
func TestCopyErrors(t *testing.T) {
	for _, w := range ways {
		for _, tc := range []struct {
			name string
			end  func(in, out net.Conn)
			want error
		}{
			{"the source is closed", func(in, _ net.Conn) { in.Close() }, net.ErrClosed},
			{"its deadline passes", func(in, _ net.Conn) { in.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		} {
			t.Run(w.name+", "+tc.name, func(t *testing.T) {
				ow := newOverWire(t, overWireOptions{})
				src, in := w.in(t, ow)
				out, dst := w.out(t, ow)
				copied := make(chan error, 1)
				go func() { _, err := io.Copy(out, in); copied <- err }()
				// The copy is under way when its first byte has come.
				if _, err := src.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(dst, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				tc.end(in, out)
				within(t, "the copy", func() {
					err := <-copied
					var oe *net.OpError
					if !errors.Is(err, tc.want) || !errors.As(err, &oe) {
						t.Errorf("%v, want %v in a *net.OpError", err, tc.want)
					}
				})
			})
		}
	}
}

// TestCopyToEOF copies to a writer that says io.EOF, which is not wrapped.
func TestCopyToEOF(t *testing.T) {
	p := newPair(t)
	c, s := p.connect(t, "tcp", addrB)
	defer c.Close()
	defer s.Close()
	if _, err := s.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.WriteTo(deadWriter{}); n != 1 || err != io.EOF {
		t.Errorf("%d, %v; want 1 and io.EOF as it is", n, err)
	}
}

// A deadWriter takes a byte and has enough.
type deadWriter struct{}

func (deadWriter) Write([]byte) (int, error) { return 1, io.EOF }

// TestCopyToClosed copies to a connection that takes nothing, and closes that.
func TestCopyToClosed(t *testing.T) {
	for _, w := range ways {
		if strings.HasPrefix(w.name, "a reader") {
			continue // like any Write
		}
		t.Run(w.name, func(t *testing.T) {
			ow := newOverWire(t, overWireOptions{})
			src, in := w.in(t, ow)
			out, _ := w.out(t, ow)
			go func() {
				for {
					if _, err := src.Write(make([]byte, 1<<20)); err != nil {
						return
					}
				}
			}()
			copied := make(chan error, 1)
			started := make(chan struct{})
			go func() {
				close(started)
				_, err := io.Copy(out, in)
				copied <- err
			}()
			<-started
			within(t, "Close", func() { out.Close() })
			within(t, "the copy", func() {
				if err := <-copied; !errors.Is(err, net.ErrClosed) {
					t.Errorf("%v, want net.ErrClosed", err)
				}
				in.Close()
			})
		})
	}
}

// TestCopyReset resets the connection that is copied to.
func TestCopyReset(t *testing.T) {
	ow := newOverWire(t, overWireOptions{})
	src, in := ow.tcpPair(t, addrB)
	dst, out := ow.tcpPair(t, addrB)
	copied := make(chan error, 1)
	go func() { _, err := io.Copy(out, in); copied <- err }()
	dst.SetLinger(0) //nolint:errcheck // open
	dst.Close()
	within(t, "the copy", func() {
		for {
			if _, err := src.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-copied:
				if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("%v, want ECONNRESET or EPIPE", err)
				}
				return
			default:
			}
		}
	})
}

// TestCopyAllocs counts the allocations for a piece of data that goes through a
// copy and comes back at the other end.
func TestCopyAllocs(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			f := copyRound(t, w, 16<<10)
			for range raced.Few(500, 50) {
				f()
			}
			// AllocsPerRun rounds down: a garbage collection empties pools.
			if got := testing.AllocsPerRun(raced.Few(1000, 50), f); got > 0 && !raceEnabled {
				t.Errorf("%v allocations, want 0", got)
			}
		})
	}
}

// copyRound returns a function that sends n bytes through a copy.
func copyRound(t testing.TB, w way, n int) func() {
	ow := newOverWire(t, overWireOptions{})
	src, in := w.in(t, ow)
	out, dst := w.out(t, ow)
	go io.Copy(out, in) //nolint:errcheck // ends with the test
	b, c := make([]byte, n), make([]byte, n)
	return func() {
		if _, err := src.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(dst, c); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkCopy compares the short ways with what io.Copy does without them.
func BenchmarkCopy(b *testing.B) {
	for _, w := range ways[:5] {
		for _, how := range []string{"direct", "buffer"} {
			b.Run(w.name+"/"+how, func(b *testing.B) {
				if how == "buffer" {
					in, out := w.in, w.out
					w.in = plain(in)
					w.out = func(t testing.TB, ow *overWire) (net.Conn, net.Conn) {
						near, far := out(t, ow)
						return struct{ net.Conn }{near}, far
					}
				}
				const n = 256 << 10
				f := copyRound(b, w, n)
				f()
				b.SetBytes(n)
				b.ReportAllocs()
				for b.Loop() {
					f()
				}
			})
		}
	}
}

// A meddler is an endpoint that calls f after each Read that takes something.
type meddler struct {
	tcpip.Endpoint
	f func()
}

func (m *meddler) Read(w io.Writer, o tcpip.ReadOptions) (tcpip.ReadResult, tcpip.Error) {
	r, terr := m.Endpoint.Read(w, o)
	if r.Count != 0 {
		m.f()
	}
	return r, terr
}

// TestCopyWhileBufferShrinks sets the send buffer of what is copied to when bytes have
// left where they come from, and have not arrived, if it can be set then.
func TestCopyWhileBufferShrinks(t *testing.T) {
	p := newPair(t)
	src, in := p.connect(t, "tcp", addrB)
	dst, out := p.connect(t, "tcp", addrB)
	in.ep = &meddler{in.ep, func() {
		if out.control.TryLock() {
			out.control.Unlock()
			out.SetWriteBuffer(4 << 10) //nolint:errcheck // it is open
		}
	}}
	data := make([]byte, 32<<10)
	rand.NewChaCha8([32]byte{1}).Read(data)
	if _, err := src.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := src.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	within(t, "the bytes", func() {
		for in.unread() != len(data) {
			runtime.Gosched()
		}
	})
	within(t, "the copy", func() {
		if n, err := io.Copy(out, in); n != int64(len(data)) || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		out.Close()
		if got, err := io.ReadAll(dst); !bytes.Equal(got, data) || err != nil {
			t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
		}
	})
}
