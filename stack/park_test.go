package stack

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/afxnet/afxnet/internal/raced"
)

func newParker() *parker {
	var p parker
	p.init(nil, new(sync.Pool))
	return &p
}

// TestParkKeepsWakeup checks that a wakeup before the park is not lost, and
// that it is one however often it came.
func TestParkKeepsWakeup(t *testing.T) {
	p := newParker()
	p.wake()
	p.wake()
	if !p.Woken() {
		t.Error("Woken is false after a wakeup")
	}
	within(t, "park", p.park)
	if p.Woken() {
		t.Error("Woken is true after park")
	}
}

// TestParkAllocs has a side where nobody sleeps have nothing to sleep on.
func TestParkAllocs(t *testing.T) {
	var p parker
	pool := new(sync.Pool)
	if got := testing.AllocsPerRun(100, func() {
		p.init(nil, pool)
		p.wake()
		p.park()
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

// TestParkCrowd has goroutines on many parkers, with one pool, wait for turns that
// others give, two wakers for each: no wakeup is lost and none goes to another.
func TestParkCrowd(t *testing.T) {
	pool := new(sync.Pool)
	turns := int64(raced.Few(5000, 500))
	within(t, "the turns", func() {
		var wg sync.WaitGroup
		for range 8 {
			p := new(parker)
			p.init(nil, pool)
			var given, taken atomic.Int64
			back := make(chan struct{}, 1)
			wg.Go(func() {
				for n := int64(1); n <= turns; n++ {
					for given.Load() < n {
						p.park()
					}
					taken.Store(n)
					back <- struct{}{}
				}
			})
			wg.Go(func() {
				for n := int64(1); n <= turns; n++ {
					given.Store(n)
					p.wake()
					<-back
				}
			})
			wg.Go(func() {
				for taken.Load() < turns/2 {
					p.wake() // one that nobody needs
				}
			})
		}
		wg.Wait()
	})
}

// TestWakes tells a socket of events: those that concern one side wake no other.
func TestWakes(t *testing.T) {
	for _, tc := range []struct {
		name   string
		events waiter.EventMask
		rd, wr bool
	}{
		{"readable", waiter.ReadableEvents, true, false},
		{"peer has closed", waiter.EventRdHUp, true, false},
		{"writable", waiter.WritableEvents, false, true},
		{"error", waiter.EventErr, true, true},
		{"hangup", waiter.EventHUp, true, true},
		{"nothing", 0, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var k socket
			(*wakes)(&k).NotifyEvent(tc.events)
			if rd, wr := k.rd.Woken(), k.wr.Woken(); rd != tc.rd || wr != tc.wr {
				t.Errorf("reader %t, writer %t; want %t, %t", rd, wr, tc.rd, tc.wr)
			}
		})
	}
}

func TestHalt(t *testing.T) {
	p := newParker()
	if !p.halt(stopDown) || p.halt(stopDown) {
		t.Error("halt does not tell first from second")
	}
	if !p.halt(stopClosed) {
		t.Error("another reason is not new")
	}
	p.resume(stopDown)
	if got := p.stop.Load(); got != stopClosed {
		t.Errorf("stop = %b after resume", got)
	}
}

// TestDeadlineMoves sets deadlines over each other while a goroutine waits.
func TestDeadlineMoves(t *testing.T) {
	const never = time.Hour
	for _, tc := range []struct {
		name string
		set  []time.Duration // from now; 0 is none
		end  bool
	}{
		{"past", []time.Duration{-1}, true},
		{"soon", []time.Duration{time.Millisecond}, true},
		{"late, then soon", []time.Duration{never, time.Millisecond}, true},
		{"late, then past", []time.Duration{never, -never}, true},
		{"soon, then late", []time.Duration{time.Millisecond, never}, false},
		{"soon, then none", []time.Duration{time.Millisecond, 0}, false},
		{"past, then none, then late", []time.Duration{-1, 0, never}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newParker()
			for _, d := range tc.set {
				if d == 0 {
					p.setDeadline(time.Time{})
				} else {
					p.setDeadline(time.Now().Add(d))
				}
			}
			defer p.setDeadline(time.Time{})
			if !tc.end {
				// A timer that was moved may still run: let it do its worst.
				p.expire()
				if p.stop.Load() != 0 {
					t.Error("expired")
				}
				return
			}
			within(t, "the wait", func() {
				for p.stop.Load()&stopExpired == 0 {
					p.park()
				}
			})
		})
	}
}

// TestDeadlineWhileBlocked moves the deadline of a Read that is blocked.
func TestDeadlineWhileBlocked(t *testing.T) {
	pr := newPair(t)
	c, s := pr.connect(t, "tcp", addrB)
	read := make(chan error, 1)
	c.SetReadDeadline(time.Now().Add(time.Hour))
	go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
	pr.parkA.wait(t)
	c.SetDeadline(time.Now().Add(time.Millisecond))
	wantTimeout(t, <-read, "read")
	_, err := c.Read(make([]byte, 1))
	wantTimeout(t, err, "read")
	_, err = c.Write(make([]byte, 1))
	for err == nil { // the write deadline is as near, and may not be over
		_, err = c.Write(make([]byte, 1))
	}
	wantTimeout(t, err, "write")
	c.SetDeadline(time.Time{})
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("Read after the deadline was taken away: %v", err)
	}
}

func TestAcceptDeadline(t *testing.T) {
	pr := newPair(t)
	l, err := pr.a.ListenTCP("tcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetDeadline(time.Now().Add(time.Millisecond))
	_, err = l.Accept()
	wantTimeout(t, err, "accept")
}
