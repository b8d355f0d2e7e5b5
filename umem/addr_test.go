package umem

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
)

func TestCheck(t *testing.T) {
	const chunk, chunks = 2048, 8
	r := newRegion(t, Config{ChunkSize: chunk, Chunks: chunks, OnHeap: true})
	const end = Addr(chunk * chunks)
	for _, test := range []struct {
		name string
		d    Desc
		want bool
	}{
		{"first byte", Desc{Addr: 0, Len: 1}, true},
		{"whole chunk", Desc{Addr: 0, Len: chunk}, true},
		{"to the end of a chunk", Desc{Addr: chunk + 256, Len: chunk - 256}, true},
		{"last byte of a chunk", Desc{Addr: chunk - 1, Len: 1}, true},
		{"last chunk", Desc{Addr: end - chunk, Len: chunk}, true},
		{"last byte", Desc{Addr: end - 1, Len: 1}, true},
		{"options do not matter", Desc{Addr: 5, Len: 5, Options: ^uint32(0)}, true},

		{"nothing", Desc{}, false},
		{"nothing inside", Desc{Addr: 300, Len: 0}, false},
		{"nothing at the end", Desc{Addr: end, Len: 0}, false},
		{"across two chunks", Desc{Addr: chunk - 1, Len: 2}, false},
		{"one more than a chunk", Desc{Addr: 0, Len: chunk + 1}, false},
		{"all chunks", Desc{Addr: 0, Len: chunk * chunks}, false},
		{"over the end", Desc{Addr: end - 1, Len: 2}, false},
		{"at the end", Desc{Addr: end, Len: 1}, false},
		{"beyond", Desc{Addr: 1 << 40, Len: 64}, false},
		{"longest", Desc{Addr: 0, Len: ^uint32(0)}, false},
		{"last address", Desc{Addr: ^Addr(0), Len: 1}, false},
		{"wraps to 0", Desc{Addr: ^Addr(0), Len: 2}, false},
		{"wraps into chunk 0", Desc{Addr: ^Addr(0) - 9, Len: 64}, false},
		{"wraps from the last chunk", Desc{Addr: ^Addr(0) - 2047, Len: ^uint32(0)}, false},
		{"unaligned-mode offset", Desc{Addr: 256<<48 | 64, Len: 64}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := r.Check(test.d); got != test.want {
				t.Errorf("Check(%+v) = %v", test.d, got)
			}
			b := r.Bytes(test.d)
			if (b != nil) != test.want {
				t.Errorf("Bytes(%+v): %d bytes", test.d, len(b))
			}
			if test.want && (len(b) != int(test.d.Len) || cap(b) != len(b)) {
				t.Errorf("Bytes(%+v): len %d, cap %d", test.d, len(b), cap(b))
			}
		})
	}
}

// TestBytes holds Bytes and Chunk to the right bytes, and append to its own
// memory.
func TestBytes(t *testing.T) {
	const chunk = 2048
	r := newRegion(t, Config{ChunkSize: chunk, Chunks: 4, OnHeap: true})
	mem := r.Memory()
	for i := range mem {
		mem[i] = byte(i / chunk)
	}
	want := bytes.Clone(mem)
	b := r.Bytes(Desc{Addr: chunk + 10, Len: 20})
	if &b[0] != &mem[chunk+10] {
		t.Error("Bytes starts elsewhere")
	}
	_ = append(b, 99)
	c := r.Chunk(2*chunk + 77)
	if &c[0] != &mem[2*chunk] || len(c) != chunk || cap(c) != chunk {
		t.Errorf("Chunk: %d bytes, cap %d", len(c), cap(c))
	}
	_ = append(c, 99)
	if !bytes.Equal(mem, want) {
		t.Error("append wrote into the region")
	}
	for _, a := range []Addr{4 * chunk, 1 << 50, ^Addr(0)} {
		if r.Chunk(a) != nil {
			t.Errorf("Chunk(%#x) is inside", a)
		}
	}
	if got := r.Frame(3*chunk + 2047); got != 3*chunk {
		t.Errorf("Frame = %#x", got)
	}
}

func TestMaxPacket(t *testing.T) {
	for _, test := range []struct{ chunk, headroom, want int }{
		{2048, 0, 1792}, {4096, 0, 3840}, {2048, 128, 1664}, {2048, 1728, 64},
	} {
		r := newRegion(t, Config{ChunkSize: test.chunk, Chunks: 4, Headroom: test.headroom, OnHeap: true})
		if got := r.MaxPacket(); got != test.want {
			t.Errorf("chunk %d headroom %d: MaxPacket = %d, want %d", test.chunk, test.headroom, got, test.want)
		}
	}
}

// FuzzCheck compares Check with the rule in plain words, and Bytes with both.
func FuzzCheck(f *testing.F) {
	f.Add(uint64(0), uint32(0))
	f.Add(uint64(2047), uint32(2))
	f.Add(^uint64(0), uint32(2))
	f.Add(uint64(15<<11), uint32(2048))
	f.Add(uint64(1<<32), ^uint32(0))
	const chunks = 16
	aligned, err := New(Config{ChunkSize: 2048, Chunks: chunks, OnHeap: true})
	if err != nil {
		f.Fatal(err)
	}
	unaligned, err := New(Config{ChunkSize: 2112, Chunks: chunks, OnHeap: true, Unaligned: true})
	if err != nil {
		f.Fatal(err)
	}
	check := func(t *testing.T, r *Region, addr uint64, n uint32) {
		chunk := uint64(r.ChunkSize())
		for _, addr := range []uint64{addr, addr % (chunk*chunks + 3)} {
			for _, n := range []uint32{n, n % uint32(chunk+3)} {
				d := Desc{Addr: Addr(addr), Len: n}
				inChunk := addr%chunk + uint64(n)
				want := n > 0 && addr < chunk*chunks && inChunk <= chunk
				if got := r.Check(d); got != want {
					t.Fatalf("Check(%+v) = %v, want %v", d, got, want)
				}
				if b := r.Bytes(d); (b != nil) != want || want && (len(b) != int(n) || cap(b) != int(n)) {
					t.Fatalf("Bytes(%+v): len %d, cap %d", d, len(b), cap(b))
				}
				if c := r.Chunk(d.Addr); (c != nil) != (addr < chunk*chunks) {
					t.Fatalf("Chunk(%#x): %d bytes", addr, len(c))
				}
				if r.Move(d.Addr, Held, TX) {
					t.Fatalf("Move(%#x) of a frame that is not held", addr)
				}
				if got, inside := r.Index(d.Addr), addr < chunk*chunks; inside && got != int(addr/chunk) || !inside && got < chunks {
					t.Fatalf("Index(%#x) = %d", addr, got)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, addr uint64, n uint32) {
		check(t, aligned, addr, n)
		check(t, unaligned, addr, n)
	})
}

// TestDescLayout compares Desc with struct xdp_desc: __u64, __u32, __u32.
func TestDescLayout(t *testing.T) {
	d := reflect.TypeFor[Desc]()
	if d.Size() != 16 || binary.Size(Desc{}) != 16 || d.Field(1).Offset != 8 || d.Field(2).Offset != 12 {
		t.Errorf("Desc has %d bytes, Len at %d, Options at %d", d.Size(), d.Field(1).Offset, d.Field(2).Offset)
	}
}
