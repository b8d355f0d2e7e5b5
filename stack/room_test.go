package stack

import (
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
)

// TestMakeRoom looks at the stacks of goroutines that have called makeRoom and
// nothing else.
func TestMakeRoom(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it shrinks stacks
	// One that runs comes to its end: while it does, the runtime keeps the stacks of
	// goroutines that have ended, for new ones.
	runtime.GC()
	const n = 500
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var ready, done sync.WaitGroup
	end := make(chan struct{})
	ready.Add(n)
	for range n {
		done.Go(func() {
			makeRoom(false)
			ready.Done()
			<-end
		})
	}
	ready.Wait()
	runtime.ReadMemStats(&after)
	close(end)
	done.Wait()
	if grown := after.StackInuse - before.StackInuse; after.StackInuse < before.StackInuse || grown < n*stackRoom {
		t.Errorf("%d bytes for %d stacks, want %d each", grown, n, stackRoom)
	}
}
