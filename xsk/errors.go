package xsk

import (
	"errors"
	"fmt"
	"strconv"
)

// NoQueue is OpError.Queue where a step concerns a whole device.
const NoQueue = ^uint32(0)

// OpError says which step failed on which device and hardware queue, and what
// to do about it. errors.Is and errors.As see the cause through it: the errno
// of the failed system call, os.ErrPermission, errors.ErrUnsupported,
// net.ErrClosed, as each function documents.
type OpError struct {
	Op     string // the step: "register umem", "map fill ring", "bind", "attach program"
	Device string // interface name; empty if the step is not about one
	Queue  uint32 // hardware queue id, or NoQueue
	Err    error  // usually an *os.SyscallError
	Remedy string // one line: what the caller can do; empty if nothing is known
}

func (e *OpError) Error() string {
	s := "xsk: " + e.Op
	if e.Device != "" {
		s += ", " + e.Device
	}
	if e.Queue != NoQueue {
		s += " queue " + strconv.FormatUint(uint64(e.Queue), 10)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Remedy != "" {
		s += " (" + e.Remedy + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// UnsupportedError reports a kernel feature that is not there.
// errors.Is(err, errors.ErrUnsupported) holds.
type UnsupportedError struct {
	Feature   string // "AF_XDP", "XDP_USE_NEED_WAKEUP"
	MinKernel string // first Linux release that has it, "5.4"; empty if not known
}

func (e *UnsupportedError) Error() string {
	if e.MinKernel == "" {
		return e.Feature + " is not supported here"
	}
	return fmt.Sprintf("%s needs Linux %s or later", e.Feature, e.MinKernel)
}

// Is makes errors.Is(err, errors.ErrUnsupported) true.
func (e *UnsupportedError) Is(target error) bool { return target == errors.ErrUnsupported }

// halfError makes the errors of one half of a socket. They are asked for after each batch:
// the last one is kept while its cause is the same.
type halfError struct {
	op   string
	at   *Socket
	last *OpError
}

// of returns err with the device and the queue.
func (h *halfError) of(err error) error {
	if op, ok := err.(*OpError); ok {
		return op
	}
	if h.last == nil || h.last.Err != err {
		h.last = &OpError{Op: h.op, Device: h.at.device, Queue: h.at.queue, Err: err}
	}
	return h.last
}

// joinClose adds the error of unwinding, if there is one, to what failed.
func joinClose(err, closeErr error) error {
	if closeErr == nil {
		return err
	}
	return errors.Join(err, closeErr)
}
