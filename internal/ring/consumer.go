package ring

import "sync/atomic"

// Consumer is our end of a completion or an RX ring; the kernel produces.
type Consumer[T any] struct {
	consumerIndex
	slots []T // shared; len is a power of two
}

// consumerIndex is what does not depend on the type of the entries; see
// producerIndex.
type consumerIndex struct {
	prod  *atomic.Uint32 // shared; written only by the kernel
	cons  *atomic.Uint32 // shared; written only by us
	flags *atomic.Uint32 // shared; written only by the kernel
	size  uint32         // number of slots
	next  uint32         // first entry not yet peeked; local until Release
	limit uint32         // last prod seen; next never passes it
	err   error          // ErrCorrupt, sticky
}

// NewConsumer returns the consuming end of m, starting at the shared index.
func NewConsumer[T any](m Mem[T]) Consumer[T] {
	next := m.Cons.Load()
	return Consumer[T]{slots: m.Slots, consumerIndex: consumerIndex{
		prod: m.Prod, cons: m.Cons, flags: m.Flags, size: uint32(len(m.Slots)),
		next: next, limit: next,
	}}
}

// Get returns a copy of the entry at index i, which must be peeked. Read an
// entry once and check the copy: the memory is shared.
func (c *Consumer[T]) Get(i uint32) T { return c.slots[i&(uint32(len(c.slots))-1)] }

// Len returns the number of slots.
func (c *consumerIndex) Len() uint32 { return c.size }

// Available returns how many entries can be peeked, at least want if there are
// that many; it reads the kernel's index only if the cached one does not
// suffice.
func (c *consumerIndex) Available(want uint32) uint32 {
	if n := c.limit - c.next; n >= want {
		return n
	}
	return c.refresh()
}

// refresh reads the kernel's index and returns the entries to peek. Kept out of
// its callers, it leaves them small enough to be inlined.
//
//go:noinline
func (c *consumerIndex) refresh() uint32 {
	if c.err != nil {
		return 0
	}
	limit := c.prod.Load() // (C)
	if n := limit - c.next; n > c.size || n < c.limit-c.next {
		c.err = ErrCorrupt
		c.limit = c.next
		return 0
	}
	c.limit = limit
	return c.limit - c.next
}

// Peek claims up to n entries starting at index first. They stay readable
// through Get until Release.
func (c *consumerIndex) Peek(n uint32) (first, got uint32) {
	if avail := c.Available(n); avail < n {
		n = avail
	}
	first = c.next
	c.next += n
	return first, n
}

// Cancel gives back the last n entries peeked and not yet released.
func (c *consumerIndex) Cancel(n uint32) {
	c.next -= n
	if c.err != nil {
		c.limit = c.next // they are not offered again
	}
}

// Release gives every peeked slot back to the kernel: one store per batch.
func (c *consumerIndex) Release() { c.cons.Store(c.next) } // (D)

// Empty looks at the shared index: it is how a poller asks once more before it
// sleeps. After corruption it is true: there will be nothing to stay awake for.
func (c *consumerIndex) Empty() bool {
	return c.limit == c.next && (c.err != nil || c.prod.Load() == c.next) // (C)
}

// Waiting returns how many entries there are that have not been released, by the shared
// indices. Any goroutine may call it; what it says may be over already, and is of
// no use for more after corruption.
func (c *consumerIndex) Waiting() uint32 { return c.prod.Load() - c.cons.Load() }

// NeedsWakeup tells whether the kernel asks for a system call.
func (c *consumerIndex) NeedsWakeup() bool { return c.flags.Load()&FlagNeedWakeup != 0 }

// Err returns ErrCorrupt once the kernel's index has been impossible.
func (c *consumerIndex) Err() error { return c.err }
