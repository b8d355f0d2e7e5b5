package netdiff

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"time"
)

// errHalf is what readers and writers fail with half way.
var errHalf = errors.New("half way")

// A halfWriter takes so many bytes and then fails.
type halfWriter struct{ left int }

func (w *halfWriter) Write(b []byte) (int, error) {
	n := min(len(b), w.left)
	if w.left -= n; n < len(b) {
		return n, errHalf
	}
	return n, nil
}

// copyBehaviours are about ReadFrom and WriteTo, which io.Copy looks for.
func copyBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) { all = append(all, behaviour{name: "copy/" + name, run: run}) }
	lossy := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "copy/" + name, run: run, lossy: true})
	}
	const size = 100000

	// From sources of all kinds to a connection.
	sources := []struct {
		name string
		make func(*env) io.Reader
	}{
		{"bytes.Reader", func(*env) io.Reader { return bytes.NewReader(pattern(size)) }},
		{"a reader alone", func(*env) io.Reader { return struct{ io.Reader }{bytes.NewReader(pattern(size))} }},
		{"a file", func(e *env) io.Reader { return e.file(pattern(size)) }},
		{"a part of a file", func(e *env) io.Reader { return io.LimitReader(e.file(append(pattern(size), "more"...)), size) }},
		{"a connection", func(e *env) io.Reader {
			c, far := e.accepted()
			e.start(func() string {
				far.Write(pattern(size)) //nolint:errcheck // the copy tells
				return e.err(far.CloseWrite())
			})
			e.must(c.SetReadDeadline(e.late()))
			return c
		}},
		{"a reader that fails", func(*env) io.Reader {
			return io.MultiReader(bytes.NewReader(pattern(size)), failing{})
		}},
	}
	for _, src := range sources {
		lossy("all of "+src.name, func(e *env) {
			c, far := e.dialed()
			read := e.start(func() string {
				e.must(far.SetReadDeadline(e.late()))
				b, err := io.ReadAll(far)
				e.must(err)
				return map[bool]string{true: "all", false: "something else"}[bytes.Equal(b, pattern(size))]
			})
			e.saw("%s", e.io64(io.Copy(c, src.make(e))))
			e.must(c.CloseWrite())
			e.saw("%s", read.result())
		})
	}
	add("a part of a connection leaves the rest", func(e *env) {
		c1, far1 := e.dialed()
		c2, far2 := e.dialed()
		e.send(far1, "hello, world")
		limited := &io.LimitedReader{R: c1, N: 5}
		e.saw("%s, %d left", e.io64(c2.ReadFrom(limited)), limited.N)
		e.saw("%q %q", e.exactly(far2, 5), e.exactly(c1, 7))
	})
	add("a part longer than the connection", func(e *env) {
		c1, far1 := e.dialed()
		c2, far2 := e.dialed()
		e.send(far1, "hello")
		e.must(far1.CloseWrite())
		limited := &io.LimitedReader{R: c1, N: 100}
		e.saw("%s, %d left", e.io64(c2.ReadFrom(limited)), limited.N)
		e.saw("%q", e.exactly(far2, 5))
	})
	add("a part of nothing", func(e *env) {
		c1, _ := e.dialed()
		c2, _ := e.dialed()
		e.saw("%s", e.io64(c2.ReadFrom(&io.LimitedReader{R: c1, N: 0})))
		e.saw("%s", e.io64(c2.ReadFrom(&io.LimitedReader{R: c1, N: -1})))
	})

	// To sinks of all kinds.
	sinks := []struct {
		name string
		make func(*env) (io.Writer, func() []byte)
	}{
		{"a buffer", func(*env) (io.Writer, func() []byte) {
			b := new(bytes.Buffer)
			return b, b.Bytes
		}},
		{"a file", func(e *env) (io.Writer, func() []byte) {
			f := e.file(nil)
			return f, func() []byte {
				_, err := f.Seek(0, io.SeekStart)
				e.must(err)
				b, err := io.ReadAll(f)
				e.must(err)
				return b
			}
		}},
		{"a connection", func(e *env) (io.Writer, func() []byte) {
			c, far := e.dialed()
			got := make(chan []byte, 1)
			e.start(func() string {
				b := make([]byte, size)
				n, _ := io.ReadFull(far, b)
				got <- b[:n]
				return ""
			})
			return c, func() []byte { return <-got }
		}},
	}
	for _, dst := range sinks {
		lossy("to "+dst.name+", all", func(e *env) {
			c, far := e.accepted()
			e.start(func() string {
				far.Write(pattern(size)) //nolint:errcheck // the copy tells
				return e.err(far.CloseWrite())
			})
			w, got := dst.make(e)
			e.must(c.SetReadDeadline(e.late()))
			e.saw("%s", e.io64(c.WriteTo(w)))
			e.saw("%v", bytes.Equal(got(), pattern(size)))
		})
	}
	add("to a writer that fails", func(e *env) {
		c, far := e.dialed()
		e.send(far, "hello, world")
		e.must(far.CloseWrite())
		e.exactly(c, 1) // then the rest is there too
		e.saw("%s", e.io64(c.WriteTo(&halfWriter{4})))
	})

	// How copies end.
	add("to a connection that has closed its half", func(e *env) {
		c, _ := e.dialed()
		e.must(c.CloseWrite())
		e.saw("%s", e.io64(c.ReadFrom(struct{ io.Reader }{strings.NewReader("x")})))
	})
	add("at a deadline of the reader", func(e *env) {
		c1, far1 := e.dialed()
		c2, _ := e.dialed()
		e.send(far1, "hello")
		e.exactly(c1, 1) // then the rest is there too
		copied := e.blocked(func() string { return e.io64(c2.ReadFrom(c1)) })
		e.must(c1.SetReadDeadline(time.Unix(1, 0)))
		e.saw("%s", copied.result())
	})
	add("at a deadline of WriteTo", func(e *env) {
		c, far := e.dialed()
		e.send(far, "hello")
		e.exactly(c, 1) // then the rest is there too
		copied := e.blocked(func() string { return e.io64(c.WriteTo(io.Discard)) })
		e.must(c.SetReadDeadline(time.Unix(1, 0)))
		e.saw("%s", copied.result())
	})
	add("at a deadline of the writer that has passed", func(e *env) {
		c1, far1 := e.dialed()
		c2, _ := e.dialed()
		e.send(far1, "hello")
		e.must(c2.SetWriteDeadline(time.Unix(1, 0)))
		e.saw("%s", e.io64(c2.ReadFrom(c1)))
	})
	for _, end := range []struct {
		name string
		do   func(from, to tcpConn) error
	}{
		{"Close of the source", func(from, _ tcpConn) error { return from.Close() }},
		{"CloseRead of the source", func(from, _ tcpConn) error { return from.CloseRead() }},
	} {
		add(end.name+" ends a copy that waits", func(e *env) {
			c1, _ := e.dialed()
			c2, _ := e.dialed()
			copied := e.blocked(func() string { return e.io64(c2.ReadFrom(c1)) })
			e.must(end.do(c1, c2))
			e.saw("%s", copied.result())
		})
		add(end.name+" ends WriteTo that waits", func(e *env) {
			c1, _ := e.dialed()
			copied := e.blocked(func() string { return e.io64(c1.WriteTo(io.Discard)) })
			e.must(end.do(c1, nil))
			e.saw("%s", copied.result())
		})
	}
	add("a reset of the source ends a copy that waits", func(e *env) {
		c1, far1 := e.dialed()
		c2, _ := e.dialed()
		copied := e.blocked(func() string { return e.io64(c2.ReadFrom(c1)) })
		e.reset(far1)
		e.saw("%s", copied.result())
	})
	add("both ways, by a proxy", func(e *env) {
		c1, far1 := e.accepted()
		c2, far2 := e.dialed()
		there := e.start(func() string { return e.io64(io.Copy(c2, c1)) + e.err(c2.CloseWrite()) })
		back := e.start(func() string { return e.io64(io.Copy(c1, c2)) + e.err(c1.CloseWrite()) })
		echo := e.start(func() string { return e.io64(io.Copy(far2, far2)) + e.err(far2.CloseWrite()) })
		write := e.start(func() string {
			n, err := far1.Write(pattern(size))
			return e.io(n, err) + e.err(far1.CloseWrite())
		})
		e.must(far1.SetReadDeadline(e.late()))
		b, err := io.ReadAll(far1)
		e.saw("%v %s", bytes.Equal(b, pattern(size)), e.err(err))
		e.saw("%s %s", there.result(), back.result())
		e.saw("%s %s", echo.result(), write.result())
	})
	return all
}

// failing is a reader that fails.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errHalf }

// file returns a file with some bytes, which nobody else sees.
func (e *env) file(b []byte) *os.File {
	f, err := os.CreateTemp("", "netdiff")
	e.must(err)
	e.must(os.Remove(f.Name()))
	_, err = f.Write(b)
	e.must(err)
	_, err = f.Seek(0, io.SeekStart)
	e.must(err)
	return f
}
