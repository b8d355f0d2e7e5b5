package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// sampleEvery is how often what could grow is measured; every linesEvery
// samples are one line.
const (
	sampleEvery = 2 * time.Second
	linesEvery  = 5
)

// A sample is what could grow, at one time of the run.
type sample struct {
	at         time.Duration
	heap       uint64 // live bytes after a collection
	resident   uint64 // bytes
	goroutines int
	fds        int
}

// watch samples until ctx ends, and prints a line from time to time.
func watch(ctx context.Context, w *load) (all []sample) {
	start := time.Now()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return all
		case <-tick.C:
		}
		s := measure(time.Since(start))
		all = append(all, s)
		if n%linesEvery == 0 {
			fmt.Println(w.line(s))
		}
	}
}

func measure(at time.Duration) sample {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := sample{at: at, heap: m.HeapAlloc, goroutines: runtime.NumGoroutine()}
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
	st, err := w.stack.Device().Stats()
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
	return fmt.Sprintf("%5.0fs  heap %.1f MB, resident %.1f MB, %d goroutines, %d fds | frames in %d, out %d, dropped %d | up %d MB, down %d MB, exchanges %d, connections %d, datagrams %d, lost %d",
		s.at.Seconds(), mb(s.heap), mb(s.resident), s.goroutines, s.fds, rx, tx, drops,
		w.up.Load()>>20, w.down.Load()>>20, w.exchanges.Load(), w.churned.Load(), w.datagrams.Load(), w.datagramsLost.Load())
}

func mb(n uint64) float64 { return float64(n) / (1 << 20) }

// timeWait is how long a connection outlives its Close in the stack's tables:
// until then memory grows as it should.
const timeWait = 60 * time.Second

// Bounds of growth between two windows. What is compared are the lowest values
// in each: the load makes all of them swing upwards, a leak raises the floor.
const (
	growthFactor     = 1.15
	growthHeap       = 4 << 20
	growthResident   = 16 << 20
	growthGoroutines = 8
	growthFDs        = 4
)

// growth compares the first minute after the warm-up with the last minute. A run
// that is too short for that has shorter windows.
func growth(all []sample, d time.Duration) error {
	warm, window := min(timeWait+10*time.Second, d/3), min(time.Minute, d/4)
	first, last := lowest(all, warm, warm+window), lowest(all, d-window, d+time.Hour)
	fmt.Printf("lowest from %v to %v: %v\nlowest in the last %v: %v\n", warm, warm+window, first, window, last)
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
		if bound := uint64(float64(g.first)*growthFactor) + g.slack; g.last > bound {
			errs = append(errs, fmt.Errorf("%s grew from %d to %d, at most %d is expected", g.name, g.first, g.last, bound))
		}
	}
	return errors.Join(errs...)
}

func (s sample) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "heap %.1f MB, resident %.1f MB, %d goroutines, %d descriptors", mb(s.heap), mb(s.resident), s.goroutines, s.fds)
	return b.String()
}

// lowest returns the lowest values of the samples between two times.
func lowest(all []sample, from, to time.Duration) (low sample) {
	for _, s := range all {
		if s.at < from || s.at > to {
			continue
		}
		if low.at == 0 {
			low = s
			continue
		}
		low.heap, low.resident = min(low.heap, s.heap), min(low.resident, s.resident)
		low.goroutines, low.fds = min(low.goroutines, s.goroutines), min(low.fds, s.fds)
	}
	return low
}
