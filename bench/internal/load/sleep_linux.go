package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleep sleeps in the kernel, with its timers' precision. A signal ends it early;
// the caller then is a little ahead of its time.
func sleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil)
}
