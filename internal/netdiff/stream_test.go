package netdiff

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"
)

// pattern returns n bytes that show where a byte is missing, repeated or moved.
func pattern(n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(b) //nolint:errcheck // never fails
	return b
}

// tooMuch is more than fits into the buffers of a connection that nobody reads: of
// the kernel, 4 MB and 6 MB unless they were raised; of the stack, 1 MB each.
var tooMuch = make([]byte, 16<<20)

// streamBehaviours are about bytes on a connection, and how they end.
func streamBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) { all = append(all, behaviour{name: "stream/" + name, run: run}) }
	lossy := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "stream/" + name, run: run, lossy: true})
	}

	lossy("a message each way", func(e *env) {
		c, far := e.dialed()
		e.saw("%s", e.io(c.Write([]byte("hello"))))
		e.saw("%q", e.exactly(far, 5))
		e.send(far, "hello, you")
		e.saw("%q", e.exactly(c, 10))
	})
	lossy("a message each way, accepted", func(e *env) {
		c, far := e.accepted()
		e.saw("%s", e.io(c.Write([]byte("hello"))))
		e.saw("%q", e.exactly(far, 5))
		e.send(far, "hello, you")
		e.saw("%q", e.exactly(c, 10))
	})
	for _, size := range []int{1, 1459, 1460, 1461, 65535, 65536, 65537, 300000} {
		lossy(fmt.Sprintf("%d bytes out", size), func(e *env) {
			c, far := e.dialed()
			want := pattern(size)
			write := e.start(func() string { return e.io(c.Write(want)) })
			e.saw("%v", bytes.Equal(e.exactly(far, size), want))
			e.saw("%s", write.result())
		})
		lossy(fmt.Sprintf("%d bytes in", size), func(e *env) {
			c, far := e.accepted()
			want := pattern(size)
			write := e.start(func() string { return e.io(far.Write(want)) })
			e.saw("%v", bytes.Equal(e.exactly(c, size), want))
			e.saw("%s", write.result())
		})
	}
	add("4 MB out, then the end", func(e *env) {
		c, far := e.dialed()
		want := pattern(4 << 20)
		read := e.start(func() string {
			b, err := io.ReadAll(far)
			return fmt.Sprintf("%v %s", bytes.Equal(b, want), e.err(err))
		})
		e.saw("%s", e.io(c.Write(want)))
		e.saw("%s", e.err(c.Close()))
		e.saw("%s", read.result())
	})
	add("4 MB in, then the end", func(e *env) {
		c, far := e.dialed()
		want := pattern(4 << 20)
		write := e.start(func() string {
			n, err := far.Write(want)
			return e.io(n, err) + e.err(far.Close())
		})
		e.must(c.SetReadDeadline(e.late()))
		b, err := io.ReadAll(c)
		e.saw("%v %s", bytes.Equal(b, want), e.err(err))
		e.saw("%s", write.result())
	})
	add("io.Copy out", func(e *env) {
		c, far := e.dialed()
		want := pattern(1 << 20)
		read := e.start(func() string { return fmt.Sprint(bytes.Equal(e.exactly(far, len(want)), want)) })
		n, err := io.Copy(c, bytes.NewReader(want))
		e.saw("%s", e.io(int(n), err))
		e.saw("%s", read.result())
	})
	add("io.Copy in", func(e *env) {
		c, far := e.dialed()
		want := pattern(1 << 20)
		write := e.start(func() string {
			n, err := far.Write(want)
			return e.io(n, err) + e.err(far.Close())
		})
		e.must(c.SetReadDeadline(e.late()))
		var got bytes.Buffer
		n, err := io.Copy(&got, c)
		e.saw("%s %v", e.io(int(n), err), bytes.Equal(got.Bytes(), want))
		e.saw("%s", write.result())
	})
	add("io.Copy from one connection to another", func(e *env) {
		c1, far1 := e.dialed()
		c2, far2 := e.accepted()
		want := pattern(1 << 20)
		copied := e.start(func() string {
			n, err := io.Copy(c2, c1)
			return e.io(int(n), err) + e.err(c2.CloseWrite())
		})
		write := e.start(func() string {
			n, err := far1.Write(want)
			return e.io(n, err) + e.err(far1.CloseWrite())
		})
		e.must(far2.SetReadDeadline(e.late()))
		b, err := io.ReadAll(far2)
		e.saw("%v %s", bytes.Equal(b, want), e.err(err))
		e.saw("%s %s", copied.result(), write.result())
	})
	add("net.Buffers", func(e *env) {
		c, far := e.dialed()
		v := net.Buffers{[]byte("one "), {}, []byte("two "), []byte("three")}
		n, err := v.WriteTo(c)
		e.saw("%s, %d left", e.io(int(n), err), len(v))
		e.saw("%q", e.exactly(far, 13))
	})
	add("Read takes what is there", func(e *env) {
		c, far := e.dialed()
		e.send(far, "hello, world")
		e.must(c.SetReadDeadline(e.late()))
		first := e.exactly(c, 1) // then the rest, which came with it, is there too
		rest := make([]byte, 100)
		n, err := c.Read(rest)
		e.saw("%q %q %s", first, rest[:n], e.err(err))
	})
	add("Read into a short buffer keeps the rest", func(e *env) {
		c, far := e.dialed()
		e.send(far, "hello, world")
		e.must(c.SetReadDeadline(e.late()))
		for _, size := range []int{1, 2, 4, 5} {
			e.saw("%q", e.exactly(c, size))
		}
	})
	add("concurrent Writes are not mixed", func(e *env) {
		c, far := e.dialed()
		const size, writers = 300000, 4
		var calls []*call
		for i := range writers {
			calls = append(calls, e.start(func() string { return e.io(c.Write(bytes.Repeat([]byte{byte('a' + i)}, size))) }))
		}
		got := e.exactly(far, size*writers)
		runs := slices.Compact(slices.Clone(got))
		slices.Sort(runs)
		e.saw("%q", runs)
		for _, c := range calls {
			e.saw("%s", c.result())
		}
	})
	add("concurrent Writes of lines", func(e *env) {
		c, far := e.dialed()
		const lines, writers = 200, 4
		line := bytes.Repeat([]byte("0123456789"), 10)
		for range writers {
			e.start(func() string {
				for range lines {
					if _, err := c.Write(line); err != nil {
						return e.err(err)
					}
				}
				return ""
			})
		}
		got := e.exactly(far, len(line)*lines*writers)
		e.saw("%v", bytes.Equal(got, bytes.Repeat(line, lines*writers)))
	})
	add("concurrent Reads share the bytes", func(e *env) {
		c, far := e.dialed()
		sums := make(chan int, 3)
		e.must(c.SetReadDeadline(e.late()))
		for range cap(sums) {
			e.start(func() string {
				n, _ := io.Copy(io.Discard, c)
				sums <- int(n)
				return ""
			})
		}
		_, err := far.Write(pattern(200000))
		e.must(err)
		e.must(far.CloseWrite())
		e.saw("%d", <-sums+<-sums+<-sums)
	})

	// The end of the peer's data.
	lossy("EOF after the last byte", func(e *env) {
		c, far := e.dialed()
		e.send(far, "last words")
		e.must(far.Close())
		e.must(c.SetReadDeadline(e.late()))
		b, err := io.ReadAll(c)
		e.saw("%q %s", b, e.err(err))
		e.saw("%s", e.read(c, 8))
		e.saw("%s", e.read(c, 8))
	})
	lossy("EOF, and still a Write", func(e *env) {
		c, far := e.dialed()
		e.must(far.CloseWrite())
		e.saw("%s", e.readAll(c))
		e.saw("%s", e.io(c.Write([]byte("hello"))))
		e.saw("%q", e.exactly(far, 5))
	})
	lossy("CloseWrite, and still a Read", func(e *env) {
		c, far := e.dialed()
		e.send(c, "question")
		e.must(c.CloseWrite())
		far.SetReadDeadline(e.late())
		b, err := io.ReadAll(far)
		e.saw("%q %s", b, e.err(err))
		e.send(far, "answer")
		e.must(far.Close())
		e.must(c.SetReadDeadline(e.late()))
		b, err = io.ReadAll(c)
		e.saw("%q %s", b, e.err(err))
		e.saw("%s", e.io(c.Write([]byte("x"))))
	})
	add("CloseWrite twice", func(e *env) {
		c, far := e.dialed()
		e.saw("%s", e.err(c.CloseWrite()))
		e.saw("%s", e.err(c.CloseWrite()))
		e.saw("%s", e.readAll(far))
	})
	add("CloseWrite on both ends, then Close", func(e *env) {
		c, far := e.dialed()
		e.must(c.CloseWrite())
		e.must(far.CloseWrite())
		e.saw("%s %s", e.readAll(c), e.readAll(far))
		e.saw("%s", e.err(c.Close()))
	})
	add("CloseWrite on both ends, then CloseRead and CloseWrite", func(e *env) {
		c, far := e.dialed()
		e.must(c.CloseWrite())
		e.saw("%s", e.readAll(far))
		e.must(far.CloseWrite())
		e.saw("%s", e.readAll(c))
		e.saw("%s", e.err(c.CloseRead()))
		e.saw("%s", e.err(c.CloseWrite()))
	})
	add("CloseRead leaves what has arrived", func(e *env) {
		c, far := e.dialed()
		e.send(far, "hello")
		e.exactly(c, 1)
		e.must(c.CloseRead())
		e.must(c.SetReadDeadline(e.late()))
		b, err := io.ReadAll(c)
		e.saw("%q %s", b, e.err(err))
	})
	for _, order := range []string{"CloseRead and CloseWrite", "CloseWrite and CloseRead"} {
		add(order+" with bytes unread", func(e *env) {
			c, far := e.dialed()
			e.send(far, "late")
			e.exactly(c, 1)
			e.send(c, "answer")
			first, second := c.CloseRead, c.CloseWrite
			if order == "CloseWrite and CloseRead" {
				first, second = second, first
			}
			e.saw("%s", e.err(first()))
			e.saw("%s", e.err(second()))
			e.saw("%q", e.exactly(far, 6))
			e.saw("%s", e.readAll(far))
			e.saw("%s", e.readAll(c))
		})
	}
	add("CloseRead and CloseWrite, and the peer still writes", func(e *env) {
		c, far := e.dialed()
		e.must(c.CloseRead())
		e.must(c.CloseWrite())
		e.saw("%s", e.readAll(far))
		e.saw("%s", e.writeUntilError(far))
		e.saw("%s", e.read(c, 8))
	})
	add("CloseRead, and still a Write", func(e *env) {
		c, far := e.dialed()
		e.must(c.CloseRead())
		e.saw("%s", e.io(c.Write([]byte("hello"))))
		e.saw("%q", e.exactly(far, 5))
	})
	add("CloseRead, and the peer still writes", func(e *env) {
		c, far := e.dialed()
		e.must(c.CloseRead())
		e.send(far, "hello")
		e.send(c, "x")
		e.saw("%q", e.exactly(far, 1)) // it was not reset
	})
	lossy("Close sends what is queued", func(e *env) {
		c, far := e.dialed()
		want := pattern(200000)
		_, err := c.Write(want)
		e.must(err)
		e.saw("%s", e.err(c.Close()))
		e.must(far.SetReadDeadline(e.late()))
		b, err := io.ReadAll(far)
		e.saw("%v %s", bytes.Equal(b, want), e.err(err))
	})
	add("Close with linger sends what is queued", func(e *env) {
		c, far := e.dialed()
		e.must(c.SetLinger(10))
		want := pattern(200000)
		_, err := c.Write(want)
		e.must(err)
		closing := e.start(func() string { return e.err(c.Close()) })
		e.must(far.SetReadDeadline(e.late()))
		b, err := io.ReadAll(far)
		e.saw("%v %s", bytes.Equal(b, want), e.err(err))
		e.saw("%s", closing.result())
	})
	add("Close with linger 0 resets", func(e *env) {
		c, far := e.dialed()
		e.must(c.SetLinger(0))
		e.saw("%s", e.err(c.Close()))
		e.saw("%s", e.readAll(far))
	})
	add("linger can be taken back", func(e *env) {
		c, far := e.dialed()
		e.must(c.SetLinger(0))
		e.must(c.SetLinger(-1))
		e.must(c.Close())
		e.saw("%s", e.readAll(far))
	})
	add("Close with bytes unread resets", func(e *env) {
		c, far := e.dialed()
		e.send(far, "hello")
		e.exactly(c, 1)
		e.saw("%s", e.err(c.Close()))
		e.saw("%s", e.readAll(far))
	})
	add("Close of an accepted connection with bytes unread", func(e *env) {
		c, far := e.accepted()
		e.send(far, "hello")
		e.exactly(c, 1)
		e.saw("%s", e.err(c.Close()))
		e.saw("%s", e.readAll(far))
	})
	add("bytes that come after Close are answered with a reset", func(e *env) {
		c, far := e.dialed()
		e.must(c.Close())
		e.saw("%s", e.readAll(far))
		e.saw("%s", e.writeUntilError(far))
		e.saw("%s", e.read(far, 8))
	})

	// A reset, as it is told.
	add("reset told to Read", func(e *env) {
		c, far := e.dialed()
		e.reset(far)
		e.must(c.SetReadDeadline(e.late()))
		e.saw("%s", e.read(c, 8))
		e.saw("%s", e.io(c.Write([]byte("x"))))
	})
	lossy("reset told to a blocked Read", func(e *env) {
		c, far := e.dialed()
		e.must(c.SetReadDeadline(e.late()))
		read := e.blocked(func() string { return e.read(c, 8) })
		e.reset(far)
		e.saw("%s", read.result())
	})
	add("reset told to a blocked Write", func(e *env) {
		c, far := e.dialed()
		write := e.fill(c)
		e.reset(far)
		_, s, _ := strings.Cut(write.result(), ", ")
		e.saw("%s", s)
	})
	add("reset told to Write, then Write", func(e *env) {
		c, far := e.dialed()
		e.reset(far)
		e.saw("%s", e.writeUntilError(c))
		e.saw("%s", e.io(c.Write([]byte("x"))))
	})
	add("reset told to Read, then Read", func(e *env) {
		c, far := e.dialed()
		e.reset(far)
		e.must(c.SetReadDeadline(e.late()))
		e.saw("%s", e.read(c, 8))
		e.saw("%s", e.read(c, 8))
	})
	add("reset of both directions while both block", func(e *env) {
		c, far := e.dialed()
		write := e.fill(c)
		e.must(c.SetReadDeadline(e.late()))
		read := e.blocked(func() string { return e.read(c, 8) })
		e.reset(far)
		_, s, _ := strings.Cut(write.result(), ", ")
		// One of them is told of the reset, and the other, who of the end.
		e.saw("%v", strings.Contains(s+read.result(), "is ECONNRESET"))
	})
	add("Write after the peer has closed", func(e *env) {
		c, far := e.dialed()
		e.must(far.Close())
		e.saw("%s", e.readAll(c))
		e.saw("%s", e.writeUntilError(c))
		e.saw("%s", e.read(c, 8))
		e.saw("%s", e.io(c.Write([]byte("x"))))
	})
	add("the peer closes with bytes unread", func(e *env) {
		c, far := e.dialed()
		e.send(c, "hello")
		e.exactly(far, 1)
		e.must(far.Close())
		e.saw("%s", e.readAll(c))
	})
	add("Write of nothing sends nothing", func(e *env) {
		c, far := e.dialed()
		e.saw("%s", e.io(c.Write([]byte{})))
		e.send(c, "x")
		e.saw("%q", e.exactly(far, 1))
	})
	add("Write of nothing while another blocks", func(e *env) {
		c, far := e.dialed()
		write := e.fill(c)
		empty := e.blocked(func() string { return e.io(c.Write(nil)) })
		e.reset(far)
		write.result()
		empty.result()
		e.saw("both end")
	})
	add("what was written before a deadline arrives", func(e *env) {
		c, far := e.dialed()
		e.must(c.SetWriteDeadline(soon()))
		n, err := c.Write(tooMuch)
		e.saw("all %v, %s", n == len(tooMuch), e.err(err))
		e.must(c.SetWriteDeadline(time.Time{}))
		closing := e.start(func() string { return e.err(c.CloseWrite()) })
		e.must(far.SetReadDeadline(e.late()))
		m, err := io.Copy(io.Discard, far)
		e.saw("%v %s %s", int(m) == n, e.err(err), closing.result())
	})
	return all
}

// fill starts a Write that nobody reads, and returns when it sleeps.
func (e *env) fill(c net.Conn) *call {
	e.must(c.SetWriteDeadline(e.late()))
	return e.blocked(func() string { return e.io(c.Write(tooMuch)) })
}
