package alarm

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An Alarm is a timer of the kernel's. One goroutine may wait for it.
type Alarm struct {
	file *os.File // a timerfd, which the runtime's poller waits for
	gone [8]byte  // what is read from it: how often it has gone off
}

// New makes an alarm, which takes a descriptor. The error is that of timerfd_create(2).
func New() (*Alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &Alarm{file: os.NewFile(uintptr(fd), "timerfd")}, nil
}

// Wait waits for a time, more than 0, from now on, whatever it waited for before. After
// Close, and if Close ends it, the error is os.ErrClosed.
func (a *Alarm) Wait(d time.Duration) error {
	conn, err := a.file.SyscallConn()
	if err != nil {
		return err
	}
	once := unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}
	var setErr error
	err = conn.Control(func(fd uintptr) {
		setErr = os.NewSyscallError("timerfd_settime", unix.TimerfdSettime(int(fd), 0, &once, nil))
	})
	if err != nil {
		return os.ErrClosed // there is no other reason
	}
	if setErr != nil {
		return setErr
	}
	_, err = a.file.Read(a.gone[:])
	return err
}

// Close ends a Wait, and gives the timer back. Any goroutine may call it.
func (a *Alarm) Close() error { return a.file.Close() }
