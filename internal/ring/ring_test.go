package ring

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// seeded returns a random source; the log has its seed, and AFXNET_TEST_SEED
// sets it.
func seeded(tb testing.TB) *rand.Rand {
	tb.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("AFXNET_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Logf("AFXNET_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// heapAt makes a ring whose indices start at start.
func heapAt(tb testing.TB, size, start uint32) Mem[uint64] {
	tb.Helper()
	m, err := Heap[uint64](size)
	if err != nil {
		tb.Fatal(err)
	}
	m.Prod.Store(start)
	m.Cons.Store(start)
	return m
}

// starts are indices whose neighbourhood is where arithmetic goes wrong.
var starts = []uint32{0, 1, 1<<31 - 3, 1 << 31, 1<<32 - 17, 1<<32 - 5, 1<<32 - 1}

func TestCheckSize(t *testing.T) {
	for _, test := range []struct {
		n  uint32
		ok bool
	}{
		{0, false}, {1, false}, {2, true}, {3, false}, {4, true}, {2048, true},
		{2049, false}, {1 << 30, true}, {1 << 31, false}, {1<<32 - 1, false},
	} {
		err := CheckSize(test.n)
		if (err == nil) != test.ok {
			t.Errorf("CheckSize(%d) = %v, want ok %v", test.n, err, test.ok)
		}
	}
	const want = "3 descriptors: a ring holds a power of two, 2 to 1073741824"
	if got := CheckSize(3).Error(); got != want {
		t.Errorf("CheckSize(3) = %q, want %q", got, want)
	}
	if _, err := Heap[uint64](3); err == nil {
		t.Error("Heap(3) succeeded")
	}
}

// TestExactlyFull fills a ring to the last slot and empties it, at every start.
func TestExactlyFull(t *testing.T) {
	for _, start := range starts {
		for _, size := range []uint32{2, 4, 16} {
			m := heapAt(t, size, start)
			p, c := NewProducer(m), NewConsumer(m)
			for round := range uint64(3) {
				if got := p.Free(size); got != size {
					t.Fatalf("start %#x: Free of an empty ring = %d, want %d", start, got, size)
				}
				if _, ok := p.Reserve(size + 1); ok {
					t.Fatalf("start %#x: reserved more than %d slots", start, size)
				}
				first, ok := p.Reserve(size)
				if !ok || p.Unsubmitted() != size {
					t.Fatalf("start %#x: Reserve = %v, %d unsubmitted", start, ok, p.Unsubmitted())
				}
				for i := range size {
					p.Set(first+i, round<<32|uint64(i))
				}
				if !c.Empty() {
					t.Fatalf("start %#x: not empty before Submit", start)
				}
				p.Submit()
				if c.Empty() || p.Pending() != size || p.Free(1) != 0 {
					t.Fatalf("start %#x: after Submit: Empty %v, Pending %d, Free %d", start, c.Empty(), p.Pending(), p.Free(1))
				}
				if _, ok := p.Reserve(1); ok {
					t.Fatalf("start %#x: reserved a slot of a full ring", start)
				}
				first, n := c.Peek(size + 7)
				if n != size {
					t.Fatalf("start %#x: Peek = %d, want %d", start, n, size)
				}
				for i := range n {
					if got, want := c.Get(first+i), round<<32|uint64(i); got != want {
						t.Fatalf("start %#x: entry %d = %#x, want %#x", start, i, got, want)
					}
				}
				if p.Free(1) != 0 {
					t.Fatalf("start %#x: slots are free before Release", start)
				}
				c.Release()
			}
			if p.Err() != nil || c.Err() != nil {
				t.Fatalf("start %#x: errors %v, %v", start, p.Err(), c.Err())
			}
		}
	}
}

func TestTakeOver(t *testing.T) {
	m := heapAt(t, 4, 1<<32-2)
	p := NewProducer(m)
	first, _ := p.Reserve(3)
	for i := range uint32(3) {
		p.Set(first+i, uint64(i)+1)
	}
	p.Submit()
	p = NewProducer(m) // knows nothing of the first one
	if got := p.Free(4); got != 1 {
		t.Errorf("Free of the second producer = %d, want 1", got)
	}
	c := NewConsumer(m)
	if at, n := c.Peek(1); n != 1 || c.Get(at) != 1 {
		t.Errorf("Peek(1) = %d entries, first %d", n, c.Get(at))
	}
	c.Release()
	c = NewConsumer(m)
	if at, n := c.Peek(4); n != 2 || c.Get(at) != 2 {
		t.Errorf("Peek of the second consumer = %d entries, first %d", n, c.Get(at))
	}
}

func TestNeedsWakeup(t *testing.T) {
	m := heapAt(t, 2, 0)
	p, c := NewProducer(m), NewConsumer(m)
	for _, flags := range []uint32{0, FlagNeedWakeup, ^uint32(FlagNeedWakeup), ^uint32(0)} {
		m.Flags.Store(flags)
		if want := flags&FlagNeedWakeup != 0; p.NeedsWakeup() != want || c.NeedsWakeup() != want {
			t.Errorf("flags %#x: producer %v, consumer %v", flags, p.NeedsWakeup(), c.NeedsWakeup())
		}
	}
}

// TestStaleCache holds both ends to looking at the peer's index only when the
// cached one does not suffice.
func TestStaleCache(t *testing.T) {
	m := heapAt(t, 8, 1<<32-3)
	p, c := NewProducer(m), NewConsumer(m)
	p.Reserve(8)
	p.Submit()
	if got := c.Available(1); got != 8 {
		t.Fatalf("Available(1) = %d, want 8", got)
	}
	m.Cons.Add(4) // the consumer of a simulated peer
	if got := p.Free(1); got != 4 {
		t.Fatalf("Free(1) = %d, want 4", got)
	}
	m.Cons.Add(4)
	if got := p.Free(4); got != 4 {
		t.Errorf("Free(4) looked although 4 were known: %d", got)
	}
	if got := p.Free(5); got != 8 {
		t.Errorf("Free(5) did not look: %d", got)
	}
}

func TestAllocs(t *testing.T) {
	m := heapAt(t, 64, 1<<32-100)
	p, c := NewProducer(m), NewConsumer(m)
	if n := testing.AllocsPerRun(100, func() {
		first, _ := p.Reserve(64)
		for i := range uint32(64) {
			p.Set(first+i, 1)
		}
		p.Submit()
		first, n := c.Peek(64)
		for i := range n {
			_ = c.Get(first + i)
		}
		c.Release()
		if p.Err() != nil || c.Err() != nil || p.Pending() != 0 || !c.Empty() {
			t.Error("ring is not empty")
		}
	}); n != 0 {
		t.Errorf("%v allocations per batch, want 0", n)
	}
}

// TestAllowBack lets the consumer give entries back: the producer goes on with
// what it knew. Further back, or without leave, is corruption as ever.
func TestAllowBack(t *testing.T) {
	for _, start := range starts {
		for _, test := range []struct {
			allow, back uint32
			ok          bool
		}{{3, 0, true}, {3, 1, true}, {3, 3, true}, {3, 4, false}, {0, 1, false}} {
			m := heapAt(t, 8, start)
			p, c := NewProducer(m), NewConsumer(m)
			p.AllowBack(test.allow)
			p.Reserve(8)
			p.Submit()
			c.Peek(5)
			c.Release()
			if free := p.Free(8); free != 5 {
				t.Fatalf("start %d: %d free, want 5", start, free)
			}
			m.Cons.Store(start + 5 - test.back)
			if free := p.Free(8); test.ok != (p.Err() == nil) || test.ok && free != 5 {
				t.Errorf("start %d, back by %d of %d: %d free, %v", start, test.back, test.allow, free, p.Err())
			}
			if !test.ok {
				continue
			}
			if pending := p.Pending(); pending != 3+test.back {
				t.Errorf("start %d: %d pending", start, pending)
			}
			m.Cons.Store(start + 8) // read again, and all else
			if free := p.Free(8); free != 8 || p.Err() != nil {
				t.Errorf("start %d: %d free afterwards, %v", start, free, p.Err())
			}
		}
	}
}
