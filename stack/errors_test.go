package stack

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

func TestErrno(t *testing.T) {
	for _, tc := range []struct {
		err  tcpip.Error
		want syscall.Errno
	}{
		{&tcpip.ErrAborted{}, syscall.ECONNABORTED},
		{&tcpip.ErrAddressFamilyNotSupported{}, syscall.EAFNOSUPPORT},
		{&tcpip.ErrAlreadyBound{}, syscall.EINVAL},
		{&tcpip.ErrAlreadyConnected{}, syscall.EISCONN},
		{&tcpip.ErrAlreadyConnecting{}, syscall.EALREADY},
		{&tcpip.ErrBadAddress{}, syscall.EFAULT},
		{&tcpip.ErrBadBuffer{}, syscall.EFAULT},
		{&tcpip.ErrBadLocalAddress{}, syscall.EADDRNOTAVAIL},
		{&tcpip.ErrBroadcastDisabled{}, syscall.EACCES},
		{&tcpip.ErrClosedForReceive{}, syscall.EPIPE},
		{&tcpip.ErrClosedForSend{}, syscall.EPIPE},
		{&tcpip.ErrConnectStarted{}, syscall.EINPROGRESS},
		{&tcpip.ErrConnectionAborted{}, syscall.ECONNABORTED},
		{&tcpip.ErrConnectionRefused{}, syscall.ECONNREFUSED},
		{&tcpip.ErrConnectionReset{}, syscall.ECONNRESET},
		{&tcpip.ErrDestinationRequired{}, syscall.EDESTADDRREQ},
		{&tcpip.ErrDuplicateAddress{}, syscall.EEXIST},
		{&tcpip.ErrDuplicateNICID{}, syscall.EEXIST},
		{&tcpip.ErrEndpointBusy{}, syscall.EBUSY},
		{&tcpip.ErrHostDown{}, syscall.EHOSTDOWN},
		{&tcpip.ErrHostUnreachable{}, syscall.EHOSTUNREACH},
		{&tcpip.ErrInvalidEndpointState{}, syscall.EINVAL},
		{&tcpip.ErrInvalidNICID{}, syscall.ENODEV},
		{&tcpip.ErrInvalidOptionValue{}, syscall.EINVAL},
		{&tcpip.ErrInvalidPortRange{}, syscall.EINVAL},
		{&tcpip.ErrMalformedHeader{}, syscall.EINVAL},
		{&tcpip.ErrMessageTooLong{}, syscall.EMSGSIZE},
		{&tcpip.ErrMissingRequiredFields{}, syscall.EINVAL},
		{&tcpip.ErrMulticastInputCannotBeOutput{}, syscall.EINVAL},
		{&tcpip.ErrNetworkUnreachable{}, syscall.ENETUNREACH},
		{&tcpip.ErrNoBufferSpace{}, syscall.ENOBUFS},
		{&tcpip.ErrNoNet{}, enonet},
		{&tcpip.ErrNoPortAvailable{}, syscall.EADDRNOTAVAIL},
		{&tcpip.ErrNoSuchFile{}, syscall.ENOENT},
		{&tcpip.ErrNotConnected{}, syscall.ENOTCONN},
		{&tcpip.ErrNotPermitted{}, syscall.EPERM},
		{&tcpip.ErrNotSupported{}, syscall.EOPNOTSUPP},
		{&tcpip.ErrPortInUse{}, syscall.EADDRINUSE},
		{&tcpip.ErrQueueSizeNotSupported{}, syscall.EOPNOTSUPP},
		{&tcpip.ErrTimeout{}, syscall.ETIMEDOUT},
		{&tcpip.ErrUnknownDevice{}, syscall.ENODEV},
		{&tcpip.ErrUnknownNICID{}, syscall.ENODEV},
		{&tcpip.ErrUnknownProtocol{}, syscall.EPROTONOSUPPORT},
		{&tcpip.ErrUnknownProtocolOption{}, syscall.ENOPROTOOPT},
		{&tcpip.ErrWouldBlock{}, syscall.EAGAIN},
	} {
		if got := errno(tc.err); got != tc.want {
			t.Errorf("errno(%T) = %v, want %v", tc.err, got, tc.want)
		}
	}
}

// wantOp fails if err is not a *net.OpError with the operation, and with
// target inside.
func wantOp(t testing.TB, err error, op string, target error) *net.OpError {
	t.Helper()
	var oe *net.OpError
	if !errors.As(err, &oe) {
		t.Fatalf("%v (%T): not a *net.OpError", err, err)
	}
	if oe.Op != op || !errors.Is(err, target) {
		t.Errorf("%v: Op %q, is %q: %v; want Op %q and true", err, oe.Op, target, errors.Is(err, target), op)
	}
	return oe
}

func wantTimeout(t testing.TB, err error, op string) {
	t.Helper()
	oe := wantOp(t, err, op, os.ErrDeadlineExceeded)
	if !oe.Timeout() {
		t.Errorf("%v: Timeout is false", err)
	}
}

