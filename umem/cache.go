package umem

// cacheBatch is how many frames move between a cache and the central pool at
// once: 64 is the batch the data path works in, so that one lock covers it.
// In a small region it is less, so that one owner's cache does not keep what
// another one waits for: see NewCache.
const cacheBatch = 64

// cacheShare is the part of a region that is moved at once at most: with two
// batches kept, the two caches of a queue hold at most a quarter of it back.
const cacheShare = 16

// Cache is one owner's stock of free frames, in front of the region's central
// pool. One goroutine at a time may use it.
type Cache struct {
	r     *Region
	free  []Addr // stack
	batch int    // frames that move to or from the central pool at once
	high  int    // a Put that reaches it spills a batch
	stray uint64
}

// NewCache makes an empty cache that keeps up to about two batches of frames.
// Give its frames back with Drain before forgetting it.
func (r *Region) NewCache() *Cache {
	batch := min(cacheBatch, max(1, r.Chunks()/cacheShare))
	return &Cache{r: r, free: make([]Addr, 0, 3*batch), batch: batch, high: 2 * batch}
}

// Get takes a free frame and returns its start; it is Held then. ok is false if
// there is none in the cache and none in the pool.
func (c *Cache) Get() (a Addr, ok bool) { return c.GetFor(Held) }

// GetFor takes a free frame for a new owner: it is in state to then.
func (c *Cache) GetFor(to State) (a Addr, ok bool) {
	n := len(c.free) - 1
	if n < 0 {
		c.free = c.r.pool.take(c.free, c.batch)
		if n = len(c.free) - 1; n < 0 {
			return 0, false
		}
	}
	a = c.free[n]
	c.free = c.free[:n]
	c.r.debug.leave(c.r, a)
	c.r.state[c.r.number(a)] = to // what lies in a cache is a valid free frame
	return a, true
}

// Put frees the frame that a lies in, which must be Held. A frame that is not
// is kept out and counted: see Strays.
func (c *Cache) Put(a Addr) { c.PutFrom(a, Held) }

// PutFrom frees a frame that is in state from: a completion goes from TX to
// Free. ok tells whether it was.
func (c *Cache) PutFrom(a Addr, from State) (ok bool) {
	if !c.r.Move(a, from, Free) {
		c.stray++
		if from == Held {
			c.r.debug.stray(c.r, a)
		}
		return false
	}
	a = c.r.Frame(a)
	c.r.debug.enter(c.r, a)
	if len(c.free) >= c.high {
		c.spill()
	}
	c.free = append(c.free, a)
	return true
}

// spill gives a batch to the central pool. The oldest frames go: the youngest
// are hot in the CPU's cache.
func (c *Cache) spill() {
	c.r.pool.give(c.free[:c.batch])
	c.free = c.free[:copy(c.free, c.free[c.batch:])]
}

// Available makes sure that Get succeeds n times if the pool allows, and
// returns how often it will.
func (c *Cache) Available(n int) int {
	for len(c.free) < n {
		had := len(c.free)
		if c.free = c.r.pool.take(c.free, max(n-had, c.batch)); len(c.free) == had {
			break
		}
	}
	return len(c.free)
}

// Drain gives every frame back to the central pool.
func (c *Cache) Drain() {
	c.r.pool.give(c.free)
	c.free = c.free[:0]
}

// Strays returns how many frames were not in the state in which they came back.
func (c *Cache) Strays() uint64 { return c.stray }
