package wire

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/afxnet/afxnet/internal/raced"
)

func TestWait(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		w, s := pair(t, Config{}, 4)
		a := s[0]
		woken := func(what string, tx bool, d, want time.Duration) {
			t.Helper()
			start := time.Now()
			if err := a.Wait(tx, d); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if got := time.Since(start); got != want {
				t.Errorf("%s: after %v, want %v", what, got, want)
			}
		}
		after := func(f func()) { time.AfterFunc(time.Minute, f) }

		woken("timeout", false, time.Second, time.Second)
		woken("timeout again", false, 3*time.Second, 3*time.Second)
		a.Interrupt()
		a.Interrupt()
		woken("interrupted before", false, time.Second, 0)
		woken("interrupt is used up", false, time.Second, time.Second)
		after(a.Interrupt)
		woken("interrupt", false, 0, time.Minute)
		after(func() { w.Port(0).Inject(numbered(1, 60)) })
		woken("packet", false, time.Hour, time.Minute)
		woken("packet still there", false, 0, 0)
		w.Port(0).SetDown(true)
		woken("down, but the packet is there", false, 0, 0)
		a.Interrupt()
		woken("both", false, 0, 0)
		receive(a)
		woken("the interrupt went with the packet", false, time.Second, time.Second)
		after(func() { w.Port(0).SetDown(false) })
		woken("nobody tells of the link", false, time.Hour, time.Hour)

		woken("room to send", true, 0, 0)
		w.Port(0).Queue(0).SetNeedWakeup(false, false) // Flush leaves the ring alone
		queue(a, numbered(1, 60), numbered(2, 60), numbered(3, 60))
		a.TX().Flush()
		woken("no room to send", true, time.Second, time.Second)
		after(func() { w.Port(0).Queue(0).WakeTX() })
		woken("room again", true, 0, time.Minute)

		var wg sync.WaitGroup
		wg.Go(func() {
			if err := a.Wait(true, time.Nanosecond); err != nil {
				t.Error(err)
			}
			if err := a.Wait(false, 0); !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed: %v", err)
			}
		})
		synctest.Wait()
		q := w.Port(0).Queue(0)
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		a.Interrupt()
		if err := q.Park(0); err != os.ErrClosed {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestWakeups looks for a wakeup lost between the look at the ring and sleep.
func TestWakeups(t *testing.T) {
	w, s := pair(t, Config{}, 4)
	const n = 20000
	ack := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for range n {
			w.Port(0).Inject([]byte{1})
			<-ack
		}
	})
	for range n {
		if err := s[0].Wait(false, 0); err != nil {
			t.Fatal(err)
		}
		if got := len(receive(s[0])); got != 1 {
			t.Fatalf("woken for %d frames", got)
		}
		ack <- struct{}{}
	}
	wg.Wait()
}

func TestWaitIdle(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		w := newWire(t, Config{Faults: [2]Faults{{Delay: time.Second}, {Delay: time.Second}}})
		w.Port(0).OnReceive(func([]byte) {})
		w.Port(1).OnReceive(func(f []byte) { w.Port(1).Send(f) })
		w.Port(0).Send([]byte{1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := w.WaitIdle(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		start := time.Now()
		if err := w.WaitIdle(t.Context()); err != nil || time.Since(start) != 2*time.Second-time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if st := checkStats(t, w); st[0].Delivered != 1 || st[1].Delivered != 1 {
			t.Errorf("%+v", st)
		}
		w.Port(0).Send([]byte{1})
		w.Close()
		w.Port(0).Send([]byte{1})
		if st := checkStats(t, w); st[0].Abandoned != 1 || st[0].PortDown != 1 {
			t.Errorf("%+v", st)
		}
	})
}
