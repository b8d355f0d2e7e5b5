package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// errno returns the error number Linux would give where netstack gives err.
// It is the only such table in the package.
func errno(err tcpip.Error) syscall.Errno {
	switch err := err.(type) {
	case *toldError:
		return err.errno
	case *softError:
		return err.errno
	case *tcpip.ErrAborted, *tcpip.ErrConnectionAborted:
		return syscall.ECONNABORTED
	case *tcpip.ErrAddressFamilyNotSupported:
		return syscall.EAFNOSUPPORT
	case *tcpip.ErrAlreadyBound, *tcpip.ErrInvalidEndpointState,
		*tcpip.ErrInvalidOptionValue, *tcpip.ErrInvalidPortRange,
		*tcpip.ErrMalformedHeader, *tcpip.ErrMissingRequiredFields,
		*tcpip.ErrMulticastInputCannotBeOutput:
		return syscall.EINVAL
	case *tcpip.ErrAlreadyConnected:
		return syscall.EISCONN
	case *tcpip.ErrAlreadyConnecting:
		return syscall.EALREADY
	case *tcpip.ErrBadAddress, *tcpip.ErrBadBuffer:
		return syscall.EFAULT
	case *tcpip.ErrBadLocalAddress, *tcpip.ErrNoPortAvailable:
		return syscall.EADDRNOTAVAIL
	case *tcpip.ErrBroadcastDisabled:
		return syscall.EACCES
	case *tcpip.ErrClosedForReceive, *tcpip.ErrClosedForSend:
		return syscall.EPIPE
	case *tcpip.ErrConnectStarted:
		return syscall.EINPROGRESS
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrDestinationRequired:
		return syscall.EDESTADDRREQ
	case *tcpip.ErrDuplicateAddress, *tcpip.ErrDuplicateNICID:
		return syscall.EEXIST
	case *tcpip.ErrEndpointBusy:
		return syscall.EBUSY
	case *tcpip.ErrHostDown:
		return syscall.EHOSTDOWN
	case *tcpip.ErrHostUnreachable:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrInvalidNICID, *tcpip.ErrUnknownDevice, *tcpip.ErrUnknownNICID:
		return syscall.ENODEV
	case *tcpip.ErrMessageTooLong:
		return syscall.EMSGSIZE
	case *tcpip.ErrNetworkUnreachable:
		return syscall.ENETUNREACH
	case *tcpip.ErrNoBufferSpace:
		return syscall.ENOBUFS
	case *tcpip.ErrNoNet:
		return enonet
	case *tcpip.ErrNoSuchFile:
		return syscall.ENOENT
	case *tcpip.ErrNotConnected:
		return syscall.ENOTCONN
	case *tcpip.ErrNotPermitted:
		return syscall.EPERM
	case *tcpip.ErrNotSupported, *tcpip.ErrQueueSizeNotSupported:
		return syscall.EOPNOTSUPP
	case *tcpip.ErrPortInUse:
		return syscall.EADDRINUSE
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrUnknownProtocol:
		return syscall.EPROTONOSUPPORT
	case *tcpip.ErrUnknownProtocolOption:
		return syscall.ENOPROTOOPT
	case *tcpip.ErrWouldBlock:
		return syscall.EAGAIN
	}
	return syscall.EIO // an error that a newer gVisor has added
}

// sysError returns err as package net would have it from a system call.
func sysError(call string, err tcpip.Error) error {
	return sysErrno(call, errno(err))
}

func sysErrno(call string, e syscall.Errno) error { return os.NewSyscallError(call, e) }

// stackError returns an error of an operation on the stack as a whole.
func stackError(what string, err tcpip.Error) error {
	return fmt.Errorf("stack: %s: %w", what, errno(err))
}

func isWouldBlock(err tcpip.Error) bool {
	_, ok := err.(*tcpip.ErrWouldBlock)
	return ok
}

// Texts that package net has for these cases.
var errMissingAddress = errors.New("missing address")

const (
	errNoSuitable = "no suitable address found"
	errNotIPv4    = "non-IPv4 address"
)

// errNoStack is the error of a Dialer or ListenConfig without its Stack.
func errNoStack(of string) error {
	return fmt.Errorf("stack: %s.Stack: nil: set it to a stack that is open", of)
}

// An unsupportedError names a field that has no meaning here, but has one in
// package net.
type unsupportedError string

func (e unsupportedError) Error() string {
	return "stack: " + string(e) + ": not nil: sockets of a stack have no file descriptor"
}

func (unsupportedError) Is(target error) bool { return target == errors.ErrUnsupported }

// downError is the error of operations while the device is gone.
type downError struct{ cause error }

func (e *downError) Error() string {
	if e.cause == nil {
		return syscall.ENETDOWN.Error()
	}
	return fmt.Sprintf("%v: %v", syscall.ENETDOWN, e.cause)
}

func (e *downError) Is(target error) bool { return target == syscall.ENETDOWN }
func (e *downError) Unwrap() error        { return e.cause }

// errWasAway is the cause for who asks when the device is back already.
var errWasAway = errors.New("the device was away")

// passes tells whether the device may come back.
func (e *downError) passes() bool { return !errors.Is(e.cause, syscall.ENODEV) }

// A pauseError tells who waits for peers, to accept or for datagrams, that the device
// is down for now. Temporary has servers go on (net/http's and gRPC's Serve, quic-go's and
// miekg/dns's reading): with the kernel's sockets they would not notice.
type pauseError struct{ *downError }

func (pauseError) Temporary() bool { return true }

// The next two are what package net makes of a context's errors.

type canceledError struct{}

func (canceledError) Error() string        { return "operation was canceled" }
func (canceledError) Is(target error) bool { return target == context.Canceled }

type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// Is reports true for both kinds of deadline: which of the two package net
// returns depends on which of its timers fires first.
func (timeoutError) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}

func contextError(err error) error {
	switch err {
	case context.Canceled:
		return canceledError{}
	case context.DeadlineExceeded:
		return timeoutError{}
	}
	return err
}

// opError builds the one kind of error that the package's operations return.
func opError(op, network string, source, addr net.Addr, err error) *net.OpError {
	return &net.OpError{Op: op, Net: network, Source: source, Addr: addr, Err: err}
}
