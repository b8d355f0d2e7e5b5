package xsk

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/umem"
)

// Socket is one AF_XDP socket: two halves, RX and TX, over four rings and a
// region of packet memory. One goroutine at a time may use the RX half, and
// another one the TX half. Wait and Park are for one goroutine; Arm, Disarm,
// Interrupt, Statistics, the read-only methods and Close are for any.
type Socket struct {
	kernel Kernel
	region *umem.Region
	owned  bool             // the region is ours to close
	share  *share           // of Config.Shared, or nil
	napi   *hostif.HeldNAPI // or nil

	zeroCopyErr error // why BindAuto is not zero-copy
	fd          int   // -1 over a simulated kernel
	device      string
	queue       uint32
	rx          RX
	_           cpu.CacheLinePad // the halves are mostly in use on different processors
	tx          TX

	mu     sync.Mutex
	closed bool
	last   KernelStatistics // as of Close
	err    error            // of Close
}

// newSocket makes a socket without rings, whose halves know where it is.
func newSocket(device string, queue uint32) *Socket {
	s := &Socket{device: device, queue: queue}
	s.rx.failed = halfError{op: "receive", at: s}
	s.tx.failed = halfError{op: "send", at: s}
	return s
}

// NewOn makes a socket over rings that something other than the kernel serves.
// It is how the stack runs on the module's in-memory wire; outside this module
// Open is the one to call. The socket closes the kernel side, not the region.
func NewOn(k Kernel, region *umem.Region, name string, queue uint32) *Socket {
	s := newSocket(name, queue)
	s.kernel, s.region, s.fd = k, region, -1
	s.rx.init(region, k)
	s.rx.bound(k)
	s.tx.init(region, k)
	return s
}

// RX returns the receiving half.
func (s *Socket) RX() *RX { return &s.rx }

// TX returns the sending half.
func (s *Socket) TX() *TX { return &s.tx }

// Region returns the packet memory.
func (s *Socket) Region() *umem.Region { return s.region }

// FD returns the socket's descriptor, to put it into a steering program's map
// ([Program.AddSocket]); -1 over a simulated kernel.
func (s *Socket) FD() int { return s.fd }

// Device returns the interface's name, Queue the hardware queue.
func (s *Socket) Device() string { return s.device }

// Queue returns the hardware queue's id.
func (s *Socket) Queue() uint32 { return s.queue }

// ZeroCopy tells whether the bind is a zero-copy one, as read back from the
// kernel (XDP_OPTIONS).
func (s *Socket) ZeroCopy() bool { return s.kernel.ZeroCopy() }

// ZeroCopyErr returns why BindAuto got copy mode, as far as is known, and nil if it
// did not. errors.Is(err, errors.ErrUnsupported) holds.
func (s *Socket) ZeroCopyErr() error { return s.zeroCopyErr }

// Wait sleeps until a packet arrives, until there is room to send (if tx is
// set), until Interrupt is called, or until d is over (if positive). It does not
// say which: look at the rings. The sleeping goroutine occupies no thread.
// After Close, errors.Is(err, net.ErrClosed) holds.
//
// The kernel does not end the wait when the interface goes down or away (Linux
// 6.18): watch the link, and Interrupt.
func (s *Socket) Wait(tx bool, d time.Duration) error {
	if err := s.Arm(tx); err != nil {
		return err
	}
	return s.Park(d)
}

// Arm and Park are the halves of Wait, for sockets that several goroutines poll
// by turns while one sleeps: whoever stops polling arms, so that the sleeper
// hears of the next packet, or at once of one that is there. One arming wakes
// once. Any goroutine may call Arm before Close.
func (s *Socket) Arm(tx bool) error {
	if err := s.kernel.Arm(tx); err != nil {
		return s.opError("arm", err, "")
	}
	return nil
}

// Disarm takes Arm back: whoever starts polling disarms, so that packets wake
// nobody meanwhile. A Park that was ended already stays ended.
func (s *Socket) Disarm() error {
	if err := s.kernel.Disarm(); err != nil {
		return s.opError("disarm", err, "")
	}
	return nil
}

// Park sleeps until what was armed happens, Interrupt is called, or d is over
// (if positive). See Wait.
func (s *Socket) Park(d time.Duration) error {
	if err := s.kernel.Park(d); err != nil {
		return s.opError("wait", err, "")
	}
	return nil
}

// ParkInput is Park for a goroutine that armed for packets only, and is the one to
// receive what ends it: while packets come one at a time, each while it sleeps, that
// takes three system calls less. The socket may stay armed then, and wake more than once.
func (s *Socket) ParkInput() error {
	p, ok := s.kernel.(inputParker)
	if !ok {
		return s.Park(0)
	}
	if err := p.ParkInput(s.rx.waiting); err != nil {
		return s.opError("wait", err, "")
	}
	return nil
}

// Interrupt ends the current Wait or Park, or the next one.
func (s *Socket) Interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.kernel.Interrupt()
	}
}

// Close interrupts Wait, restores the NAPI, unbinds, unmaps the rings and frees the region if the
// socket made it. The goroutines that use the halves must have stopped, or be in
// Wait. Idempotent; it joins the errors of every step.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.err
	}
	s.closed = true
	s.last, _ = s.kernel.Statistics()
	s.err = s.restoreNAPI()
	if s.share != nil {
		s.err = errors.Join(s.err, s.share.close(s))
	} else {
		s.err = errors.Join(s.err, s.kernel.Close())
	}
	if s.owned {
		s.err = errors.Join(s.err, s.region.Close())
	}
	if s.err != nil {
		s.err = s.opError("close", s.err, "")
	}
	return s.err
}

func (s *Socket) opError(op string, err error, remedy string) error {
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	return &OpError{Op: op, Device: s.device, Queue: s.queue, Err: err, Remedy: remedy}
}
