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
