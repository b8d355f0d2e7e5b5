package sys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Waiter sleeps until a socket has something, or until somebody interrupts it.
//
// It is an epoll descriptor that holds the socket and an eventfd, itself
// registered with the Go runtime's poller. A sleeping goroutine then occupies
// no thread, and the thread that the kernel wakes runs it at once: a goroutine
// in a blocking poll(2) would first have to win back a processor, which costs
// 20 us and more. The socket is not registered with the runtime directly,
// because the runtime asks for output events too, and every sent packet would
// wake a thread.
//
// The socket is in it with EPOLLONESHOT: it wakes nobody unless it is armed, and
// once armed it wakes once. While somebody polls the rings, packets that arrive
// cost no wakeup.
//
// That it has woken, the inner epoll has to be told by epoll_wait, or it stays armed:
// then each packet wakes, and arming again is not needed. ParkInput leaves it so for
// who sleeps for one packet at a time.
//
// It is put in by the first Arm: the kernel tells an epoll of every frame whose
// transmission is complete, which in copy mode is a fifth of the cost of sending
// it, and who never sleeps should not pay for that.
type Waiter struct {
	ep    *os.File
	conn  syscall.RawConn
	epfd  int // ep's descriptor; valid until Close
	event int // eventfd
	sock  int
	armed atomic.Bool   // a hint: the socket may wake Park
	asked atomic.Uint64 // calls of Interrupt
	one   [8]byte       // what Interrupt adds to the eventfd; a local would be allocated

	// Of who is in Park.
	count     [8]byte // what look reads from the eventfd
	answered  uint64  // what it has read, all together
	scan      func(fd uintptr) bool
	scanInput func(fd uintptr) bool
	scanErr   error
	waiting   func() uint32 // packets in the RX ring
	slept     bool          // this Park has looked before
	alone     int           // sleeps in a row that began with an empty ring

	arming sync.Mutex // held while the inner epoll is asked and told: Close waits for that
	kept   bool       // the inner epoll has the socket armed for input, and only for that; guarded by arming
	closed atomic.Bool
}

// keepAfter is after how many sleeps in a row that began with an empty ring, and ended with
// one packet, the socket stays armed. Where packets come in between, each
// would wake a thread for nothing.
const keepAfter = 4

// NewWaiter makes a waiter for the socket's input.
func NewWaiter(s *Socket) (w *Waiter, err error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd2", err)
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("epoll_create1", err), closeFD(event))
	}
	ev := unix.EpollEvent{Fd: int32(event), Events: unix.EPOLLIN}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, event, &ev); err != nil {
		return nil, errors.Join(os.NewSyscallError("epoll_ctl", err), closeFD(fd), closeFD(event))
	}
	// os.NewFile gives only non-blocking descriptors to the runtime's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), closeFD(fd), closeFD(event))
	}
	w = &Waiter{ep: os.NewFile(uintptr(fd), "epoll"), epfd: fd, event: event, sock: s.fd}
	if w.conn, err = w.ep.SyscallConn(); err == nil {
		err = w.ep.SetReadDeadline(time.Time{}) // fails if the runtime's poller does not have it
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("register with the runtime's poller: %w", err), w.Close())
	}
	w.scan, w.scanInput = w.look, w.lookForInput
	binary.NativeEndian.PutUint64(w.one[:], 1) // an eventfd adds a 64-bit integer in the machine's order
	return w, nil
}

func closeFD(fd int) error { return os.NewSyscallError("close", unix.Close(fd)) }

// look asks the inner epoll what is ready; the goroutine sleeps if it says
// false.
func (w *Waiter) look(fd uintptr) bool {
	w.arming.Lock()
	defer w.arming.Unlock()
	var evs [2]unix.EpollEvent
	n, err := unix.EpollWait(int(fd), evs[:], 0)
	for err == unix.EINTR {
		n, err = unix.EpollWait(int(fd), evs[:], 0)
	}
	if err != nil {
		w.scanErr = os.NewSyscallError("epoll_wait", err)
		return true
	}
	for _, ev := range evs[:n] {
		if int(ev.Fd) != w.event {
			w.kept = false // it is disarmed by that
		} else if n, _ := unix.Read(w.event, w.count[:]); n == len(w.count) { // EAGAIN only if another look took it
			w.answered += binary.NativeEndian.Uint64(w.count[:])
		}
	}
	return n > 0
}

