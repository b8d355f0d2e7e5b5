package umem

import (
	"fmt"
	"os"
	"testing"
)

func TestConfig(t *testing.T) {
	page := os.Getpagesize()
	for _, test := range []struct {
		name string
		cfg  Config
		want string // the error; empty for none
	}{
		{"zero", Config{}, ""},
		{"2048", Config{ChunkSize: 2048, Chunks: 4}, ""},
		{"most headroom", Config{ChunkSize: 2048, Headroom: 2048 - 256 - 64}, ""},
		{"most chunks", Config{Chunks: 1 << 24}, ""},
		{"chunk negative", Config{ChunkSize: -2048}, fmt.Sprintf("umem: Config.ChunkSize: -2048 bytes: a power of two from 2048 to the page size, %d", page)},
		{"chunk not a power", Config{ChunkSize: 3000}, fmt.Sprintf("umem: Config.ChunkSize: 3000 bytes: a power of two from 2048 to the page size, %d", page)},
		{"chunk small", Config{ChunkSize: 1024}, fmt.Sprintf("umem: Config.ChunkSize: 1024 bytes: a power of two from 2048 to the page size, %d", page)},
		{"chunk above page", Config{ChunkSize: 2 * page}, fmt.Sprintf("umem: Config.ChunkSize: %d bytes: a power of two from 2048 to the page size, %d", 2*page, page)},
		{"unaligned", Config{ChunkSize: 3072, Unaligned: true}, ""},
		{"unaligned power", Config{ChunkSize: 4096, Unaligned: true}, ""},
		{"unaligned odd", Config{ChunkSize: 3000, Unaligned: true}, fmt.Sprintf("umem: Config.ChunkSize: 3000 bytes, unaligned: a multiple of 64 from 2048 to the page size, %d", page)},
		{"unaligned small", Config{ChunkSize: 1984, Unaligned: true}, fmt.Sprintf("umem: Config.ChunkSize: 1984 bytes, unaligned: a multiple of 64 from 2048 to the page size, %d", page)},
		{"node", Config{Node: -3}, "umem: Config.Node: node -4: from 0 to 1023"},
		{"far node", Config{Node: OnNode(1024)}, "umem: Config.Node: node 1024: from 0 to 1023"},
		{"node of the heap", Config{OnHeap: true, Node: OnNode(0)}, "umem: Config.Node: the Go heap (Config.OnHeap) is on none"},
		{"few chunks", Config{Chunks: 3}, "umem: Config.Chunks: 3: from 4 to 16777216"},
		{"negative chunks", Config{Chunks: -1}, "umem: Config.Chunks: -1: from 4 to 16777216"},
		{"many chunks", Config{Chunks: 1<<24 + 1}, "umem: Config.Chunks: 16777217: from 4 to 16777216"},
		{"negative headroom", Config{Headroom: -1}, "umem: Config.Headroom: -1 bytes: from 0 to 3776 in a chunk of 4096"},
		{"much headroom", Config{ChunkSize: 2048, Headroom: 1729}, "umem: Config.Headroom: 1729 bytes: from 0 to 1728 in a chunk of 2048"},
		{"least metadata", Config{TXMetadata: 32}, ""},
		{"most metadata", Config{ChunkSize: 2048, TXMetadata: 248}, ""},
		{"little metadata", Config{TXMetadata: 24}, "umem: Config.TXMetadata: 24 bytes: a multiple of 8 from 32 to 248"},
		{"much metadata", Config{TXMetadata: 256}, "umem: Config.TXMetadata: 256 bytes: a multiple of 8 from 32 to 248"},
		{"odd metadata", Config{TXMetadata: 36}, "umem: Config.TXMetadata: 36 bytes: a multiple of 8 from 32 to 248"},
		{"negative metadata", Config{TXMetadata: -8}, "umem: Config.TXMetadata: -8 bytes: a multiple of 8 from 32 to 248"},
		{"huge pages", Config{HugePages: 3}, "umem: Config.HugePages: 3: no such choice"},
		{"huge heap", Config{OnHeap: true, HugePages: HugePagesRequire}, "umem: Config.HugePages: the Go heap (Config.OnHeap) has none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg, err := test.cfg.withDefaults()
			if got := fmt.Sprint(err); test.want != "" && got != test.want {
				t.Errorf("withDefaults: %s, want %s", got, test.want)
			} else if test.want == "" && err != nil {
				t.Errorf("withDefaults: %v", err)
			}
			if test.want == "" && (cfg.ChunkSize == 0 || cfg.Chunks == 0) {
				t.Errorf("withDefaults left zeros: %+v", cfg)
			}
			if test.want != "" {
				if r, err := New(test.cfg); err == nil || r != nil {
					t.Errorf("New = %v, %v", r, err)
				}
			}
		})
	}
}

func TestNewDefaults(t *testing.T) {
	r := newRegion(t, Config{OnHeap: true})
	if r.ChunkSize() != 4096 || r.Chunks() != 4096 || r.Headroom() != 0 || len(r.Memory()) != 4096*4096 || !r.OnHeap() {
		t.Errorf("%d chunks of %d, headroom %d, %d bytes, heap %v", r.Chunks(), r.ChunkSize(), r.Headroom(), len(r.Memory()), r.OnHeap())
	}
	if got, want := r.Audit(), (Audit{Free: 4096, Pooled: 4096}); got != want {
		t.Errorf("Audit = %+v, want %+v", got, want)
	}
	if on, err := r.HugePages(); on || err != nil {
		t.Errorf("HugePages = %v, %v", on, err)
	}
}

func TestHugePagesTryOnHeap(t *testing.T) {
	r := newRegion(t, Config{Chunks: 4, OnHeap: true, HugePages: HugePagesTry})
	if on, err := r.HugePages(); on || err == nil {
		t.Errorf("HugePages = %v, %v: want the reason why not", on, err)
	}
}

func TestCloseIdempotent(t *testing.T) {
	for _, onHeap := range []bool{false, true} {
		r, err := New(Config{Chunks: 4, OnHeap: onHeap})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := r.Close(); err != nil {
				t.Errorf("heap %v: Close: %v", onHeap, err)
			}
		}
		if r.Memory() != nil || r.Check(Desc{Len: 1}) || r.Bytes(Desc{Len: 1}) != nil || r.Chunk(0) != nil {
			t.Errorf("heap %v: memory is reachable after Close", onHeap)
		}
	}
}
