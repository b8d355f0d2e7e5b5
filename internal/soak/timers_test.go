package main

import (
	"runtime"
	"testing"
	"time"
	"weak"
)

// TestForgetStopped has an object that only a stopped timer holds, among timers
// that run.
func TestForgetStopped(t *testing.T) {
	held := make([]weak.Pointer[[1 << 10]byte], 100)
	stopped := make([]*time.Timer, len(held))
	for i := range held {
		b := new([1 << 10]byte)
		held[i] = weak.Make(b)
		stopped[i] = time.AfterFunc(2*time.Hour, func() { b[0]++ })
		for range 10 {
			defer time.AfterFunc(time.Hour, func() {}).Stop()
		}
	}
	for i, timer := range stopped {
		timer.Stop()
		stopped[i] = nil
	}
	forgetStopped()
	runtime.GC()
	n := 0
	for _, p := range held {
		if p.Value() != nil {
			n++
		}
	}
	if n != 0 {
		t.Errorf("%d of %d stopped timers are still there", n, len(held))
	}
}
