package ring

import "sync/atomic"

// Producer is our end of a fill or a TX ring; the kernel consumes.
type Producer[T any] struct {
	producerIndex
	slots []T // shared; len is a power of two
}

// producerIndex is what does not depend on the type of the entries: the
// compiler inlines its methods, but not those that need a type dictionary.
type producerIndex struct {
	prod  *atomic.Uint32 // shared; written only by us
	cons  *atomic.Uint32 // shared; written only by the kernel
	flags *atomic.Uint32 // shared; written only by the kernel
	size  uint32         // number of slots
	next  uint32         // first slot not yet reserved; local until Submit
	limit uint32         // last cons seen + size; next never passes it
	back  uint32         // entries that cons may fall back by
	err   error          // ErrCorrupt, sticky
}

// NewProducer returns the producing end of m. It starts at the shared index,
// so a ring that was in use may be taken over.
func NewProducer[T any](m Mem[T]) Producer[T] {
	next := m.Prod.Load()
	return Producer[T]{slots: m.Slots, producerIndex: producerIndex{
		prod: m.Prod, cons: m.Cons, flags: m.Flags, size: uint32(len(m.Slots)),
		next: next, limit: next, // limit == next: the first Free looks at cons
	}}
}

// Set writes the entry at index i, which must be reserved and not submitted.
func (p *Producer[T]) Set(i uint32, v T) { p.slots[i&(uint32(len(p.slots))-1)] = v }

// Len returns the number of slots.
func (p *producerIndex) Len() uint32 { return p.size }

// Free returns how many slots can be reserved, at least want if that many are
// free; it reads the kernel's index only if the cached one does not suffice.
func (p *producerIndex) Free(want uint32) uint32 {
	if n := p.limit - p.next; n >= want {
		return n
	}
	return p.refresh()
}

// refresh reads the kernel's index and returns the free slots. Kept out of its
// callers, it leaves them small enough to be inlined.
//
//go:noinline
func (p *producerIndex) refresh() uint32 {
	if p.err != nil {
		return 0
	}
	limit := p.cons.Load() + p.size // (A)
	if p.limit-limit-1 < p.back {
		return p.limit - p.next // given back to be read again
	}
	if free := limit - p.next; free > p.size || free < p.limit-p.next {
		// cons ran ahead of prod, or fell back behind what it was.
		p.corrupt()
		return 0
	}
	p.limit = limit
	return p.limit - p.next
}

// AllowBack lets the peer's index fall back by up to n entries behind what it
// was, to read them again. The caller sees to it that they are not overwritten
// meanwhile: the slots count as free.
func (p *producerIndex) AllowBack(n uint32) { p.back = n }

func (p *producerIndex) corrupt() {
	p.err = ErrCorrupt
	p.limit = p.next
}

// Reserve claims n slots and returns the first one's index, or claims none.
// The slots must be filled in with Set before Submit.
func (p *producerIndex) Reserve(n uint32) (first uint32, ok bool) {
	if p.limit-p.next < n && p.refresh() < n {
		return 0, false
	}
	first = p.next
	p.next += n
	return first, true
}

// Cancel gives back the last n slots reserved and not yet submitted.
func (p *producerIndex) Cancel(n uint32) {
	p.next -= n
	if p.err != nil {
		p.limit = p.next // they are not offered again
	}
}

// Submit publishes every reserved slot: one store per batch.
func (p *producerIndex) Submit() { p.prod.Store(p.next) } // (B)

// Unsubmitted returns how many slots are reserved but not yet published.
func (p *producerIndex) Unsubmitted() uint32 { return p.next - p.prod.Load() }

// Pending returns how many published entries the kernel has not consumed.
// 0 after corruption: nobody should wait for it.
func (p *producerIndex) Pending() uint32 {
	if p.err != nil {
		return 0
	}
	n := p.prod.Load() - p.cons.Load() // (A)
	if n > p.size {
		p.corrupt()
		return 0
	}
	return n
}

// NeedsWakeup tells whether the kernel asks for a system call. It is an atomic
// load, so that it cannot be ordered before the store in Submit; call it after
// Submit only.
func (p *producerIndex) NeedsWakeup() bool { return p.flags.Load()&FlagNeedWakeup != 0 }

// Err returns ErrCorrupt once the kernel's index has been impossible.
func (p *producerIndex) Err() error { return p.err }
