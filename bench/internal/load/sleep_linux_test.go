package load

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSleepInterrupted sends the sleeping thread signals, of the kind by which the
// runtime interrupts its own.
func TestSleepInterrupted(t *testing.T) {
	const d = 50 * time.Millisecond
	thread, slept := make(chan int, 1), make(chan time.Duration, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		start := time.Now()
		sleep(d)
		slept <- time.Since(start)
	}()
	tid := <-thread
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case took := <-slept:
			if took < d {
				t.Errorf("slept for %v, want %v", took, d)
			}
			return
		case <-tick.C:
		}
		if err := unix.Tgkill(unix.Getpid(), tid, unix.SIGURG); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
	}
}
