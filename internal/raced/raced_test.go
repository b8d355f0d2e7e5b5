package raced

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestBubble has goroutines set timers that are due, all at once: without one
// processor for all of them the race detector crashes.
func TestBubble(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	Bubble(t, func(t *testing.T) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 5000 {
					time.AfterFunc(0, func() {})
				}
			})
		}
		wg.Wait()
	})
	if is := runtime.GOMAXPROCS(0); is != before {
		t.Errorf("%d processors, %d before", is, before)
	}
}

func TestSome(t *testing.T) {
	all := []int{1, 2, 3, 4, 5}
	for range 100 {
		some := Some(2, all)
		if want := Few(5, 2); len(some) != want {
			t.Fatalf("%v, want %d of them", some, want)
		}
		for i, x := range some {
			if !slices.Contains(all, x) || i > 0 && some[i-1] >= x {
				t.Fatalf("%v is not some of %v in their order", some, all)
			}
		}
	}
	if some := Some(5, all); !slices.Equal(some, all) {
		t.Errorf("%v of %v", some, all)
	}
}
