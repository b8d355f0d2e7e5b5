package umem

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// model is what a region and its caches should do: who owns which frame.
type model struct {
	t      *testing.T
	rng    *rand.Rand
	r      *Region
	caches []*Cache
	state  map[Addr]State // those not Free
	strays uint64
}

func TestCacheModel(t *testing.T) {
	rng := seeded(t)
	for _, chunks := range []int{4, 64, 65, 500} {
		t.Run(fmt.Sprintf("chunks=%d", chunks), func(t *testing.T) {
			m := &model{t: t, rng: rng, state: make(map[Addr]State)}
			m.r = newRegion(t, Config{ChunkSize: 2048, Chunks: chunks, OnHeap: true})
			for range 3 {
				m.caches = append(m.caches, m.r.NewCache())
			}
			for step := range 600 {
				op := m.step()
				m.check(fmt.Sprintf("step %d, %s", step, op))
			}
			for _, a := range slices.Collect(maps.Keys(m.state)) {
				m.caches[0].PutFrom(a, m.state[a])
			}
			for _, c := range m.caches {
				c.Drain()
			}
			if got, want := m.r.Audit(), (Audit{Free: chunks, Pooled: chunks}); got != want {
				t.Errorf("at the end: %+v, want %+v", got, want)
			}
		})
	}
}

