//go:build !xskdebug

package umem

import "testing"

const debugging = false

// TestStrays frees frames that are not held: each is counted and none gets a
// second owner.
func TestStrays(t *testing.T) {
	r := newRegion(t, Config{ChunkSize: 2048, Chunks: 8, OnHeap: true})
	c := r.NewCache()
	a, _ := c.Get()
	lent, _ := c.Get()
	r.Move(lent, Held, Fill)
	c.Put(a)
	for _, stray := range []Addr{
		a, a + 100, // freed twice
		7 * 2048,           // never taken
		lent,               // with the kernel
		8 * 2048, ^Addr(0), // outside
	} {
		before := c.Strays()
		c.Put(stray)
		if got := c.Strays() - before; got != 1 {
			t.Errorf("Put(%#x): %d strays counted, want 1", stray, got)
		}
	}
	if got, want := r.Audit(), (Audit{Free: 7, Fill: 1, Pooled: 6}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	seen := make(map[Addr]bool)
	for a, ok := c.Get(); ok; a, ok = c.Get() {
		if seen[a] || a == lent {
			t.Errorf("frame %#x has two owners", a)
		}
		seen[a] = true
	}
	if len(seen) != 7 {
		t.Errorf("%d frames came out, want 7", len(seen))
	}
}