// TestGonetRows has one subtest for each thing that gVisor's own adapter does
// otherwise than package net.
func TestGonetRows(t *testing.T) {
	p := newPair(t)
	b := make([]byte, 10)
	t.Run("deadline", func(t *testing.T) {
		c, _ := p.connect(t, "tcp", addrB)
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := c.Read(b)
		wantTimeout(t, err, "read")
		oe := err.(*net.OpError)
		if oe.Net != "tcp" || oe.Source.String() != c.LocalAddr().String() || oe.Addr.String() != c.RemoteAddr().String() {
			t.Errorf("%+v: wrong network or addresses", oe)
		}
	})
	t.Run("refused", func(t *testing.T) {
		_, err := p.a.Dial("tcp", addrB+":8081")
		oe := wantOp(t, err, "dial", syscall.ECONNREFUSED)
		var se *os.SyscallError
		if !errors.As(err, &se) || se.Syscall != "connect" || oe.Timeout() {
			t.Errorf("%v: no *os.SyscallError of connect, or a timeout", err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		c, s := p.connect(t, "tcp", addrB)
		read := make(chan error, 1)
		go func() { _, err := c.Read(b); read <- err }()
		p.parkA.wait(t)
		if err := s.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		s.Close()
		wantOp(t, <-read, "read", syscall.ECONNRESET)
		_, err := c.Read(b)
		wantOp(t, err, "read", syscall.ECONNRESET) // and again
		_, err = c.Write(b)
		wantOp(t, err, "write", syscall.EPIPE)
		if c.RemoteAddr() == nil || c.LocalAddr() == nil {
			t.Error("no addresses after a reset")
		}
	})
	t.Run("reset told to Write first", func(t *testing.T) {
		c, s := p.connect(t, "tcp", addrB)
		s.SetLinger(0)
		s.Close()
		for { // until the reset is here
			if _, err := c.Write(b); err != nil {
				wantOp(t, err, "write", syscall.ECONNRESET)
				break
			}
		}
		_, err := c.Read(b)
		wantOp(t, err, "read", syscall.ECONNRESET) // not io.EOF
	})
	t.Run("read after Close", func(t *testing.T) {
		c, _ := p.connect(t, "tcp", addrB)
		c.Close()
		_, err := c.Read(b)
		wantOp(t, err, "read", net.ErrClosed)
	})
	t.Run("write after Close", func(t *testing.T) {
		c, _ := p.connect(t, "tcp", addrB)
		c.Close()
		_, err := c.Write(b)
		wantOp(t, err, "write", net.ErrClosed)
		_, err = c.Write(nil)
		wantOp(t, err, "write", net.ErrClosed)
	})
	t.Run("accept after Close", func(t *testing.T) {
		l, err := p.b.Listen("tcp", addrB+":0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		_, err = l.Accept()
		wantOp(t, err, "accept", net.ErrClosed)
	})
	t.Run("second Close", func(t *testing.T) {
		c, _ := p.connect(t, "tcp", addrB)
		l, _ := p.b.Listen("tcp", addrB+":0")
		u, _ := p.b.ListenPacket("udp", addrB+":0")
		for _, x := range []io.Closer{c, l, u} {
			if err := x.Close(); err != nil {
				t.Errorf("%T: first Close: %v", x, err)
			}
			wantOp(t, x.Close(), "close", net.ErrClosed)
		}
	})
	t.Run("UDP read at Close", func(t *testing.T) {
		u, _ := p.a.ListenPacket("udp", addrA+":0")
		read := make(chan error, 1)
		p.parkA.drain()
		go func() { _, _, err := u.ReadFrom(b); read <- err }()
		p.parkA.wait(t)
		u.Close()
		wantOp(t, <-read, "read", net.ErrClosed)
	})
	t.Run("addresses after Close and reset", func(t *testing.T) {
		c, s := p.connect(t, "tcp", addrB)
		s.SetLinger(0)
		s.Close()
		_, err := c.Read(b)
		wantOp(t, err, "read", syscall.ECONNRESET)
		c.Close()
		if c.LocalAddr().String() != s.RemoteAddr().String() || c.RemoteAddr().String() != s.LocalAddr().String() {
			t.Errorf("addresses of %v, %v do not match those of %v, %v",
				c.LocalAddr(), c.RemoteAddr(), s.LocalAddr(), s.RemoteAddr())
		}
	})
	t.Run("listen again", func(t *testing.T) {
		l, err := p.b.Listen("tcp", addrB+":4000")
		if err != nil {
			t.Fatal(err)
		}
		c, s := p.connectTo(t, l)
		l.Close()
		again, err := p.b.Listen("tcp", addrB+":4000")
		if err != nil {
			t.Fatalf("with a live connection: %v", err)
		}
		defer again.Close()
		s.Close() // closes first: TIME-WAIT on the listening side
		c.Close()
		p.connectTo(t, again)
	})
}