// pick returns a frame in state s, at any place inside it.
func (m *model) pick(s State) (a Addr, ok bool) {
	var all []Addr
	for a, in := range m.state {
		if in == s {
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		return 0, false
	}
	slices.Sort(all) // so that a seed gives the same run
	return all[m.rng.IntN(len(all))], true
}

func (m *model) inside(a Addr) Addr { return a + Addr(m.rng.IntN(m.r.ChunkSize())) }

func (m *model) step() string {
	c := m.caches[m.rng.IntN(len(m.caches))]
	switch m.rng.IntN(12) {
	case 0, 1, 2, 3:
		for range m.rng.IntN(200) {
			a, ok := c.Get()
			if !ok {
				break
			}
			if m.state[a] != Free || a != m.r.Frame(a) {
				m.t.Fatalf("Get gave %#x, which is %v", a, m.state[a])
			}
			m.state[a] = Held
		}
		return "Get"
	case 4, 5, 6:
		for range m.rng.IntN(200) {
			if a, ok := m.pick(Held); ok {
				c.Put(m.inside(a))
				delete(m.state, a)
			}
		}
		return "Put"
	case 7:
		for range m.rng.IntN(50) {
			to := []State{Fill, TX}[m.rng.IntN(2)]
			if a, ok := m.pick(Held); ok {
				if !m.r.Move(m.inside(a), Held, to) {
					m.t.Fatalf("Move of %#x failed", a)
				}
				m.state[a] = to
			}
		}
		return "Move"
	case 8:
		for range m.rng.IntN(50) {
			from := []State{Fill, TX}[m.rng.IntN(2)]
			if a, ok := m.pick(from); ok {
				if !c.PutFrom(m.inside(a), from) {
					m.t.Fatalf("PutFrom(%#x, %v) failed", a, from)
				}
				delete(m.state, a)
			}
		}
		return "PutFrom"
	case 9:
		c.Drain()
		return "Drain"
	case 10:
		n := m.rng.IntN(300)
		free := m.r.Chunks() - len(m.state)
		if got := c.Available(n); got > free || got < min(n, len(c.free)) {
			m.t.Fatalf("Available(%d) = %d with %d free", n, got, free)
		}
		return "Available"
	default: // a frame that comes back wrongly
		a := Addr(m.rng.IntN(2*m.r.Chunks()) * m.r.ChunkSize())
		if m.rng.IntN(8) == 0 {
			a = ^Addr(0) - Addr(m.rng.IntN(5000))
		}
		from := []State{Fill, TX}[m.rng.IntN(2)]
		if m.state[m.r.Frame(a)] == from {
			return "nothing"
		}
		if c.PutFrom(a, from) {
			m.t.Fatalf("PutFrom(%#x, %v) took it, it is %v", a, from, m.state[m.r.Frame(a)])
		}
		m.strays++
		return "stray"
	}
}

func (m *model) check(when string) {
	m.t.Helper()
	var want Audit
	for _, s := range m.state {
		switch s {
		case Held:
			want.Held++
		case Fill:
			want.Fill++
		case TX:
			want.TX++
		}
	}
	want.Free = m.r.Chunks() - len(m.state)
	want.Pooled = want.Free
	var strays uint64
	for _, c := range m.caches {
		want.Pooled -= len(c.free)
		strays += c.Strays()
	}
	got := m.r.Audit()
	if got != want || got.Chunks() != m.r.Chunks() || strays != m.strays {
		m.t.Fatalf("%s: %+v, want %+v; %d strays, want %d", when, got, want, strays, m.strays)
	}
}

// TestCacheBounds holds a cache to its marks: it takes what it needs and keeps
// no more than two batches, with the youngest frames on top.
func TestCacheBounds(t *testing.T) {
	r := newRegion(t, Config{ChunkSize: 2048, Chunks: 1000, OnHeap: true})
	c := r.NewCache()
	var held []Addr
	for range 600 {
		a, ok := c.Get()
		if !ok {
			t.Fatal("Get failed")
		}
		held = append(held, a)
	}
	for i, a := range held {
		c.Put(a)
		if len(c.free) > 2*c.batch {
			t.Fatalf("after %d frees the cache keeps %d frames", i+1, len(c.free))
		}
	}
	if a, _ := c.Get(); a != held[len(held)-1] {
		t.Errorf("Get = %#x, want the last freed, %#x", a, held[len(held)-1])
	}
	if got := c.Available(700); got != 700 {
		t.Errorf("Available(700) = %d", got)
	}
	if got := c.Available(2000); got != 999 {
		t.Errorf("Available(2000) = %d, want all 999", got)
	}
}

// TestCacheLeavesRest holds the cache of a small region to not emptying the pool
// for one frame.
func TestCacheLeavesRest(t *testing.T) {
	for _, chunks := range []int{4, 16, 32, 64, 256, 2048} {
		r := newRegion(t, Config{ChunkSize: 2048, Chunks: chunks, OnHeap: true})
		c := r.NewCache()
		c.Get()
		if left := r.Audit().Pooled; left < chunks*3/4 {
			t.Errorf("%d chunks: one Get leaves %d in the pool", chunks, left)
		}
	}
}

func TestCacheExhausted(t *testing.T) {
	r := newRegion(t, Config{ChunkSize: 2048, Chunks: 4, OnHeap: true})
	c, other := r.NewCache(), r.NewCache()
	seen := make(map[Addr]bool)
	for range 4 {
		a, ok := c.Get()
		if !ok || seen[a] || a%2048 != 0 {
			t.Fatalf("Get = %#x, %v", a, ok)
		}
		seen[a] = true
	}
	if _, ok := c.Get(); ok {
		t.Error("Get gave a fifth frame")
	}
	if n := other.Available(1); n != 0 {
		t.Errorf("another cache has %d", n)
	}
	c.Put(0)
	if _, ok := other.Get(); ok {
		t.Error("Get took from another's cache")
	}
	c.Drain()
	if _, ok := other.Get(); !ok {
		t.Error("Get failed after Drain")
	}
}

// TestOwnersInParallel lets several goroutines, one cache each, share a region.
func TestOwnersInParallel(t *testing.T) {
	r := newRegion(t, Config{ChunkSize: 2048, Chunks: 512, OnHeap: true})
	seed := seeded(t).Uint64()
	var wg sync.WaitGroup
	for owner := range uint64(4) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, owner))
			c := r.NewCache()
			defer c.Drain()
			var held []Addr
			for range 150 {
				for range rng.IntN(60) {
					if a, ok := c.Get(); ok {
						r.Chunk(a)[0] = byte(owner)
						held = append(held, a)
					}
				}
				for range rng.IntN(len(held) + 1) {
					a := held[0]
					if got := r.Chunk(a)[0]; got != byte(owner) {
						t.Errorf("frame %#x of owner %d was written by %d", a, owner, got)
					}
					held = held[1:]
					c.Put(a)
				}
			}
			for _, a := range held {
				c.Put(a)
			}
			if c.Strays() != 0 {
				t.Errorf("owner %d: %d strays", owner, c.Strays())
			}
		})
	}
	wg.Wait()
	if got, want := r.Audit(), (Audit{Free: 512, Pooled: 512}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestCacheAllocs(t *testing.T) {
	if debugging {
		t.Skip("xskdebug keeps a stack per frame")
	}
	r := newRegion(t, Config{ChunkSize: 2048, Chunks: 1024, OnHeap: true})
	c := r.NewCache()
	held := make([]Addr, 0, 300)
	if n := testing.AllocsPerRun(50, func() {
		for range cap(held) {
			a, _ := c.Get()
			held = append(held, a)
		}
		for _, a := range held {
			c.Put(a)
		}
		held = held[:0]
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestStateString(t *testing.T) {
	for s, want := range map[State]string{Free: "free", Held: "held", Fill: "fill", TX: "tx", 9: "state 9"} {
		if got := s.String(); got != want {
			t.Errorf("State(%d) = %q, want %q", s, got, want)
		}
	}
}

// BenchmarkCache takes and frees frames: inside the cache, and through the
// central pool.
func BenchmarkCache(b *testing.B) {
	for _, batch := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			r := newRegion(b, Config{ChunkSize: 2048, OnHeap: true})
			c := r.NewCache()
			held := make([]Addr, batch)
			b.ReportAllocs()
			for b.Loop() {
				for i := range held {
					held[i], _ = c.Get()
				}
				for _, a := range held {
					c.Put(a)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch), "ns/frame")
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	r := newRegion(b, Config{ChunkSize: 2048, Chunks: 64, OnHeap: true})
	d := Desc{Addr: 2048 + 256, Len: 1500}
	n := 0
	for b.Loop() {
		if r.Check(d) {
			n++
		}
	}
	if n == 0 {
		b.Fatal("Check refused a good descriptor")
	}
}
