package netdiff

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"
)

// A mutation is a mistake that the comparison has to find. first names behaviours
// that probably do: if they do not, all others are run too.
type mutation struct {
	name  string
	first string
	make  func(network) network
}

func tcpMutation(name, first string, change func() *badTCP) mutation {
	return mutation{name, first, func(n network) network {
		return &mutant{network: n, tcp: func(c tcpConn) tcpConn {
			bad := change()
			bad.tcpConn = c
			return bad
		}}
	}}
}

func udpMutation(name, first string, change func() *badUDP) mutation {
	return mutation{name, first, func(n network) network {
		return &mutant{network: n, udp: func(c udpConn) udpConn {
			bad := change()
			bad.udpConn = c
			return bad
		}}
	}}
}

func listenerMutation(name, first string, change func() *badListener) mutation {
	return mutation{name, first, func(n network) network {
		return &mutant{network: n, listener: func(l tcpListener) tcpListener {
			bad := change()
			bad.tcpListener = l
			return bad
		}}
	}}
}

// readError and writeError change the errors of a connection.
func readError(change func(error) error) func() *badTCP {
	return func() *badTCP {
		return &badTCP{read: func(c tcpConn, b []byte) (int, error) {
			n, err := c.Read(b)
			return n, change(err)
		}}
	}
}

func writeError(change func(error) error) func() *badTCP {
	return func() *badTCP {
		return &badTCP{write: func(c tcpConn, b []byte) (int, error) {
			n, err := c.Write(b)
			return n, change(err)
		}}
	}
}

// op changes what a *net.OpError says.
func op(change func(*net.OpError)) func(error) error {
	return func(err error) error {
		if oe, ok := err.(*net.OpError); ok {
			oe := *oe
			change(&oe)
			return &oe
		}
		return err
	}
}

// replace has another errno in place of one.
func replace(from, to error) func(error) error {
	return func(err error) error {
		if !errors.Is(err, from) {
			return err
		}
		return op(func(oe *net.OpError) {
			if se, ok := oe.Err.(*os.SyscallError); ok {
				oe.Err = &os.SyscallError{Syscall: se.Syscall, Err: to}
			} else {
				oe.Err = to
			}
		})(err)
	}
}

// quiet is a deadline that does not say that it is one.
type quiet struct{ error }

func (quiet) Timeout() bool   { return false }
func (q quiet) Unwrap() error { return q.error }

// lasting is a deadline that is not temporary.
type lasting struct{ error }

func (lasting) Timeout() bool   { return true }
func (lasting) Temporary() bool { return false }
func (l lasting) Unwrap() error { return l.error }

func atDeadline(change func(error) error) func(error) error {
	return func(err error) error {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		return op(func(oe *net.OpError) { oe.Err = change(oe.Err) })(err)
	}
}

