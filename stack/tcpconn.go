package stack

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// moderateEvery is how many bytes are read between two looks at the size of
// the receive buffer. A look takes the endpoint's lock and reads the clock. A
// connection that reads less than this in a round trip needs no larger buffer.
const moderateEvery = 32 << 10

// A TCPConn is a TCP connection of a Stack. It implements net.Conn. All
// methods may be called from any goroutine. The bytes of concurrent Writes
// are not mixed, and neither are those of concurrent Reads.
//
// In steady state Read and Write allocate nothing of their own.
type TCPConn struct {
	tcpSocket

	failure atomic.Uint32 // errno that ended the connection, once seen
	shut    atomic.Uint32 // tcpip.ShutdownFlags of what was closed; set with control held
	smaller atomic.Int64  // the receive buffer that is to be, in bytes; 0 if it is. Set with control held

	in          sink   // guarded by rd.mu, as is unmoderated
	unmoderated int    // bytes read since the last look at the receive buffer
	out         source // guarded by wr.mu
}

// established completes a connection whose handshake is over.
func (c *TCPConn) established(local, remote netip.AddrPort, p *probing) {
	c.born = time.Now()
	c.laddr, c.raddr = tcpAddrs(local, remote)
	p.begin(c.ep)
	c.fillFrames()
}

// Read reads what has arrived, and waits if there is nothing. At the end of
// the peer's data, and after CloseRead, it returns io.EOF. Other errors are
// *net.OpError: errors.Is tells ECONNRESET, ETIMEDOUT, ENETDOWN,
// os.ErrDeadlineExceeded and net.ErrClosed apart.
func (c *TCPConn) Read(b []byte) (int, error) {
	makeRoom(false)
	c.rd.mu.Lock()
	n, err := c.read(b)
	c.rd.mu.Unlock()
	if err != nil && err != io.EOF {
		err = c.opErr("read", err)
	}
	return n, err
}

func (c *TCPConn) read(b []byte) (int, error) {
	if len(b) == 0 {
		if c.closed() {
			return 0, net.ErrClosed
		}
		return 0, nil
	}
	for {
		if c.rd.stop.Load() != 0 {
			if err := c.why(&c.rd.parker); err != nil {
				return 0, err
			}
		}
		if c.rd.dry && !c.rd.Woken() {
			c.rd.park()
			continue
		}
		c.in = sink{b: b}
		_, terr := c.ep.Read(&c.in, tcpip.ReadOptions{})
		n := c.in.n
		c.in.b = nil // b is the caller's
		if terr == nil {
			c.rd.dry = n < len(b) && tcp.EndpointState(c.ep.State()) == tcp.StateEstablished && !c.shutRead()
			c.moderate(n)
			return n, nil
		}
		if !isWouldBlock(terr) {
			return 0, c.readError(terr)
		}
		if c.shutRead() {
			return 0, io.EOF
		}
		c.rd.park()
	}
}

// shutRead tells whether readers are to wait no more. CloseRead wakes them after it
// is so: whoever is told that it is not will find the wakeup.
func (c *TCPConn) shutRead() bool { return c.shut.Load()&uint32(tcpip.ShutdownRead) != 0 }

// moderate lets the receive buffer grow with the speed of the reader, or makes it as
// small as was asked for.
func (c *TCPConn) moderate(n int) {
	if c.smaller.Load() != 0 {
		c.control.Lock()
		if size := c.smaller.Load(); size != 0 && c.shrinkReadBuffer(size) {
			c.smaller.Store(0)
		}
		c.control.Unlock()
	}
	c.unmoderated += n
	if c.unmoderated >= moderateEvery {
		c.ep.ModerateRecvBuf(c.unmoderated)
		c.unmoderated = 0
	}
}

// readError returns the error for an end of reading.
func (c *TCPConn) readError(terr tcpip.Error) error {
	if err := c.why(&c.rd.parker); err != nil {
		return err
	}
	if _, ok := terr.(*tcpip.ErrClosedForReceive); !ok {
		return c.fail("read", terr)
	}
	// The endpoint tells each failure once. If a Write has had it, an EOF
	// here would make a broken stream look complete.
	if e := c.failure.Load(); e != 0 {
		return sysErrno("read", syscall.Errno(e))
	}
	return io.EOF
}

// fail returns terr as an error, and remembers it for readers to come.
func (c *TCPConn) fail(call string, terr tcpip.Error) error {
	if soft, ok := terr.(*softError); ok && c.stack.fast.guard.outlived(soft) {
		terr = &tcpip.ErrTimeout{}
	}
	if _, ok := terr.(*tcpip.ErrConnectionAborted); ok { // data has come that nobody would read
		terr = &tcpip.ErrConnectionReset{}
	}
	switch terr.(type) {
	case *tcpip.ErrClosedForSend, *tcpip.ErrNotConnected:
	default:
		c.failure.Store(uint32(errno(terr)))
	}
	return sysError(call, terr)
}

