package ring

import (
	"fmt"
	"runtime"
	"testing"
)

// TestConcurrent passes numbers through a ring between two goroutines. The ring
// is heap memory, so the race detector checks the letters of the package
// comment: an entry that is read before (B), or overwritten before (D), is a
// race.
func TestConcurrent(t *testing.T) {
	total := uint64(100_000)
	if testing.Short() {
		total = 5000
	}
	for _, size := range []uint32{2, 16, 256} {
		t.Run(fmt.Sprintf("size=%d", size), func(t *testing.T) {
			m := heapAt(t, size, -uint32(total/2))
			done := make(chan error, 1)
			go func() { done <- consume(m, total) }()
			rng := seeded(t)
			p := NewProducer(m)
			for v := uint64(0); v < total; {
				n := min(p.Free(1), 1+rng.Uint32N(size), uint32(total-v))
				if n == 0 {
					runtime.Gosched()
					continue
				}
				first, ok := p.Reserve(n)
				if !ok {
					t.Fatalf("Reserve(%d) failed after Free", n)
				}
				for i := range n {
					p.Set(first+i, v)
					v++
				}
				p.Submit()
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if p.Err() != nil || p.Pending() != 0 {
				t.Errorf("Err %v, Pending %d", p.Err(), p.Pending())
			}
		})
	}
}

// consume takes the numbers up to total, which must come in order.
func consume(m Mem[uint64], total uint64) error {
	c := NewConsumer(m)
	var bad error
	for v := uint64(0); v < total; {
		first, n := c.Peek(c.Len())
		if n == 0 {
			if c.Err() != nil {
				return c.Err()
			}
			runtime.Gosched()
			continue
		}
		for i := range n {
			if got := c.Get(first + i); got != v && bad == nil {
				bad = fmt.Errorf("entry %d = %d", v, got)
			}
			v++
		}
		c.Release()
	}
	return bad
}
