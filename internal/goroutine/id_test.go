package goroutine

import (
	"runtime"
	"testing"
)

// TestID has goroutines live at the same time: no two have the same ID, and none
// changes, wherever the goroutine runs and however deep its stack is.
func TestID(t *testing.T) {
	const n = 100
	ids, done := make(chan uintptr, n), make(chan struct{})
	defer close(done)
	for range n {
		go func() {
			id := ID()
			for depth := range 20 {
				runtime.Gosched()
				if got := deep(depth * 100); got != id {
					t.Errorf("%#x and then %#x", id, got)
				}
			}
			ids <- id
			<-done
		}()
	}
	seen := map[uintptr]bool{ID(): true}
	for range n {
		id := <-ids
		if id == 0 {
			t.Skip("goroutines are not told apart on ", runtime.GOARCH)
		}
		if seen[id] {
			t.Fatalf("two have %#x", id)
		}
		seen[id] = true
	}
}

// deep calls ID with n frames of 64 bytes and more below: the stack is moved.
func deep(n int) uintptr {
	var frame [64]byte
	if n == 0 {
		return ID()
	}
	id := deep(n - 1)
	runtime.KeepAlive(&frame)
	return id
}

func BenchmarkID(b *testing.B) {
	for b.Loop() {
		ID()
	}
}
