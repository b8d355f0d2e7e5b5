package load

import (
	"errors"
	"net"
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

// slackConn notes the timer slack of the thread that writes to it, in nanoseconds.
type slackConn struct {
	net.Conn
	slack int
}

func (c *slackConn) Write(b []byte) (n int, err error) {
	c.slack, err = unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	return len(b), err
}

// TestPrecise wants the sender of an open loop not to be woken late on purpose, and its
// thread to be as before when it is done.
func TestPrecise(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, during, after slackConn
	if _, err := before.Write(nil); err != nil {
		t.Fatal(err)
	}
	o := &opener{spec: Spec{Size: 1}, start: time.Now(), interval: time.Microsecond}
	if err := o.send(t.Context(), []net.Conn{&during}, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := after.Write(nil); err != nil || during.slack != 1 || after.slack != before.slack {
		t.Errorf("the timer slack is %d ns, %d while sending, %d afterwards, %v", before.slack, during.slack, after.slack, err)
	}
}
