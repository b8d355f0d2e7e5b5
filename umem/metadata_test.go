package umem

import (
	"math/rand/v2"
	"testing"
)

// TestMetadata holds the bytes before a packet to its chunk.
func TestMetadata(t *testing.T) {
	const chunk, chunks, size = 3072, 8, 40
	for _, unaligned := range []bool{false, true} {
		cfg := Config{ChunkSize: 2048, Chunks: chunks, OnHeap: true, TXMetadata: size, Unaligned: unaligned}
		if unaligned {
			cfg.ChunkSize = chunk
		}
		r := newRegion(t, cfg)
		if r.TXMetadata() != size || r.MaxTXFrame() != cfg.ChunkSize-size {
			t.Errorf("TXMetadata %d, MaxTXFrame %d", r.TXMetadata(), r.MaxTXFrame())
		}
		for range 2000 {
			a := Addr(rand.Uint64N(uint64(len(r.mem)) + 100))
			if rand.IntN(8) == 0 {
				a = ^a
			}
			offset := a % Addr(cfg.ChunkSize)
			inside := a < Addr(len(r.mem))
			room := inside && offset >= size
			b := r.MetadataBefore(a)
			if (b != nil) != room || room && (len(b) != size || cap(b) != size || &b[size-1] != &r.mem[a-1]) {
				t.Fatalf("MetadataBefore(%#x): %d bytes", uint64(a), len(b))
			}
			if got, want := r.CheckTX(Desc{Addr: a, Len: 1}), room; got != want {
				t.Fatalf("CheckTX(%#x) = %v", uint64(a), got)
			}
			if longest := Addr(cfg.ChunkSize) - offset; room && (!r.CheckTX(Desc{Addr: a, Len: uint32(longest)}) || r.CheckTX(Desc{Addr: a, Len: uint32(longest) + 1})) {
				t.Fatalf("CheckTX(%#x): %d bytes must pass, one more must not", uint64(a), longest)
			}
		}
	}
	r := newRegion(t, Config{ChunkSize: 2048, Chunks: chunks, OnHeap: true, TXMetadata: size})
	for _, a := range []Addr{size, 2048 + 2047, 7*2048 + 100} {
		r.SetAnswer(a, true)
		for _, other := range []Addr{0, a - 1, a - a%2048, a + 2048, 8*2048 + a, ^Addr(0), a | 1<<63} {
			if r.TakeAnswer(other) != nil {
				t.Errorf("an answer at %#x, want it at %#x", uint64(other), uint64(a))
			}
		}
		if b := r.TakeAnswer(a); len(b) != size || &b[size-1] != &r.mem[a-1] {
			t.Errorf("%#x: %d bytes", uint64(a), len(b))
		}
		if r.TakeAnswer(a) != nil {
			t.Errorf("%#x: a second answer", uint64(a))
		}
		r.SetAnswer(a, true)
		r.SetAnswer(a-a%2048+size, false)
		if r.TakeAnswer(a) != nil {
			t.Errorf("%#x: an answer for the packet before", uint64(a))
		}
	}
	r = newRegion(t, Config{ChunkSize: 2048, Chunks: chunks, OnHeap: true})
	if r.MetadataBefore(500) != nil || r.TakeAnswer(500) != nil || !r.CheckTX(Desc{Addr: 0, Len: 2048}) || r.MaxTXFrame() != 2048 {
		t.Error("a region without metadata has some")
	}
}
