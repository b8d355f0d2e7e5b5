package seqpacket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// Conn is one end. One goroutine at a time may receive; the other methods are for any.
type Conn struct {
	c      *net.UnixConn
	sendMu sync.Mutex // held by Send: there is one deadline for all writes
}

// Dial connects to the socket at a path.
func Dial(path string, timeout time.Duration) (*Conn, error) {
	c, err := (&net.Dialer{Timeout: timeout}).Dial("unixpacket", path)
	if err != nil {
		return nil, err
	}
	return New(c.(*net.UnixConn)), nil
}

// New takes a connection over that a listener for "unixpacket" has accepted.
func New(c *net.UnixConn) *Conn { return &Conn{c: c} }

// Close ends the connection, and what goes on on it. It waits for the descriptors in
// messages that nobody has received to be closed, which can take as long as their
// sender likes: that of a connection with SO_LINGER waits until its peer has taken
// what is left (inet_release), that of a file in FUSE for its daemon.
func (c *Conn) Close() error { return c.c.Close() }

// End ends the connection for both sides, and waits for nothing: Close frees what it
// has.
func (c *Conn) End() {
	c.c.CloseRead()  //nolint:errcheck // it has ended
	c.c.CloseWrite() //nolint:errcheck // likewise
}

// Send sends one message, and duplicates of the descriptors, within timeout, which
// begins when those that were called before it are done.
func (c *Conn) Send(msg []byte, timeout time.Duration, fds ...int) error {
	if len(msg) == 0 || len(msg) > MaxMessage || len(fds) > MaxFiles {
		return fmt.Errorf("a message of %d bytes and %d descriptors: from 1 to %d, and at most %d: %w", len(msg), len(fds), MaxMessage, MaxFiles, unix.EMSGSIZE)
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if err := c.c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	var control []byte
	if len(fds) > 0 {
		control = unix.UnixRights(fds...)
	}
	_, _, err := c.c.WriteMsgUnix(msg, control, nil)
	return err
}

// Receive waits for one message, without end if timeout is zero, and returns it
// with the descriptors that came along: close-on-exec, and the caller's to close.
// At the end of the connection it returns io.EOF.
func (c *Conn) Receive(timeout time.Duration) (msg []byte, fds []int, err error) {
	var deadline time.Time
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	if err := c.c.SetReadDeadline(deadline); err != nil {
		return nil, nil, err
	}
	msg, control := make([]byte, MaxMessage), make([]byte, unix.CmsgSpace(4*MaxFiles))
	n, oobn, flags, _, err := c.c.ReadMsgUnix(msg, control) // with MSG_CMSG_CLOEXEC
	// A message of no bytes is an error too, io.EOF, and can have descriptors.
	fds, rightsErr := rights(control[:oobn])
	switch {
	case err != nil:
	case rightsErr != nil:
		err = rightsErr
	case flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("a message of more than %d bytes: %w", MaxMessage, unix.EMSGSIZE)
	case flags&unix.MSG_CTRUNC != 0:
		err = fmt.Errorf("a message with more than %d descriptors, or more than this process may have: %w", MaxFiles, unix.EMSGSIZE)
	case n == 0:
		err = io.EOF
	}
	if err != nil {
		return nil, nil, errors.Join(err, CloseAll(fds))
	}
	return msg[:n], fds, nil
}

// ReceiveBare is Receive where no descriptors are expected. A message that has some
// is an error and stays where it is until Close: the kernel closes what it has no room
// for before the receive returns, and waits for that as Close does.
func (c *Conn) ReceiveBare(timeout time.Duration) (msg []byte, err error) {
	var deadline time.Time
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	if err := c.c.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	raw, err := c.c.SyscallConn()
	if err != nil {
		return nil, err
	}
	msg = make([]byte, MaxMessage)
	var n int
	var inner error
	err = raw.Read(func(fd uintptr) bool {
		n, inner = receiveBare(int(fd), msg)
		return !errors.Is(inner, unix.EAGAIN)
	})
	switch {
	case err != nil:
		return nil, err
	case inner != nil:
		return nil, inner
	case n == 0:
		return nil, io.EOF
	}
	return msg[:n], nil
}

// receiveBare looks at the next message before it takes it.
func receiveBare(fd int, msg []byte) (n int, err error) {
	for _, how := range []int{unix.MSG_PEEK, 0} {
		var flags int
		for n, err = 0, unix.EINTR; errors.Is(err, unix.EINTR); {
			n, _, flags, _, err = unix.Recvmsg(fd, msg, nil, how)
		}
		switch {
		case err != nil:
			return 0, os.NewSyscallError("recvmsg", err)
		case flags&unix.MSG_CTRUNC != 0:
			return 0, fmt.Errorf("a message with descriptors: %w", unix.EPROTO)
		case flags&unix.MSG_TRUNC != 0:
			return 0, fmt.Errorf("a message of more than %d bytes: %w", MaxMessage, unix.EMSGSIZE)
		}
	}
	return n, nil
}

// rights returns the descriptors in a control buffer.
func rights(control []byte) (fds []int, err error) {
	msgs, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	for _, m := range msgs {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		some, parseErr := unix.ParseUnixRights(&m)
		fds, err = append(fds, some...), errors.Join(err, parseErr)
	}
	return fds, err
}

// CloseAll closes descriptors.
func CloseAll(fds []int) error {
	var errs []error
	for _, fd := range fds {
		errs = append(errs, os.NewSyscallError("close", unix.Close(fd)))
	}
	return errors.Join(errs...)
}

// Peer returns who is at the other end, as the kernel knows it from the moment of
// connecting (SO_PEERCRED), in this process's user and PID namespace.
func (c *Conn) Peer() (cred unix.Ucred, err error) {
	err = c.control(func(fd int) error {
		got, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil {
			cred = *got
		}
		return os.NewSyscallError("getsockopt", err)
	})
	return cred, err
}

// NetNS returns the network namespace that this end was made in, as
// [hostif.NetNSOf] does.
func (c *Conn) NetNS() (cookie uint64, err error) {
	err = c.control(func(fd int) error {
		cookie, err = hostif.NetNSOf(fd)
		return err
	})
	return cookie, err
}

func (c *Conn) control(f func(fd int) error) error {
	raw, err := c.c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
