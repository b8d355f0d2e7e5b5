package stack

import (
	"io"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Copying between connections, as io.Copy has it done by WriteTo and ReadFrom.
//
//	from        to          copies of each byte, in this process
//	TCPConn     TCPConn     1: from one netstack buffer to another
//	TCPConn     kernel      0: the kernel takes it from netstack's buffers
//	kernel      TCPConn     0: the kernel puts it into netstack's buffers
//	TCPConn     io.Writer   1: to a buffer
//	io.Reader   TCPConn     1: from a buffer
//
// A goroutine that copies waits without a buffer and without any lock but that of
// the side it waits for, so that each of the two can be closed meanwhile, and a
// proxy's idle connections cost it nothing. Locks are taken in the order: writer
// of the one, reader of the other; the second is only tried, for somebody may
// hold it for as long as he waits for data.

// copyBuffer is the size, in bytes, of the buffers of copies that need one.
const copyBuffer = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// WriteTo implements io.WriterTo: it writes what comes to w, up to the end of
// the peer's data. To another TCPConn or to a TCP or Unix connection of package
// net no buffer is between the two. The error is a *net.OpError around that of
// the side that has failed.
func (c *TCPConn) WriteTo(w io.Writer) (int64, error) {
	makeRoom(false)
	n, err := c.writeTo(w)
	if err != nil && err != io.EOF { // what w says is its own, as with package net
		err = c.opErr("writeto", err)
	}
	return n, err
}

func (c *TCPConn) writeTo(w io.Writer) (int64, error) {
	if to, ok := w.(*TCPConn); ok {
		return relay(to, c, -1)
	}
	if rc := kernelStream(w); rc != nil {
		return c.copyToKernel(rc)
	}
	if rf, ok := w.(io.ReaderFrom); ok {
		return rf.ReadFrom(struct{ io.Reader }{c})
	}
	var total int64
	for {
		if err := c.awaitReadable(); err != nil {
			return total, notEOF(err)
		}
		n, done, err := c.copyOnce(w)
		total += int64(n)
		if done || err != nil {
			return total, err
		}
	}
}

// copyOnce writes to w what has come, which it waits for if somebody else has
// read it. It reports the end of the data.
func (c *TCPConn) copyOnce(w io.Writer) (n int, done bool, err error) {
	b := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(b)
	n, err = c.Read(b[:])
	if err != nil {
		return 0, err == io.EOF, notEOF(err)
	}
	m, err := w.Write(b[:n])
	if err == nil && m != n {
		err = io.ErrShortWrite
	}
	return m, false, err
}

// ReadFrom implements io.ReaderFrom: it writes what r has, up to its end. From
// another TCPConn or from a TCP or Unix connection of package net, also if an
// io.LimitedReader bounds it, no buffer is between the two. The error is a
// *net.OpError around that of the side that has failed.
func (c *TCPConn) ReadFrom(r io.Reader) (int64, error) {
	makeRoom(false)
	n, err := c.readFrom(r)
	if err != nil {
		err = c.opErr("readfrom", err)
	}
	return n, err
}

func (c *TCPConn) readFrom(r io.Reader) (n int64, err error) {
	limit, inner := int64(-1), r
	if lr, ok := r.(*io.LimitedReader); ok {
		if lr.N <= 0 {
			return 0, nil
		}
		limit, inner = lr.N, lr.R
		defer func() {
			if inner != nil { // passed by
				lr.N -= n
			}
		}()
	}
	if from, ok := inner.(*TCPConn); ok {
		return relay(c, from, limit)
	}
	if rc := kernelStream(inner); rc != nil {
		return c.copyFromKernel(rc, limit)
	}
	inner = nil
	if wt, ok := r.(io.WriterTo); ok {
		return wt.WriteTo(struct{ io.Writer }{c})
	}
	b := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(b)
	for {
		m, rerr := r.Read(b[:])
		if m > 0 {
			m, err = c.Write(b[:m])
			n += int64(m)
			if err != nil {
				return n, err
			}
		}
		if rerr != nil {
			return n, notEOF(rerr)
		}
	}
}

// notEOF returns err unless it is only the end.
func notEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// awaitReadable returns when there is something to read. The error is io.EOF at
// the end of the data.
func (c *TCPConn) awaitReadable() error {
	c.rd.mu.Lock()
	defer c.rd.mu.Unlock()
	for {
		if c.rd.stop.Load() != 0 {
			if err := c.why(&c.rd.parker); err != nil {
				return err
			}
		}
		c.in = sink{} // has no room: nothing is taken
		_, terr := c.ep.Read(&c.in, tcpip.ReadOptions{})
		if _, some := terr.(*tcpip.ErrBadBuffer); some || terr == nil {
			return nil
		}
		if !isWouldBlock(terr) {
			return c.readError(terr)
		}
		if c.shutRead() {
			return io.EOF
		}
		c.rd.park()
	}
}

// awaitWritableLocked returns when there is room to write, or no hope for it.
// Precondition: wr.mu is held.
func (c *TCPConn) awaitWritableLocked() error {
	for {
		if c.wr.stop.Load() != 0 {
			if err := c.why(&c.wr.parker); err != nil {
				return err
			}
		}
		if c.ep.Readiness(writeEvents)&(waiter.WritableEvents|waiter.EventErr|waiter.EventHUp) != 0 {
			return nil
		}
		c.wr.park()
	}
}

// unread returns how many bytes wait to be read.
func (c *TCPConn) unread() int {
	n, terr := c.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	if terr != nil {
		return 0
	}
	return n
}

// sendFrom is send for bytes that p has. All of what p says that it has must be
// there. Precondition: wr.mu is held.
func (c *TCPConn) sendFrom(p tcpip.Payloader) (int, tcpip.Error) {
	bulk := p.Len() >= bulkWrite && c.wr.idle != nil
	if bulk {
		c.wr.idle.BeginBulk()
	}
	// Netstack drops what it has taken from p if there is less room for it then than
	// there was: nobody may shrink the buffer meanwhile, or shut it.
	c.control.Lock()
	n, terr := c.ep.Write(p, tcpip.WriteOptions{})
	c.control.Unlock()
	if bulk {
		c.wr.idle.EndBulk()
	}
	return int(n), terr
}

// An inflow is a tcpip.Payloader of what waits to be read on a connection.
type inflow struct {
	from *TCPConn
	left int // bytes
	in   sink
}

// Len implements tcpip.Payloader.
func (r *inflow) Len() int { return r.left }

// Read implements io.Reader. Netstack calls it with no lock of its own held.
func (r *inflow) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	r.in = sink{b: p[:min(len(p), r.left)]}
	_, terr := r.from.ep.Read(&r.in, tcpip.ReadOptions{})
	n := r.in.n
	r.in.b = nil
	r.left -= n
	if n == 0 && terr != nil { // a reset has come, which takes all with it
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

// relay copies up to limit bytes, or to the end if limit is below 0.
func relay(to, from *TCPConn, limit int64) (total int64, err error) {
	p := &inflow{from: from}
	for limit < 0 || total < limit {
		if err := from.awaitReadable(); err != nil {
			return total, notEOF(err)
		}
		most := int64(longWrite)
		if limit >= 0 {
			most = min(most, limit-total)
		}
		n, err := to.pull(p, int(most))
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// pull sends at most that many bytes of what p's connection has received, maybe
// none.
func (c *TCPConn) pull(p *inflow, most int) (int, error) {
	c.wr.mu.Lock()
	defer c.wr.mu.Unlock()
	if err := c.awaitWritableLocked(); err != nil {
		return 0, c.opErr("write", err)
	}
	from := p.from
	if !from.rd.mu.TryLock() {
		return 0, nil // somebody else reads, and leaves something or not
	}
	defer from.rd.mu.Unlock()
	if from.rd.stop.Load() != 0 { // awaitReadable knows why
		return 0, nil
	}
	if p.left = min(from.unread(), most); p.left == 0 {
		return 0, nil
	}
	n, terr := c.sendFrom(p)
	from.moderate(n)
	if err := c.sendError(terr); err != nil {
		return n, c.opErr("write", err)
	}
	return n, nil
}

// sendError returns the error of a write that took all it was given, or nil if
// it is worth another try. Precondition: wr.mu is held.
func (c *TCPConn) sendError(terr tcpip.Error) error {
	if _, ok := terr.(*tcpip.ErrBadBuffer); ok || terr == nil || isWouldBlock(terr) {
		return nil
	}
	if err := c.why(&c.wr.parker); err != nil {
		return err
	}
	return c.fail("write", terr)
}