// Write queues b to be sent, and waits while there is no room. If it returns
// an error, that is a *net.OpError and n bytes were queued before: errors.Is
// tells ECONNRESET, EPIPE, ETIMEDOUT, ENETDOWN, os.ErrDeadlineExceeded and
// net.ErrClosed apart.
func (c *TCPConn) Write(b []byte) (n int, err error) {
	c.wr.mu.Lock()
	n, err = c.write(b)
	c.wr.mu.Unlock()
	if err != nil {
		err = c.opErr("write", err)
	}
	return n, err
}

func (c *TCPConn) write(b []byte) (n int, err error) {
	for {
		if c.wr.stop.Load() != 0 {
			if err := c.why(&c.wr.parker); err != nil {
				return n, err
			}
		}
		m, terr := c.send(b[n:min(len(b), n+longWrite)])
		n += int(m)
		switch {
		case terr == nil && n == len(b):
			return n, nil
		case terr == nil: // the room was less than b; there may be more
		case isWouldBlock(terr):
			if len(b) == 0 {
				return 0, nil
			}
			c.wr.park()
		default:
			if err := c.why(&c.wr.parker); err != nil {
				return n, err
			}
			return n, c.fail("write", terr)
		}
	}
}

const (
	// bulkWrite is how many bytes of a Write are worth a look at what has been
	// received: some ten frames.
	bulkWrite = 16 << 10

	// longWrite is how many go out between two such looks. Segments are as long
	// as netstack makes them, 64 KB, and the last of each piece is shorter.
	longWrite = 256 << 10
)

// send hands b to the endpoint, which takes what it has room for.
func (c *TCPConn) send(b []byte) (int64, tcpip.Error) {
	if len(b) >= bulkWrite && c.wr.idle != nil {
		c.wr.idle.BeginBulk()
		c.out = source{b: b}
		// Netstack lets go of the endpoint while it copies.
		n, terr := c.ep.Write(&c.out, tcpip.WriteOptions{})
		c.out = source{}
		c.wr.idle.EndBulk()
		return n, terr
	}
	c.out = source{b: b, clock: &c.stack.clock}
	n, terr := c.ep.Write(&c.out, tcpip.WriteOptions{Atomic: true})
	c.out = source{} // b is the caller's
	c.stack.clock.run()
	return n, terr
}

// Close ends the connection. What Write has queued is still sent, unless
// SetLinger says otherwise or bytes that have arrived were not read: then the
// peer gets a reset, as with Linux. Blocked calls return net.ErrClosed in a
// *net.OpError, and so does a second Close.
func (c *TCPConn) Close() error {
	if !c.close() {
		return c.opErr("close", net.ErrClosed)
	}
	return nil
}

// CloseRead ends waiting for data: Read returns what has arrived, and then io.EOF.
func (c *TCPConn) CloseRead() error { return c.shutdown(tcpip.ShutdownRead) }

// CloseWrite ends writing: the peer reads io.EOF after what was written.
// Blocked and later Writes return EPIPE.
func (c *TCPConn) CloseWrite() error { return c.shutdown(tcpip.ShutdownWrite) }

func (c *TCPConn) shutdown(how tcpip.ShutdownFlags) error {
	c.control.Lock()
	defer c.control.Unlock()
	if c.released || c.closed() {
		return c.opErr("close", net.ErrClosed)
	}
	// Netstack resets a connection that is closed for both directions while bytes
	// wait to be read. With Linux that is for Close alone: CloseWrite may not cost
	// the peer what was written, nor the reader what has come. So netstack is not
	// told that reading has ended before it can do no harm: from then on, as with
	// Linux, more data is answered with a reset.
	var terr tcpip.Error
	if tcp.EndpointState(c.ep.State()) == tcp.StateTimeWait {
		terr = &tcpip.ErrNotConnected{} // both ends have closed; netstack would say nothing
	} else {
		terr = c.ep.Shutdown(how & tcpip.ShutdownWrite) // even for nothing it tells whether there is a connection
	}
	if terr != nil {
		return c.opErr("close", sysError("shutdown", terr))
	}
	const both = uint32(tcpip.ShutdownRead | tcpip.ShutdownWrite)
	shut := c.shut.Or(uint32(how)) | uint32(how)
	if how == tcpip.ShutdownRead {
		c.rd.wake()
	}
	if shut == both && c.unread() == 0 {
		_ = c.ep.Shutdown(tcpip.ShutdownRead) // if the connection has ended since, so be it
	}
	return nil
}

// LocalAddr returns the local address, a *net.TCPAddr, also after Close. It
// is shared by all calls: do not change it.
func (c *TCPConn) LocalAddr() net.Addr { return c.laddr }

// RemoteAddr returns the peer's address, a *net.TCPAddr, also after Close. It
// is shared by all calls: do not change it.
func (c *TCPConn) RemoteAddr() net.Addr { return c.raddr }

// SetDeadline sets both deadlines. Zero means none; a time that is past ends
// calls that are blocked now.
func (c *TCPConn) SetDeadline(t time.Time) error {
	return c.setDeadline(t, &c.rd, &c.wr)
}

// SetReadDeadline makes Read give up at t with os.ErrDeadlineExceeded in a
// *net.OpError whose Timeout is true.
func (c *TCPConn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(t, &c.rd)
}

// SetWriteDeadline does for Write what SetReadDeadline does for Read.
func (c *TCPConn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(t, &c.wr)
}