var mutations = []mutation{
	// Errors.
	{"dial: refused is reset", "^dial/TCP refused", func(n network) network {
		return &mutant{network: n, dialErr: replace(syscall.ECONNREFUSED, syscall.ECONNRESET)}
	}},
	{"dial: in use is not available", "^dial/TCP", func(n network) network {
		return &mutant{network: n, dialErr: replace(syscall.EADDRINUSE, syscall.EADDRNOTAVAIL)}
	}},
	{"dial: errno without its system call", "^dial/TCP refused", func(n network) network {
		return &mutant{network: n, dialErr: op(func(oe *net.OpError) { oe.Err = errors.Unwrap(oe.Err) })}
	}},
	{"dial: no address in the error", "^dial/TCP refused", func(n network) network {
		return &mutant{network: n, dialErr: op(func(oe *net.OpError) { oe.Addr = nil })}
	}},
	{"dial: a nil that is not nil", "^dial/TCP refused", func(n network) network { return &mutant{network: n, typedNil: true} }},
	{"dial: the context's deadline is ignored", "^dial/deadline", func(n network) network {
		return &mutant{network: n, context: func(ctx context.Context) context.Context {
			if _, ok := ctx.Deadline(); ok {
				return context.WithoutCancel(ctx)
			}
			return ctx
		}}
	}},
	{"dial: the context's end is ignored", "^dial/canceled", func(n network) network {
		return &mutant{network: n, context: context.WithoutCancel}
	}},
	{"dial: canceled is a deadline", "^dial/canceled", func(n network) network {
		return &mutant{network: n, dialErr: func(err error) error {
			if errors.Is(err, context.Canceled) {
				return op(func(oe *net.OpError) { oe.Err = os.ErrDeadlineExceeded })(err)
			}
			return err
		}}
	}},
	tcpMutation("read: reset is broken pipe", "^stream/reset", readError(replace(syscall.ECONNRESET, syscall.EPIPE))),
	tcpMutation("read: reset is EOF", "^stream/reset", readError(func(err error) error {
		if errors.Is(err, syscall.ECONNRESET) {
			return io.EOF
		}
		return err
	})),
	tcpMutation("read: EOF in an OpError", "^stream/EOF", readError(func(err error) error {
		if err == io.EOF {
			return &net.OpError{Op: "read", Net: "tcp", Err: err}
		}
		return err
	})),
	tcpMutation("read: EOF is unexpected", "^stream/EOF", readError(func(err error) error {
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		return err
	})),
	tcpMutation("read: closed is EOF", "^TCP/closed", readError(func(err error) error {
		if errors.Is(err, net.ErrClosed) {
			return io.EOF
		}
		return err
	})),
	tcpMutation("read: Timeout is false", "^blocking/Read/", readError(atDeadline(func(err error) error { return quiet{err} }))),
	tcpMutation("read: Temporary is false", "^blocking/Read/", readError(atDeadline(func(err error) error { return lasting{err} }))),
	tcpMutation("read: another Op", "^TCP/closed", readError(op(func(oe *net.OpError) { oe.Op = "recv" }))),
	tcpMutation("read: another Net", "^TCP/closed", readError(op(func(oe *net.OpError) { oe.Net = "tcp" }))),
	tcpMutation("read: Source and Addr swapped", "^TCP/closed", readError(op(func(oe *net.OpError) { oe.Source, oe.Addr = oe.Addr, oe.Source }))),
	tcpMutation("read: no OpError", "^TCP/closed", readError(func(err error) error {
		if oe, ok := err.(*net.OpError); ok {
			return oe.Err
		}
		return err
	})),
	tcpMutation("write: broken pipe is reset", "^TCP/CloseWrite", writeError(replace(syscall.EPIPE, syscall.ECONNRESET))),
	tcpMutation("write: no Source", "^TCP/closed", writeError(op(func(oe *net.OpError) { oe.Source = nil }))),
	tcpMutation("write: Source and Addr swapped", "^TCP/closed", writeError(op(func(oe *net.OpError) { oe.Source, oe.Addr = oe.Addr, oe.Source }))),

	// Bytes.
	tcpMutation("read: a byte is another", "^stream/", func() *badTCP {
		return &badTCP{read: func(c tcpConn, b []byte) (int, error) {
			n, err := c.Read(b)
			if n > 1000 {
				b[n-1] ^= 1
			}
			return n, err
		}}
	}),
	tcpMutation("read: a byte is lost", "^stream/Read", func() *badTCP {
		return &badTCP{read: func(c tcpConn, b []byte) (int, error) {
			n, err := c.Read(b)
			if n > 4 {
				n--
			}
			return n, err
		}}
	}),
	tcpMutation("read: of nothing waits", "^TCP/open", func() *badTCP {
		return &badTCP{read: func(c tcpConn, b []byte) (int, error) {
			if len(b) == 0 {
				_, err := c.Read(make([]byte, 1))
				return 0, err
			}
			return c.Read(b)
		}}
	}),
	tcpMutation("write: mixed with others", "^stream/concurrent", func() *badTCP {
		return &badTCP{write: func(c tcpConn, b []byte) (n int, err error) {
			for n < len(b) && err == nil {
				var m int
				m, err = c.Write(b[n:min(len(b), n+512)])
				n += m
				runtime.Gosched()
			}
			return n, err
		}}
	}),
	tcpMutation("write: the last byte is lost", "^stream/", func() *badTCP {
		return &badTCP{write: func(c tcpConn, b []byte) (int, error) {
			if len(b) < 65537 {
				return c.Write(b)
			}
			n, err := c.Write(b[:len(b)-1])
			return n + 1, err
		}}
	}),
	tcpMutation("write: n too large", "^stream/what was", func() *badTCP {
		return &badTCP{write: func(c tcpConn, b []byte) (int, error) {
			_, err := c.Write(b)
			return len(b), err
		}}
	}),
	tcpMutation("write: n is 0 with an error", "^stream/what was", func() *badTCP {
		return &badTCP{write: func(c tcpConn, b []byte) (int, error) {
			n, err := c.Write(b)
			if err != nil {
				n = 0
			}
			return n, err
		}}
	}),
	tcpMutation("write: of nothing fails", "^TCP/open", func() *badTCP {
		return &badTCP{write: func(c tcpConn, b []byte) (int, error) {
			if len(b) == 0 {
				return 0, io.ErrShortWrite
			}
			return c.Write(b)
		}}
	}),

	// Deadlines and Close.
	tcpMutation("read: the deadline is lost", "^blocking/Read/deadline", func() *badTCP {
		return &badTCP{setReadDeadline: func(tcpConn, time.Time) error { return nil }}
	}),
	tcpMutation("write: the deadline is lost", "^blocking/Write/deadline", func() *badTCP {
		return &badTCP{setWriteDeadline: func(tcpConn, time.Time) error { return nil }}
	}),
	tcpMutation("a deadline is for readers only", "^blocking/SetDeadline", func() *badTCP {
		return &badTCP{setDeadline: func(c tcpConn, t time.Time) error { return c.SetReadDeadline(t) }}
	}),
	tcpMutation("a deadline is for all", "^blocking/a ", func() *badTCP {
		return &badTCP{setReadDeadline: func(c tcpConn, t time.Time) error { return c.SetDeadline(t) }}
	}),
	tcpMutation("a deadline of the past is none", "^blocking/Read/", func() *badTCP {
		return &badTCP{setReadDeadline: func(c tcpConn, t time.Time) error {
			if t.Before(time.Now()) {
				t = time.Time{}
			}
			return c.SetReadDeadline(t)
		}}
	}),
	tcpMutation("a deadline is a little early", "^blocking/Read/", func() *badTCP {
		return &badTCP{setReadDeadline: func(c tcpConn, t time.Time) error {
			if !t.IsZero() {
				t = t.Add(-20 * time.Millisecond)
			}
			return c.SetReadDeadline(t)
		}}
	}),
	tcpMutation("a deadline cannot be taken back", "^blocking/Read/", func() *badTCP {
		return &badTCP{setReadDeadline: func(c tcpConn, t time.Time) error {
			if t.IsZero() {
				return nil
			}
			return c.SetReadDeadline(t)
		}}
	}),
	tcpMutation("a deadline is not for who waits already", "^blocking/Read/", func() *badTCP {
		var reading inside
		return &badTCP{
			read: func(c tcpConn, b []byte) (int, error) {
				defer reading.enter()()
				return c.Read(b)
			},
			setReadDeadline: func(c tcpConn, t time.Time) error {
				if reading.any() {
					return nil
				}
				return c.SetReadDeadline(t)
			},
		}
	}),
	tcpMutation("Close does not wake Read", "^blocking/Read/Close", func() *badTCP {
		var reading inside
		return &badTCP{
			read: func(c tcpConn, b []byte) (int, error) {
				defer reading.enter()()
				return c.Read(b)
			},
			close: func(c tcpConn) error {
				if reading.any() {
					return nil
				}
				return c.Close()
			},
		}
	}),
	tcpMutation("Close does not wake Write", "^blocking/Write/Close", func() *badTCP {
		var writing inside
		return &badTCP{
			write: func(c tcpConn, b []byte) (int, error) {
				defer writing.enter()()
				return c.Write(b)
			},
			close: func(c tcpConn) error {
				if writing.any() {
					return nil
				}
				return c.Close()
			},
		}
	}),
	tcpMutation("Close twice is fine", "^TCP/closed", func() *badTCP {
		return &badTCP{close: func(c tcpConn) error { c.Close(); return nil }}
	}),
	tcpMutation("Close resets", "^stream/", func() *badTCP {
		return &badTCP{close: func(c tcpConn) error { c.SetLinger(0); return c.Close() }}
	}),
	tcpMutation("linger is ignored", "^stream/", func() *badTCP {
		return &badTCP{setLinger: func(tcpConn, int) error { return nil }}
	}),
	tcpMutation("CloseWrite closes", "^stream/CloseWrite", func() *badTCP {
		return &badTCP{closeWrite: func(c tcpConn) error { return c.Close() }}
	}),
	tcpMutation("CloseRead does nothing", "^blocking/CloseRead", func() *badTCP {
		return &badTCP{closeRead: func(tcpConn) error { return nil }}
	}),
	tcpMutation("CloseWrite does not wake Write", "^blocking/CloseWrite", func() *badTCP {
		var writing inside
		return &badTCP{
			write: func(c tcpConn, b []byte) (int, error) {
				defer writing.enter()()
				return c.Write(b)
			},
			closeWrite: func(c tcpConn) error {
				if writing.any() {
					return nil
				}
				return c.CloseWrite()
			},
		}
	}),
	tcpMutation("addresses swapped", "^dial/TCP addresses", func() *badTCP {
		return &badTCP{
			local:  func(c tcpConn) net.Addr { return c.RemoteAddr() },
			remote: func(c tcpConn) net.Addr { return c.LocalAddr() },
		}
	}),
	tcpMutation("no RemoteAddr after Close", "^TCP/closed", func() *badTCP {
		closed := make(chan struct{}, 1)
		return &badTCP{
			close: func(c tcpConn) error {
				select {
				case closed <- struct{}{}:
				default:
				}
				return c.Close()
			},
			remote: func(c tcpConn) net.Addr {
				if len(closed) != 0 {
					return nil
				}
				return c.RemoteAddr()
			},
		}
	}),

	// Listeners.
	listenerMutation("accept: closed is another error", "^listener/", func() *badListener {
		return &badListener{accept: func(l tcpListener) (net.Conn, error) {
			c, err := l.Accept()
			return c, replace(net.ErrClosed, syscall.EINVAL)(err)
		}}
	}),
	listenerMutation("accept: the deadline is lost", "^blocking/Accept", func() *badListener {
		return &badListener{setDeadline: func(tcpListener, time.Time) error { return nil }}
	}),
	listenerMutation("accept: Close does not wake it", "^blocking/Accept/Close", func() *badListener {
		var accepting inside
		return &badListener{
			accept: func(l tcpListener) (net.Conn, error) {
				defer accepting.enter()()
				return l.Accept()
			},
			close: func(l tcpListener) error {
				if accepting.any() {
					return nil
				}
				return l.Close()
			},
		}
	}),
	listenerMutation("accept: a connection is lost", "^listen/", func() *badListener {
		return &badListener{accept: func(l tcpListener) (net.Conn, error) {
			if _, err := l.Accept(); err != nil {
				return nil, err
			}
			return l.Accept()
		}}
	}),
	listenerMutation("listener: the address is a wildcard", "^listener/open", func() *badListener {
		return &badListener{addr: func(l tcpListener) net.Addr { return &net.TCPAddr{Port: portOf(l.Addr())} }}
	}),
	listenerMutation("listener: Close leaves the port", "^listen/again", func() *badListener {
		return &badListener{close: func(l tcpListener) error { return l.SetDeadline(time.Unix(1, 0)) }}
	}),
	{"listen: a port that is taken is replaced", "^listen/TCP", func(n network) network { return &mutant{network: n, reuse: true} }},

	// Datagrams.
	udpMutation("UDP: a cut datagram is an error", "^packet/ReadFrom into", func() *badUDP {
		return &badUDP{read: func(c udpConn, b []byte) (int, netip.AddrPort, error) {
			long := make([]byte, 1<<16)
			n, a, err := c.ReadFromUDPAddrPort(long)
			if n > len(b) {
				err = io.ErrShortBuffer
			}
			return copy(b, long[:n]), a, err
		}}
	}),
	udpMutation("UDP: n of a cut datagram is its length", "^packet/ReadFrom into", func() *badUDP {
		return &badUDP{read: func(c udpConn, b []byte) (int, netip.AddrPort, error) {
			long := make([]byte, 1<<16)
			n, a, err := c.ReadFromUDPAddrPort(long)
			copy(b, long[:n])
			return n, a, err
		}}
	}),
	udpMutation("UDP: empty datagrams are left out", "^packet/ReadFrom of", func() *badUDP {
		return &badUDP{read: func(c udpConn, b []byte) (int, netip.AddrPort, error) {
			for {
				n, a, err := c.ReadFromUDPAddrPort(b)
				if n != 0 || err != nil {
					return n, a, err
				}
			}
		}}
	}),
	udpMutation("UDP: an empty datagram is EOF", "^packet/Read of", func() *badUDP {
		return &badUDP{readAs: func(c udpConn, b []byte) (int, error) {
			n, err := c.Read(b)
			if n == 0 && err == nil {
				err = io.EOF
			}
			return n, err
		}}
	}),
	udpMutation("UDP: the source has another port", "^packet/ReadFrom", func() *badUDP {
		return &badUDP{read: func(c udpConn, b []byte) (int, netip.AddrPort, error) {
			n, a, err := c.ReadFromUDPAddrPort(b)
			return n, netip.AddrPortFrom(a.Addr(), a.Port()^1), err
		}}
	}),
	udpMutation("UDP: the source is mapped", "^packet/ReadFrom", func() *badUDP {
		return &badUDP{read: func(c udpConn, b []byte) (int, netip.AddrPort, error) {
			n, a, err := c.ReadFromUDPAddrPort(b)
			if a.Addr().Is4() {
				a = netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
			}
			return n, a, err
		}}
	}),
	udpMutation("UDP: a connected socket writes to addresses", "^UDP/connected/", func() *badUDP {
		return &badUDP{writeTo: func(c udpConn, b []byte, to netip.AddrPort) (int, error) {
			if c.RemoteAddr() != nil {
				return c.Write(b)
			}
			return c.WriteToUDPAddrPort(b, to)
		}}
	}),
	udpMutation("UDP: no peer is not connected", "^UDP/unconnected/", func() *badUDP {
		return &badUDP{write: func(c udpConn, b []byte) (int, error) {
			n, err := c.Write(b)
			return n, replace(syscall.EDESTADDRREQ, syscall.ENOTCONN)(err)
		}}
	}),
	udpMutation("UDP: too long is cut", "^packet/WriteTo of", func() *badUDP {
		return &badUDP{writeTo: func(c udpConn, b []byte, to netip.AddrPort) (int, error) {
			return c.WriteToUDPAddrPort(b[:min(len(b), 65000)], to)
		}}
	}),
	udpMutation("UDP: refused is not told", "^packet/refused", func() *badUDP {
		return &badUDP{readAs: func(c udpConn, b []byte) (int, error) {
			for {
				n, err := c.Read(b)
				if !errors.Is(err, syscall.ECONNREFUSED) {
					return n, err
				}
			}
		}}
	}),
	udpMutation("UDP: refused is unreachable", "^packet/refused", func() *badUDP {
		return &badUDP{readAs: func(c udpConn, b []byte) (int, error) {
			n, err := c.Read(b)
			return n, replace(syscall.ECONNREFUSED, syscall.EHOSTUNREACH)(err)
		}}
	}),
	udpMutation("UDP: RemoteAddr is a nil that is not nil", "^UDP/unconnected/", func() *badUDP {
		return &badUDP{remote: func(c udpConn) net.Addr {
			if a, ok := c.RemoteAddr().(*net.UDPAddr); ok {
				return a
			}
			return (*net.UDPAddr)(nil)
		}}
	}),
	udpMutation("UDP: the read deadline is lost", "^blocking/ReadFrom/", func() *badUDP {
		return &badUDP{setReadDeadline: func(udpConn, time.Time) error { return nil }}
	}),
	udpMutation("UDP: the write deadline is lost", "^blocking/SetDeadline", func() *badUDP {
		return &badUDP{setDeadline: func(c udpConn, t time.Time) error { return c.SetReadDeadline(t) }}
	}),
	udpMutation("UDP: Close does not wake", "^blocking/ReadFrom/Close", func() *badUDP {
		var reading inside
		return &badUDP{
			read: func(c udpConn, b []byte) (int, netip.AddrPort, error) {
				defer reading.enter()()
				return c.ReadFromUDPAddrPort(b)
			},
			close: func(c udpConn) error {
				if reading.any() {
					return nil
				}
				return c.Close()
			},
		}
	}),
	udpMutation("UDP: Close twice is fine", "^UDP/connected and closed", func() *badUDP {
		return &badUDP{close: func(c udpConn) error { c.Close(); return nil }}
	}),
	udpMutation("UDP: a buffer of -1 is refused", "^option/UDP", func() *badUDP {
		return &badUDP{setReadBuffer: func(c udpConn, bytes int) error {
			if bytes < 0 {
				return &net.OpError{Op: "set", Net: "udp4", Addr: c.LocalAddr(), Err: os.NewSyscallError("setsockopt", syscall.EINVAL)}
			}
			return c.SetReadBuffer(bytes)
		}}
	}),
}