// lookForInput is look, but asks the ring in place of the inner epoll where that does.
// Before the first sleep it does if the ring is empty: the runtime's poller is ready
// to be told, and what comes from now on tells it, since the socket is armed. An Interrupt
// may be on its way: asked is before answered then.
func (w *Waiter) lookForInput(fd uintptr) bool {
	slept := w.slept
	w.slept = true
	if w.asked.Load() == w.answered {
		switch n := w.waiting(); {
		case n == 0 && !slept:
			w.alone++
			return false
		case n == 1 && slept && w.alone >= keepAfter:
			return true
		case !slept:
			w.alone = 0
		}
	}
	return w.look(fd)
}

// Arm lets the socket's input, and output room if tx is set, end Park once; at
// once if there is some now. After ParkInput it may end more than one. After Close it
// returns os.ErrClosed.
func (w *Waiter) Arm(tx bool) error {
	w.armed.Store(true)
	if tx {
		return w.ask(unix.EPOLLIN | unix.EPOLLOUT)
	}
	return w.ask(unix.EPOLLIN)
}

// Disarm takes Arm back; a Park that it has ended already stays ended.
func (w *Waiter) Disarm() error {
	// The hint may be false while the socket is armed, if a wakeup and an Arm
	// crossed: that costs a needless wakeup, no more.
	if !w.armed.Swap(false) {
		return nil
	}
	return w.ask(0)
}

// ask sets the events that wake Park once.
func (w *Waiter) ask(events uint32) error {
	w.arming.Lock()
	defer w.arming.Unlock()
	if w.closed.Load() {
		return os.ErrClosed
	}
	if w.kept && events == unix.EPOLLIN {
		// What has come since it was armed has told the runtime's poller, whose
		// Park looks for itself.
		return nil
	}
	ev := unix.EpollEvent{Fd: int32(w.sock), Events: events | unix.EPOLLONESHOT}
	err := unix.EpollCtl(w.epfd, unix.EPOLL_CTL_MOD, w.sock, &ev)
	if err == unix.ENOENT { // the first time
		err = unix.EpollCtl(w.epfd, unix.EPOLL_CTL_ADD, w.sock, &ev)
	}
	if err == unix.EEXIST { // two first times at once
		err = unix.EpollCtl(w.epfd, unix.EPOLL_CTL_MOD, w.sock, &ev)
	}
	w.kept = err == nil && events == unix.EPOLLIN
	return os.NewSyscallError("epoll_ctl", err)
}

// Park sleeps until what is armed happens or Interrupt is called; an Interrupt
// since the last Park ends it at once. A positive d bounds it, to the runtime
// timer's precision. One goroutine may be in Park. errors.Is(err, os.ErrClosed)
// holds after Close.
func (w *Waiter) Park(d time.Duration) error {
	if d > 0 {
		if err := w.ep.SetReadDeadline(time.Now().Add(d)); err != nil {
			return w.closedError(err)
		}
		defer w.ep.SetReadDeadline(time.Time{})
	}
	return w.park(w.scan)
}

// ParkInput is Park for who is armed for input only, and will receive what ends it. It
// does without asking the inner epoll while packets come one by one, each while he sleeps:
// the socket stays armed then. waiting returns how many packets are in the RX ring.
func (w *Waiter) ParkInput(waiting func() uint32) error {
	w.waiting, w.slept = waiting, false
	return w.park(w.scanInput)
}

func (w *Waiter) park(scan func(fd uintptr) bool) error {
	err := w.conn.Read(scan)
	if err == nil {
		err, w.scanErr = w.scanErr, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return w.closedError(err)
}

// closedError replaces the error of using a closed descriptor: the one of
// os.File's raw connection is not os.ErrClosed (Go 1.26).
func (w *Waiter) closedError(err error) error {
	if err != nil && w.closed.Load() {
		return os.ErrClosed
	}
	return err
}

// Interrupt ends the current Park, or the next one. Any goroutine may call it.
func (w *Waiter) Interrupt() {
	w.asked.Add(1) // first: see lookForInput
	for {
		// EAGAIN: the counter is at its limit, so an interrupt is pending.
		if _, err := unix.Write(w.event, w.one[:]); err != unix.EINTR {
			return
		}
	}
}

// Close ends a Park with os.ErrClosed. No Interrupt may be running. The socket is to
// be closed after it.
func (w *Waiter) Close() error {
	w.arming.Lock()
	w.closed.Store(true)
	w.arming.Unlock()
	return errors.Join(w.ep.Close(), closeFD(w.event))
}
