package wire

import (
	"os"
	"sync/atomic"
	"time"
)

// waiter is how one goroutine sleeps. Everything blocks on channels and one
// timer, all made where the socket is, so that it is durably blocked in the
// sense of testing/synctest.
//
// The sleeper sets sleeping before it looks at the rings; a waker changes a
// ring before it loads sleeping. Both are sequentially consistent, so at least
// one of them sees the other.
type waiter struct {
	sleeping    atomic.Bool
	interrupted atomic.Bool
	armed       atomic.Int32  // what may end wait: armRX, armTX
	signal      chan struct{} // one token: look again
	closed      chan struct{}
	timer       *time.Timer // the sleeper's; nil until it is needed
}

const (
	armRX = 1 << iota
	armTX
)

func (w *waiter) init() {
	w.signal = make(chan struct{}, 1)
	w.closed = make(chan struct{})
}

// wake makes the sleeper look again; it costs a load if nobody sleeps.
func (w *waiter) wake() {
	if w.sleeping.Load() {
		select {
		case w.signal <- struct{}{}:
		default:
		}
	}
}

func (w *waiter) interrupt() {
	w.interrupted.Store(true)
	w.wake()
}

// close ends wait for good. It is called once.
func (w *waiter) close() { close(w.closed) }

// wait sleeps until ready says so, or for one of the reasons of xsk.Kernel.
func (w *waiter) wait(d time.Duration, ready func() bool) error {
	w.sleeping.Store(true)
	err := w.sleep(d, ready)
	w.sleeping.Store(false)
	if d > 0 && w.timer != nil {
		w.timer.Stop()
	}
	return err
}

func (w *waiter) sleep(d time.Duration, ready func() bool) error {
	var over <-chan time.Time
	for {
		select {
		case <-w.closed:
			return os.ErrClosed
		default:
		}
		// Both are asked: an interrupt does not outlive this wait.
		if i, r := w.interrupted.Swap(false), ready(); i || r {
			return nil
		}
		if d > 0 && over == nil {
			over = w.after(d)
		}
		select {
		case <-w.signal:
		case <-over:
			return nil
		case <-w.closed:
			return os.ErrClosed
		}
	}
}

// after is time.After with a timer that is used again.
func (w *waiter) after(d time.Duration) <-chan time.Time {
	if w.timer == nil {
		w.timer = time.NewTimer(d)
	} else {
		w.timer.Reset(d)
	}
	return w.timer.C
}
