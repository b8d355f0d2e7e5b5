//go:build xskdebug

package umem

import (
	"fmt"
	"strings"
	"testing"
)

const debugging = true

// panics runs f, which must panic with a message that has all of want.
func panics(t *testing.T, f func(), want ...string) {
	t.Helper()
	defer func() {
		t.Helper()
		msg := fmt.Sprint(recover())
		for _, w := range want {
			if !strings.Contains(msg, w) {
				t.Errorf("panic %q does not say %q", msg, w)
			}
		}
	}()
	f()
	t.Error("no panic")
}

func TestWriteAfterFree(t *testing.T) {
	r := newRegion(t, Config{ChunkSize: 2048, Chunks: 4, OnHeap: true})
	c := r.NewCache()
	a, _ := c.Get()
	b := r.Chunk(a)
	b[100] = 1
	c.Put(a)
	b[100] = 1
	panics(t, func() { c.Get() }, "umem: frame 0x", "written at byte 100 while free", "TestWriteAfterFree")
}

func TestWriteBeforeFirstUse(t *testing.T) {
	r := newRegion(t, Config{ChunkSize: 2048, Chunks: 4})
	r.Memory()[3*2048] = 1
	c := r.NewCache()
	panics(t, func() {
		for range 4 {
			c.Get()
		}
	}, "frame 0x1800", "byte 0 while free", "freed at never")
}

func TestDoubleFree(t *testing.T) {
	r := newRegion(t, Config{ChunkSize: 2048, Chunks: 4, OnHeap: true})
	c := r.NewCache()
	a, _ := c.Get()
	c.Put(a)
	panics(t, func() { c.Put(a + 5) }, "freed while free", "TestDoubleFree")
}

func TestFreeLent(t *testing.T) {
	r := newRegion(t, Config{ChunkSize: 2048, Chunks: 4, OnHeap: true})
	c := r.NewCache()
	a, _ := c.Get()
	r.Move(a, Held, TX)
	panics(t, func() { c.Put(a) }, "freed while tx", "never")
	if !c.PutFrom(a, TX) || c.PutFrom(a, TX) {
		t.Error("what the kernel returns is not only counted")
	}
}

func TestFreeForeign(t *testing.T) {
	r := newRegion(t, Config{ChunkSize: 2048, Chunks: 4, OnHeap: true})
	panics(t, func() { r.NewCache().Put(4 * 2048) }, "address 0x2000 is outside the region of 8192 bytes")
}
