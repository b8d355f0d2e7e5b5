package umem

import (
	"slices"
	"testing"
)

// TestUnaligned looks at the chunks of a region whose chunk size is no power of
// two, at their borders.
func TestUnaligned(t *testing.T) {
	for _, size := range []int{2048, 2112, 3072, 3520, 4032} {
		const chunks = 40
		r := newRegion(t, Config{ChunkSize: size, Chunks: chunks, OnHeap: true, Unaligned: true})
		if !r.Unaligned() || r.MaxPacket() != size-KernelHeadroom {
			t.Errorf("chunks of %d: unaligned %v, MaxPacket %d", size, r.Unaligned(), r.MaxPacket())
		}
		for i := range chunks {
			first := Addr(i * size)
			for _, a := range []Addr{first, first + 1, first + Addr(size) - 1} {
				if r.Frame(a) != first || r.Index(a) != i || &r.Chunk(a)[0] != &r.Memory()[first] || len(r.Chunk(a)) != size {
					t.Errorf("chunks of %d: address %d: frame %d, index %d", size, a, r.Frame(a), r.Index(a))
				}
			}
			if !r.Check(Desc{Addr: first, Len: uint32(size)}) || r.Check(Desc{Addr: first + 1, Len: uint32(size)}) {
				t.Errorf("chunks of %d: Check at chunk %d", size, i)
			}
		}
		if r.Index(Addr(chunks*size)) < chunks || r.Index(^Addr(0)) < chunks {
			t.Errorf("chunks of %d: an address outside has a number", size)
		}
		if got := r.Resolve(320<<48 | Addr(size)); got != Addr(size)+320 {
			t.Errorf("Resolve = %#x", got)
		}
		c := r.NewCache()
		var all []Addr
		for a, ok := c.Get(); ok; a, ok = c.Get() {
			all = append(all, a)
		}
		slices.Sort(all)
		if len(all) != chunks || all[1] != Addr(size) || len(slices.Compact(all)) != chunks {
			t.Errorf("chunks of %d: frames at %v", size, all)
		}
		for _, a := range all {
			c.Put(a + 100)
		}
		if a := r.Audit(); a.Free != chunks || c.Strays() != 0 {
			t.Errorf("chunks of %d: %+v, %d strays", size, a, c.Strays())
		}
	}
	if r := newRegion(t, Config{Chunks: 4, OnHeap: true}); r.Resolve(320<<48) != 320<<48 {
		t.Error("Resolve changes the address of aligned chunks")
	}
}

// TestUnusedChunks leaves out what straddles two huge pages, and nothing else.
func TestUnusedChunks(t *testing.T) {
	const size, chunks = 3072, 3 * hugePageSize / 3072
	r := newRegion(t, Config{ChunkSize: size, Chunks: chunks, OnHeap: true, Unaligned: true})
	r.huge = true // as if they were
	r.pool.fill(r)
	if a := r.Audit(); a.Unused != 2 || a.Free != chunks-2 || a.Pooled != chunks-2 || a.Chunks() != chunks {
		t.Errorf("%+v", a)
	}
	for _, a := range r.pool.free {
		if a/hugePageSize != (a+size-1)/hugePageSize {
			t.Errorf("frame %d straddles two huge pages", a)
		}
	}
	if Unused.String() != "unused" {
		t.Error(Unused)
	}
}
