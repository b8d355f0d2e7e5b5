package stack

import (
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"syscall"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// kernelStream returns the way to the file descriptor of a TCP or Unix stream
// connection of package net, or nil if v is none. A type of any other package,
// even one that embeds such a connection, may have a Read or Write of its own
// that must not be passed by.
func kernelStream(v any) syscall.RawConn {
	conn, ok := v.(interface {
		net.Conn
		syscall.Conn
	})
	if !ok {
		return nil
	}
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.PkgPath() != "net" || reflect.ValueOf(v).IsZero() {
		return nil
	}
	addr := conn.LocalAddr()
	if addr == nil || addr.Network() != "tcp" && addr.Network() != "unix" {
		return nil
	}
	rc, err := conn.SyscallConn()
	if err != nil {
		return nil // a Read or Write says it better
	}
	return rc
}

// In the functions below that are called with a file descriptor, somebody who
// closes the kernel's connection waits for them to return: they must not block.

// copyToKernel copies to the end of the data.
func (c *TCPConn) copyToKernel(rc syscall.RawConn) (total int64, err error) {
	var v views
	write := func(fd uintptr) bool { return c.pushViews(int(fd), &v) }
	for {
		if err := c.awaitReadable(); err != nil {
			return total, notEOF(err)
		}
		v.moved = 0
		err := rc.Write(write)
		total += int64(v.moved)
		if err == nil && v.errno != 0 {
			err = os.NewSyscallError("writev", v.errno)
		}
		if err != nil {
			return total, err
		}
	}
}

// pushViews writes what has been received to a non-blocking descriptor. It
// returns false if that takes nothing now, and else true.
func (c *TCPConn) pushViews(fd int, v *views) bool {
	if !c.rd.mu.TryLock() {
		return true // somebody else reads; awaitReadable waits for him
	}
	defer c.rd.mu.Unlock()
	for c.rd.stop.Load() == 0 {
		want := c.unread()
		if want == 0 {
			return true
		}
		v.start(fd, want)
		_, _ = c.ep.Read(v, tcpip.ReadOptions{Peek: true})
		v.drop()
		if v.errno == unix.EAGAIN {
			v.errno = 0
			return v.moved != 0
		}
		if v.errno != 0 {
			return true
		}
		v.skip = skipper(v.wrote)
		_, _ = c.ep.Read(&v.skip, tcpip.ReadOptions{})
		c.moderate(v.wrote)
		v.moved += v.wrote
	}
	return true
}

// maxViews is how many pieces of memory go to the kernel at once: with frames of
// 1500 bytes some 90 KB.
const maxViews = 64

// views is the io.Writer that netstack shows received bytes to. When it has seen
// enough of them it writes them, before it returns from Write: after that they
// may be gone, for a reset frees them.
type views struct {
	fd    int
	want  int // bytes to wait for
	seen  int
	n     int // of iov
	iov   [maxViews]unix.Iovec
	wrote int           // bytes that the descriptor took, of this round
	moved int           // of all rounds
	errno syscall.Errno // 0: none
	skip  skipper
}

var errSeenEnough = errors.New("seen enough")

func (v *views) start(fd, want int) {
	v.fd, v.want, v.seen, v.n, v.wrote, v.errno = fd, want, 0, 0, 0, 0
}

// drop forgets memory that is netstack's.
func (v *views) drop() { clear(v.iov[:v.n]) }

// Write implements io.Writer.
func (v *views) Write(p []byte) (int, error) {
	if len(p) > 0 {
		v.iov[v.n].Base = &p[0]
		v.iov[v.n].SetLen(len(p))
		v.n++
		v.seen += len(p)
	}
	if v.seen < v.want && v.n < maxViews {
		return len(p), nil
	}
	v.wrote, v.errno = writev(v.fd, v.iov[:v.n])
	return len(p), errSeenEnough
}

// A skipper is the io.Writer that takes that many bytes and does nothing with
// them.
type skipper int

// Write implements io.Writer.
func (s *skipper) Write(p []byte) (int, error) {
	n := min(len(p), int(*s))
	*s -= skipper(n)
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

// copyFromKernel copies up to limit bytes, or to the end if limit is below 0.
func (c *TCPConn) copyFromKernel(rc syscall.RawConn, limit int64) (total int64, err error) {
	var p kernelSource
	read := func(fd uintptr) bool { return c.pullKernel(int(fd), &p) }
	for limit < 0 || total < limit {
		if err := c.awaitWritable(); err != nil {
			return total, c.opErr("write", err)
		}
		p.most = copyBuffer
		if limit >= 0 {
			p.most = int(min(copyBuffer, limit-total))
		}
		p.moved = 0
		err := rc.Read(read)
		total += int64(p.moved)
		if len(p.rest) != 0 {
			n, werr := c.Write(p.rest)
			total += int64(n)
			p.release()
			if werr != nil {
				return total, werr
			}
		}
		switch {
		case err != nil:
			return total, err
		case p.err != nil || p.eof:
			return total, p.err
		}
	}
	return total, nil
}

// awaitWritable is awaitWritableLocked without the precondition.
func (c *TCPConn) awaitWritable() error {
	c.wr.mu.Lock()
	defer c.wr.mu.Unlock()
	return c.awaitWritableLocked()
}

// bulkRead is how many bytes are worth the question how many there are, so that
// netstack can make room for them and none is copied. Fewer are read to a buffer
// at once: of a short message that is half of the system calls.
const bulkRead = 4 << 10

// pullKernel sends what a non-blocking descriptor has, or reads it to p.rest. It
// returns false if that has nothing now, and else true.
func (c *TCPConn) pullKernel(fd int, p *kernelSource) bool {
	if p.fd = fd; !p.much {
		return c.wr.stop.Load() != 0 || p.take()
	}
	if !c.wr.mu.TryLock() {
		return true // somebody else writes; awaitWritable waits for him
	}
	defer c.wr.mu.Unlock()
	if c.wr.stop.Load() != 0 {
		return true
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if p.much = n >= bulkRead && err == nil; !p.much {
		return p.take()
	}
	p.left = min(n, p.most)
	m, terr := c.sendFrom(p)
	p.moved = m
	if err := c.sendError(terr); err != nil {
		p.err = c.opErr("write", err)
	}
	return true
}

// A kernelSource is a tcpip.Payloader of what a descriptor has received.
type kernelSource struct {
	fd    int
	much  bool   // there was, the last time
	left  int    // bytes that it says it has
	most  int    // bytes to take at once
	moved int    // bytes sent
	rest  []byte // bytes that were read and not sent
	eof   bool
	err   error

	buf *[copyBuffer]byte // that rest is in; nil: in none of copyBuffers
}

// Len implements tcpip.Payloader.
func (p *kernelSource) Len() int { return p.left }

// Read implements io.Reader. It returns all it is asked for, since netstack
// takes no less; if that is not there, what is there goes to rest.
func (p *kernelSource) Read(b []byte) (n int, err error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	for b = b[:min(len(b), p.left)]; n < len(b); {
		m, err := readOnce(p.fd, b[n:])
		if m <= 0 { // somebody else has read from it
			p.rest = append([]byte(nil), b[:n]...)
			p.failed(m, err)
			return 0, io.ErrUnexpectedEOF
		}
		n += m
	}
	p.left -= n
	return n, nil
}

// take reads a few bytes to p.rest, or finds out what it means that there are
// none. It returns false if they may come.
func (p *kernelSource) take() bool {
	p.buf = copyBuffers.Get().(*[copyBuffer]byte)
	want := min(bulkRead, p.most)
	n, err := readOnce(p.fd, p.buf[:want])
	if n > 0 {
		p.rest, p.much = p.buf[:n], n == want
		return true
	}
	p.release()
	return p.failed(n, err)
}

// release gives back what p.rest is in.
func (p *kernelSource) release() {
	if p.buf != nil {
		copyBuffers.Put(p.buf)
	}
	p.buf, p.rest = nil, nil
}

// failed takes note of a read without a byte.
func (p *kernelSource) failed(n int, err error) bool {
	switch {
	case err == unix.EAGAIN:
		return false
	case err != nil:
		p.err = os.NewSyscallError("read", err)
	case n == 0:
		p.eof = true
	}
	return true
}

func readOnce(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return n, err
		}
	}
}
