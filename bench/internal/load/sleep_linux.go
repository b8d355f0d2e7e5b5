package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleep sleeps in the kernel, with its timers' precision. A signal, of which the Go
// runtime sends itself some, does not end it early.
func sleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	for unix.Nanosleep(&ts, &ts) == unix.EINTR {
	}
}

// precise has sleeps of this thread end when they should, and returns what puts that back.
// Otherwise the kernel may add 50 us, to wake several with one interrupt (prctl(2),
// PR_SET_TIMERSLACK). Where it refuses, that stays so.
//
// Preconditions: the goroutine is locked to its thread.
func precise() (undo func()) {
	before, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) != nil {
		return func() {}
	}
	return func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0) } // it could be set
}
