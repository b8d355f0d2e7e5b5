package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"
)

// linesEvery is the time between two lines of a run.
const linesEvery = 10 * time.Second

// warmUp is how long the load runs before the first rest: pools, tables and
// goroutines that stay are made in it. Tables are never made smaller, so it has
// to last until as many connections are in TIME-WAIT as ever are.
const warmUp = 75 * time.Second

// settled is how long a rest may take. A connection stays in the stack's tables
// for a minute after its Close (TIME-WAIT), one whose peer is gone for longer.
const settled = 3 * time.Minute

// A sample is what could grow, at one time of the run.
type sample struct {
	at         time.Duration
	heap       uint64 // live bytes after a collection
	resident   uint64 // bytes
	goroutines int
	fds        int
	endpoints  int // of all stacks
}

// watch prints a line from time to time until ctx ends, or returns an error if a
// part of the load gets stuck.
func (w *load) watch(ctx context.Context) error {
	start := time.Now()
	tick := time.NewTicker(linesEvery)
	defer tick.Stop()
	last := w.progress()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		fmt.Println(w.line(w.measure(time.Since(start))))
		now := w.progress()
		for name, n := range now {
			if n.count != last[name].count {
				last[name] = n
			} else if still := n.at.Sub(last[name].at); still > patience {
				// Where everybody is tells more than the name.
				pprof.Lookup("goroutine").WriteTo(os.Stderr, 1) //nolint:errcheck // it is for the eye
				return fmt.Errorf("%s: stuck for %v after %d", name, still, n.count)
			}
		}
	}
}

// done is how far a part of the load had come at a time.
type done struct {
	count uint64
	at    time.Time
}

// progress returns what each part of the load has done.
func (w *load) progress() map[string]done {
	now := time.Now()
	return map[string]done{
		"upload":      {w.up.Load(), now},
		"download":    {w.down.Load(), now},
		"requests":    {w.exchanges.Load(), now},
		"connections": {w.churned.Load(), now},
		"datagrams":   {w.datagrams.Load(), now},
	}
}

// rest waits until all connections of the load have left the stacks, and
// measures what remains. The load has ended.
func (w *load) rest(ctx context.Context) (sample, error) {
	start := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		n := w.ground.endpoints()
		if n <= w.endpoints {
			break
		}
		if time.Since(start) > settled {
			return sample{}, fmt.Errorf("%v after the load ended %d endpoints remain, not %d", settled, n, w.endpoints)
		}
		select {
		case <-ctx.Done():
			return sample{}, context.Cause(ctx)
		case <-tick.C:
		}
	}
	forgetStopped()
	// The first collection takes the pools down a step, the second empties them.
	runtime.GC()
	debug.FreeOSMemory()
	return w.measure(time.Since(start)), nil
}

func (w *load) measure(at time.Duration) sample {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := sample{at: at, heap: m.HeapAlloc, goroutines: runtime.NumGoroutine(),
		endpoints: w.ground.endpoints()}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		s.fds = len(fds)
	}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		var total, resident uint64
		if _, err := fmt.Sscan(string(text), &total, &resident); err == nil {
			s.resident = resident * uint64(os.Getpagesize())
		}
	}
	return s
}

// line says what the run has done so far.
func (w *load) line(s sample) string {
	var rx, tx, drops uint64
	st, err := w.ground.stack.Device().Stats()
	if err != nil {
		return err.Error()
	}
	for _, q := range st.Queues {
		rx += q.RXDelivered
		tx += q.TXFrames
	}
	for _, n := range st.Drops() {
		drops += n
	}
	return fmt.Sprintf("%5.0fs  heap %.1f MB, resident %.1f MB, %d goroutines, %d fds, %d endpoints | frames in %d, out %d, dropped %d | up %d MB, down %d MB, exchanges %d, connections %d, datagrams %d, lost %d",
		s.at.Seconds(), mb(s.heap), mb(s.resident), s.goroutines, s.fds, s.endpoints, rx, tx, drops,
		w.up.Load()>>20, w.down.Load()>>20, w.exchanges.Load(), w.churned.Load(), w.datagrams.Load(), w.datagramsLost.Load())
}

func mb(n uint64) float64 { return float64(n) / (1 << 20) }

// Bounds of growth between two rests. What varies with chance is far below them:
// timers and buffers of the runtime, and threads.
const (
	growthHeap       = 2 << 20
	growthResident   = 32 << 20
	growthGoroutines = 4
	growthFDs        = 4
)

// growth compares the two rests.
func growth(first, last sample) error {
	var errs []error
	for _, g := range []struct {
		name        string
		first, last uint64
		slack       uint64
	}{
		{"live heap bytes", first.heap, last.heap, growthHeap},
		{"resident bytes", first.resident, last.resident, growthResident},
		{"goroutines", uint64(first.goroutines), uint64(last.goroutines), growthGoroutines},
		{"descriptors", uint64(first.fds), uint64(last.fds), growthFDs},
	} {
		if g.last > g.first+g.slack {
			errs = append(errs, fmt.Errorf("at rest, %s grew from %d to %d, at most %d more are expected", g.name, g.first, g.last, g.slack))
		}
	}
	return errors.Join(errs...)
}

func (s sample) String() string {
	return fmt.Sprintf("heap %.2f MB, resident %.1f MB, %d goroutines, %d descriptors, %d endpoints",
		mb(s.heap), mb(s.resident), s.goroutines, s.fds, s.endpoints)
}
