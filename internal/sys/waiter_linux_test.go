package sys

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limit bounds every wait for something that should happen at once.
const limit = 10 * time.Second

// newWaiter makes a waiter on one end of a socket pair, which needs no
// privileges as an AF_XDP socket does, and returns the other end.
func newWaiter(t *testing.T) (w *Waiter, peer int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	if w, err = NewWaiter(&Socket{fd: fds[0]}); err != nil {
		t.Fatal(err)
	}
	return w, fds[1]
}

func wait(w *Waiter, tx bool, d time.Duration) <-chan error {
	done := make(chan error, 1)
	go func() { done <- waitFor(w, tx, d) }()
	return done
}

func result(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		t.Fatal("Wait does not end")
		return nil
	}
}

func TestWaiter(t *testing.T) {
	w, peer := newWaiter(t)
	done := wait(w, false, 0)
	w.Interrupt()
	if err := result(t, done); err != nil {
		t.Error("Interrupt: ", err)
	}
	w.Interrupt()
	w.Interrupt()
	if err := result(t, wait(w, false, 0)); err != nil {
		t.Error("Interrupt before Wait: ", err)
	}
	start := time.Now()
	if err := waitFor(w, false, 10*time.Millisecond); err != nil || time.Since(start) < 10*time.Millisecond {
		t.Errorf("timeout: %v after %v", err, time.Since(start))
	}
	if err := result(t, wait(w, true, 0)); err != nil {
		t.Error("room to send: ", err)
	}
	start = time.Now() // the output event is no longer asked for
	if err := waitFor(w, false, 10*time.Millisecond); err != nil || time.Since(start) < 10*time.Millisecond {
		t.Errorf("timeout: %v after %v", err, time.Since(start))
	}
	done = wait(w, false, 0)
	if _, err := unix.Write(peer, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := result(t, done); err != nil {
		t.Error("input: ", err)
	}
	// It is level triggered: what was not read ends the next Wait too.
	if err := result(t, wait(w, false, 0)); err != nil {
		t.Error("input again: ", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestWaiterClosed(t *testing.T) {
	w, _ := newWaiter(t)
	done := wait(w, false, 0)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := result(t, done); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Wait: %v, want os.ErrClosed", err)
	}
	for _, tx := range []bool{false, true} {
		for _, d := range []time.Duration{0, time.Millisecond} {
			if err := waitFor(w, tx, d); !errors.Is(err, os.ErrClosed) {
				t.Errorf("Wait(%v, %v): %v, want os.ErrClosed", tx, d, err)
			}
		}
	}
}

// TestWaiterClosedMeanwhile closes while others arm: they find it closed, and never
// use a descriptor that is, which may be somebody else's by then.
func TestWaiterClosedMeanwhile(t *testing.T) {
	first, _ := newWaiter(t)
	defer first.Close()
	rounds := 1000
	if runtime.GOMAXPROCS(0) == 1 {
		rounds = 50 // each takes until the runtime stops who arms, which is long
	}
	for range rounds {
		w, err := NewWaiter(&Socket{fd: first.sock})
		if err != nil {
			t.Fatal(err)
		}
		started, done := make(chan struct{}), make(chan error, 1)
		go func() {
			close(started)
			err := w.Arm(true)
			for err == nil {
				err = w.Arm(true)
			}
			done <- err
		}()
		<-started
		runtime.Gosched()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := result(t, done); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("Arm: %v, want os.ErrClosed", err)
		}
	}
}

// TestWaiterAllocs: a poller waits between batches, so it should cost no
// garbage collection.
func TestWaiterAllocs(t *testing.T) {
	w, _ := newWaiter(t)
	defer w.Close()
	for _, d := range []time.Duration{0, time.Minute} {
		if n := testing.AllocsPerRun(50, func() {
			w.Interrupt()
			if err := waitFor(w, false, d); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("Wait(%v): %v allocations, want 0", d, n)
		}
	}
}

func BenchmarkInterrupt(b *testing.B) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	w, err := NewWaiter(&Socket{fd: fds[0]})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	b.ReportAllocs()
	for b.Loop() {
		w.Interrupt()
		if err := waitFor(w, false, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// waitFor arms and parks.
func waitFor(w *Waiter, tx bool, d time.Duration) error {
	if err := w.Arm(tx); err != nil {
		return err
	}
	return w.Park(d)
}

// TestWaiterLazy looks whether the socket is left alone until somebody sleeps.
func TestWaiterLazy(t *testing.T) {
	w, _ := newWaiter(t)
	defer w.Close()
	in := func() bool {
		ev := unix.EpollEvent{Fd: int32(w.sock)}
		err := unix.EpollCtl(w.epfd, unix.EPOLL_CTL_MOD, w.sock, &ev)
		if err != nil && err != unix.ENOENT {
			t.Fatal(err)
		}
		return err == nil
	}
	if err := w.Disarm(); err != nil || in() {
		t.Errorf("before the first Arm: in the epoll %t, %v", in(), err)
	}
	if err := waitFor(w, true, 0); err != nil || !in() {
		t.Errorf("after the first Arm: in the epoll %t, %v", in(), err)
	}
}
