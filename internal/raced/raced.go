// Package raced is what tests do in another way when the race detector runs, which
// makes all that they do some ten times as long: what one goroutine computes by
// itself, and how often something is done, is for the run without it.
package raced

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// Few returns n, or a part of it if the race detector runs: for repetitions whose
// number proves nothing about races.
func Few(n, part int) int {
	if Enabled {
		return part
	}
	return n
}

// Some returns all, or n of them in their order if the race detector runs, others
// each time: for what is done in ways that have the same races, mostly.
func Some[T any](n int, all []T) []T {
	if !Enabled || len(all) <= n {
		return all
	}
	picked := rand.Perm(len(all))[:n]
	slices.Sort(picked)
	some := make([]T, n)
	for i, j := range picked {
		some[i] = all[j]
	}
	return some
}

var processor sync.Mutex

// Bubble is synctest.Test, and with the race detector on one processor. A timer of
// a bubble that is set when it is due already runs in the goroutine that sets it,
// and all of a bubble's timers have one context of the detector's: where two
// goroutines set such timers at once, they use it at once, and the detector
// crashes (go.dev/issue/78156, in Go up to 1.26). On one processor they cannot.
func Bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if Enabled {
		processor.Lock() // parallel tests have the same processors
		defer processor.Unlock()
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	synctest.Test(t, f)
}
