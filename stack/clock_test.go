package stack

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/afxnet/afxnet/internal/goroutine"
	"github.com/afxnet/afxnet/internal/raced"
)

// A readClock is a microsecond later each time it is read.
type readClock struct {
	tcpip.Clock
	reads atomic.Int64
}

func (c *readClock) NowMonotonic() tcpip.MonotonicTime {
	return tcpip.MonotonicTime{}.Add(time.Duration(c.reads.Add(1)) * time.Microsecond)
}

// A countedClock counts how often it is read.
type countedClock struct {
	tcpip.Clock
	reads atomic.Int64
}

func (c *countedClock) NowMonotonic() tcpip.MonotonicTime {
	c.reads.Add(1)
	return c.Clock.NowMonotonic()
}

func needGoroutineID(t *testing.T) {
	if goroutine.ID() == 0 {
		t.Skip("goroutines are not told apart here, and nobody stops a clock")
	}
}

// TestClock stops a clock: it stands still for the goroutine that has, and for no
// other, until it has it run.
func TestClock(t *testing.T) {
	needGoroutineID(t)
	base := new(readClock)
	c := &clock{Clock: base}
	at := func(want int64) {
		t.Helper()
		if got := c.NowMonotonic().Sub(tcpip.MonotonicTime{}).Microseconds(); got != want {
			t.Errorf("the time is %d, want %d", got, want)
		}
	}
	at(1)
	c.stop()
	at(2)
	at(2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		at(3)
		at(4)
		c.run() // not what it has stopped
	}()
	<-done
	at(2)
	c.stop()
	at(5)
	c.run()
	at(6)
	c.run()
	at(7)
}

// TestClockCrowd has more goroutines stop a clock than there is room for: each sees
// it stand or go on, and never another's time, which may be an earlier one.
func TestClockCrowd(t *testing.T) {
	c := &clock{Clock: new(readClock)}
	var wg sync.WaitGroup
	for range 4 << clockBits {
		wg.Go(func() {
			var last tcpip.MonotonicTime
			for range 200 {
				c.stop()
				for range 3 {
					now := c.NowMonotonic()
					if now.Before(last) {
						t.Errorf("%v after %v", now, last)
					}
					last = now
				}
				c.run()
			}
		})
	}
	wg.Wait()
	for i := range c.holds {
		if g := c.holds[i].holder.Load(); g != 0 {
			t.Errorf("the clock still stands for %#x", g)
		}
	}
}

// TestClockReads counts how often two stacks read their clocks in an exchange: for
// each, when the segment comes, when it is processed, and when it writes. It would be
// 12 each.
func TestClockReads(t *testing.T) {
	needGoroutineID(t)
	system := systemClock
	clocks := &countedClock{Clock: system()}
	systemClock = func() tcpip.Clock { return clocks }
	t.Cleanup(func() { systemClock = system })
	ow := newOverWire(t, overWireOptions{chosen: true})
	c, s := ow.tcpPair(t, addrB)
	f := roundTrip(t, c, s, 64)
	for range 100 {
		f() // until nothing is late any more
	}
	// The best of many: timers read it too, and who is late acknowledges by itself.
	const n = 100
	best := math.Inf(1)
	for range 20 {
		before := clocks.reads.Load()
		for range n {
			f()
		}
		best = min(best, float64(clocks.reads.Load()-before)/n)
	}
	if best > 9 { // on a machine that is busy some are late each time
		t.Errorf("%.1f reads in an exchange, want 6", best)
	}
}

// TestClockTimer has a stack's timer fire, stops and resets it, and counts what it
// allocates: what a timer of the runtime's does.
func TestClockTimer(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		var fired atomic.Int32
		c := &clock{Clock: systemClock()}
		timer := c.AfterFunc(time.Hour, func() { fired.Add(1) })
		for i, step := range []struct {
			do   func()
			want int32
		}{
			{func() {}, 1},
			{func() { timer.Reset(time.Hour) }, 2},
			{func() { timer.Reset(time.Hour); timer.Stop() }, 2},
		} {
			step.do()
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			if got := fired.Load(); got != step.want {
				t.Errorf("step %d: fired %d times, want %d", i, got, step.want)
			}
		}
	})
	c := &clock{Clock: systemClock()}
	nothing := func() {}
	want := testing.AllocsPerRun(100, func() { time.AfterFunc(time.Hour, nothing).Stop() })
	if got := testing.AllocsPerRun(100, func() { c.AfterFunc(time.Hour, nothing).Stop() }); got != want {
		t.Errorf("%v allocations, want %v", got, want)
	}
}

func BenchmarkClock(b *testing.B) {
	c := &clock{Clock: tcpip.NewStdClock()}
	for b.Loop() {
		c.stop()
		for range 6 {
			c.NowMonotonic()
		}
		c.run()
	}
}
