//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
)

// asleep waits until n goroutines are parked in the runtime's poller.
func asleep(t *testing.T, n int) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(limit); time.Now().Before(end); runtime.Gosched() {
		text := string(buf[:runtime.Stack(buf, true)])
		got := 0
		for g := range strings.SplitSeq(text, "\n\n") {
			if strings.Contains(g, "[IO wait") && strings.Contains(g, "sys.(*Waiter).Park") {
				got++
			}
		}
		if got == n {
			return
		}
	}
	t.Fatalf("not %d goroutines in Wait", n)
}

// result gets the error of a Wait in another goroutine.
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

func wait(s *Socket, tx bool) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.Wait(tx, 0) }()
	return done
}

func TestInterrupt(t *testing.T) {
	s := mustOpen(t, lab.New(t, lab.Config{}), small(Config{}))
	for range 20 {
		done := wait(s, false)
		asleep(t, 1)
		s.Interrupt()
		if err := result(t, done); err != nil {
			t.Fatal(err)
		}
	}
	s.Interrupt()
	s.Interrupt() // before Wait: both together end one
	if err := result(t, wait(s, false)); err != nil {
		t.Fatal(err)
	}
	done := wait(s, false)
	asleep(t, 1)
	s.Interrupt()
	if err := result(t, done); err != nil {
		t.Fatal(err)
	}
}

func TestWaitTimeout(t *testing.T) {
	s := mustOpen(t, lab.New(t, lab.Config{}), small(Config{}))
	const d = 20 * time.Millisecond
	for range 3 {
		start := time.Now()
		if err := s.Wait(false, d); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got < d || got > limit {
			t.Errorf("Wait of %v took %v", d, got)
		}
	}
	done := wait(s, false) // the deadline must not stay
	asleep(t, 1)
	s.Interrupt()
	if err := result(t, done); err != nil {
		t.Error(err)
	}
}

func TestWaitTX(t *testing.T) {
	s := mustOpen(t, lab.New(t, lab.Config{}), small(Config{}))
	for range 3 {
		if err := result(t, wait(s, true)); err != nil { // there is room: at once
			t.Fatal(err)
		}
		done := wait(s, false)
		asleep(t, 1)
		s.Interrupt()
		if err := result(t, done); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaitPacket(t *testing.T) {
	l := lab.New(t, lab.Config{})
	p := attachInLab(t, l, AttachAuto)
	s := mustOpen(t, l, small(Config{}))
	s.RX().Refill()
	if err := p.AddSocket(0, s.FD()); err != nil {
		t.Fatal(err)
	}
	fd := packetSocket(t, l)
	frame := udpFrame(t, l, []byte("wake up"))
	for range 50 {
		done := wait(s, false)
		asleep(t, 1)
		if _, err := unix.Write(fd, frame); err != nil {
			t.Fatal(err)
		}
		if err := result(t, done); err != nil {
			t.Fatal(err)
		}
		receiveOne(t, s, func(b []byte) bool { return len(b) == len(frame) })
	}
}

func TestCloseEndsWait(t *testing.T) {
	for _, tx := range []bool{false, true} {
		s := mustOpen(t, lab.New(t, lab.Config{}), small(Config{}))
		done := wait(s, false)
		asleep(t, 1)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := result(t, done); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Wait: %v, want net.ErrClosed", err)
		}
		for _, d := range []time.Duration{0, time.Millisecond} {
			if err := s.Wait(tx, d); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Wait(%v, %v) after Close: %v, want net.ErrClosed", tx, d, err)
			}
		}
		s.Interrupt()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Statistics(); err != nil {
			t.Error(err)
		}
	}
}

// TestWaitWithoutThreads lets 20 sockets wait: the goroutines are parked in the
// runtime's poller and occupy no threads.
func TestWaitWithoutThreads(t *testing.T) {
	const sockets = 20
	l := lab.New(t, lab.Config{Queues: sockets})
	var all []*Socket
	for q := range uint32(sockets) {
		all = append(all, mustOpen(t, l, small(Config{Queue: q})))
	}
	before := threads(t)
	var done []<-chan error
	for _, s := range all {
		done = append(done, wait(s, false))
	}
	asleep(t, sockets)
	if after := threads(t); after > before+sockets/4 {
		t.Errorf("%d threads before, %d with %d sockets waiting", before, after, sockets)
	}
	for i, s := range all {
		s.Interrupt()
		if err := result(t, done[i]); err != nil {
			t.Error(err)
		}
	}
}

func threads(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
