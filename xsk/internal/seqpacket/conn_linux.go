package seqpacket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// Conn is one end. One goroutine at a time may send, and another one receive;
// Close is for any.
type Conn struct{ c *net.UnixConn }

// Dial connects to the socket at a path.
func Dial(path string, timeout time.Duration) (*Conn, error) {
	c, err := (&net.Dialer{Timeout: timeout}).Dial("unixpacket", path)
	if err != nil {
		return nil, err
	}
	return New(c.(*net.UnixConn)), nil
}

// New takes a connection over that a listener for "unixpacket" has accepted.
func New(c *net.UnixConn) *Conn { return &Conn{c} }

// Close ends the connection, and what goes on on it.
func (c *Conn) Close() error { return c.c.Close() }

// Send sends one message, and duplicates of the descriptors, within timeout.
func (c *Conn) Send(msg []byte, timeout time.Duration, fds ...int) error {
	if len(msg) == 0 || len(msg) > MaxMessage || len(fds) > MaxFiles {
		return fmt.Errorf("a message of %d bytes and %d descriptors: from 1 to %d, and at most %d: %w", len(msg), len(fds), MaxMessage, MaxFiles, unix.EMSGSIZE)
	}
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
