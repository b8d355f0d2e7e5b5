package main

import (
	"runtime"
	"time"
)

// manyTimers is more than a third of the timers that there are at rest.
const manyTimers = 1 << 15

// forgetStopped has the runtime let go of timers that were stopped, and of the
// connections that they belonged to. It keeps a stopped timer on the heap of its
// processor until its time would have come, or until those are more than a quarter
// of all timers there (Go 1.26, runtime/time.go, timers.check). So connections that
// have ended are held, by chance and a third as many as there are timers at most.
//
// Here all timers move to one processor, which leaves the stopped ones of the others
// behind, and many that are stopped at once make them the quarter.
func forgetStopped() {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	timers := make([]*time.Timer, manyTimers)
	for i := range timers {
		timers[i] = time.AfterFunc(time.Hour, func() {})
	}
	for _, t := range timers {
		t.Stop()
	}
	runtime.Gosched() // the scheduler looks at them
}
