package ring

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// producerModel is what a producer should do, in slices.
type producerModel struct {
	size      int
	reserved  []uint64 // Reserve ... Submit
	published []uint64 // Submit ... consumed
}

func (m *producerModel) free() int { return m.size - len(m.reserved) - len(m.published) }

func TestProducerModel(t *testing.T) {
	rng := seeded(t)
	for _, size := range []uint32{2, 4, 8, 64} {
		for _, start := range starts {
			mem := heapAt(t, size, start)
			p := NewProducer(mem)
			model := &producerModel{size: int(size)}
			for step := range 3000 {
				op := stepProducer(t, rng, mem, &p, model)
				if p.Err() != nil || int(p.Pending()) != len(model.published) || int(p.Unsubmitted()) != len(model.reserved) {
					t.Fatalf("size %d start %#x step %d, %s: Err %v, Pending %d of %d, Unsubmitted %d of %d", size, start, step, op,
						p.Err(), p.Pending(), len(model.published), p.Unsubmitted(), len(model.reserved))
				}
			}
		}
	}
}

func stepProducer(t *testing.T, rng *rand.Rand, mem Mem[uint64], p *Producer[uint64], model *producerModel) string {
	t.Helper()
	switch rng.IntN(5) {
	case 0:
		n := rng.IntN(model.size + 2)
		first, ok := p.Reserve(uint32(n))
		if want := n <= model.free(); ok != want {
			t.Fatalf("Reserve(%d) = %v with %d free", n, ok, model.free())
		}
		if ok {
			for i := range n {
				v := rng.Uint64()
				p.Set(first+uint32(i), v)
				model.reserved = append(model.reserved, v)
			}
		}
		return "Reserve"
	case 1:
		n := rng.IntN(len(model.reserved) + 1)
		p.Cancel(uint32(n))
		model.reserved = model.reserved[:len(model.reserved)-n]
		return "Cancel"
	case 2:
		p.Submit()
		model.published = append(model.published, model.reserved...)
		model.reserved = nil
		return "Submit"
	case 3: // the peer takes some
		n := rng.IntN(len(model.published) + 1)
		at := mem.Cons.Load()
		for i, want := range model.published[:n] {
			if got := mem.Slots[(at+uint32(i))%uint32(model.size)]; got != want {
				t.Fatalf("slot %#x = %#x, want %#x", at+uint32(i), got, want)
			}
		}
		mem.Cons.Store(at + uint32(n))
		model.published = model.published[n:]
		return "peer"
	default:
		want := rng.IntN(model.size + 2)
		if got := int(p.Free(uint32(want))); got > model.free() || got < min(want, model.free()) {
			t.Fatalf("Free(%d) = %d with %d free", want, got, model.free())
		}
		return "Free"
	}
}

// consumerModel is what a consumer should do, in slices.
type consumerModel struct {
	size    int
	waiting []uint64 // produced ... Peek
	peeked  []uint64 // Peek ... Release
}

func TestConsumerModel(t *testing.T) {
	rng := seeded(t)
	for _, size := range []uint32{2, 4, 8, 64} {
		for _, start := range starts {
			mem := heapAt(t, size, start)
			c := NewConsumer(mem)
			model := &consumerModel{size: int(size)}
			for step := range 3000 {
				op := stepConsumer(t, rng, mem, &c, model)
				if c.Err() != nil || c.Empty() != (len(model.waiting) == 0) {
					t.Fatalf("size %d start %#x step %d, %s: Err %v, Empty %v with %d waiting", size, start, step, op,
						c.Err(), c.Empty(), len(model.waiting))
				}
			}
		}
	}
}

func stepConsumer(t *testing.T, rng *rand.Rand, mem Mem[uint64], c *Consumer[uint64], model *consumerModel) string {
	t.Helper()
	switch rng.IntN(5) {
	case 0:
		n := rng.IntN(model.size + 2)
		first, got := c.Peek(uint32(n))
		if want := min(n, len(model.waiting)); int(got) != want {
			t.Fatalf("Peek(%d) = %d with %d waiting", n, got, len(model.waiting))
		}
		for i := range got {
			if v := c.Get(first + i); v != model.waiting[i] {
				t.Fatalf("entry %d = %#x, want %#x", i, v, model.waiting[i])
			}
		}
		model.peeked = append(model.peeked, model.waiting[:got]...)
		model.waiting = model.waiting[got:]
		return "Peek"
	case 1:
		keep := rng.IntN(len(model.peeked) + 1)
		c.Cancel(uint32(len(model.peeked) - keep))
		model.waiting = slices.Concat(model.peeked[keep:], model.waiting)
		model.peeked = model.peeked[:keep]
		return "Cancel"
	case 2:
		c.Release()
		model.peeked = nil
		return "Release"
	case 3: // the peer produces some
		room := model.size - int(mem.Prod.Load()-mem.Cons.Load())
		at := mem.Prod.Load()
		for i := range uint32(rng.IntN(room + 1)) {
			v := rng.Uint64()
			mem.Slots[(at+i)%uint32(model.size)] = v
			model.waiting = append(model.waiting, v)
			mem.Prod.Store(at + i + 1)
		}
		return "peer"
	default:
		want := rng.IntN(model.size + 2)
		if got := int(c.Available(uint32(want))); got > len(model.waiting) || got < min(want, len(model.waiting)) {
			t.Fatalf("Available(%d) = %d with %d waiting", want, got, len(model.waiting))
		}
		return "Available"
	}
}

func TestProducerCorrupt(t *testing.T) {
	for _, start := range starts {
		for _, lie := range []uint32{1, 2, 5, 1 << 31, 1<<32 - 5} {
			mem := heapAt(t, 4, start)
			p := NewProducer(mem)
			if _, ok := p.Reserve(3); !ok {
				t.Fatal("Reserve failed")
			}
			mem.Cons.Store(start + lie) // nothing was submitted: ahead of prod
			if lie <= 4 {
				// It may have taken reserved slots for all we know: only an
				// index beyond the reserved ones is impossible for Free.
				p.Submit()
				mem.Cons.Store(start + 3 + lie)
			}
			checkProducerDead(t, &p, "Free", func() bool { return p.Free(4) == 0 })
			mem.Cons.Store(mem.Prod.Load()) // sticky, also if the peer repents
			checkProducerDead(t, &p, "Reserve", func() bool { _, ok := p.Reserve(1); return !ok })
			p.Cancel(2)
			checkProducerDead(t, &p, "Reserve after Cancel", func() bool { _, ok := p.Reserve(1); return !ok })
			p.Submit()
			checkProducerDead(t, &p, "Pending", func() bool { return p.Pending() == 0 })
		}
	}
}

func TestProducerCorruptBackwards(t *testing.T) {
	mem := heapAt(t, 4, 100)
	p := NewProducer(mem)
	p.Reserve(4)
	p.Submit()
	mem.Cons.Store(103)
	if got := p.Free(1); got != 3 {
		t.Fatalf("Free = %d, want 3", got)
	}
	mem.Cons.Store(101)
	checkProducerDead(t, &p, "Free", func() bool { return p.Free(4) == 0 })
}

func TestProducerCorruptPending(t *testing.T) {
	mem := heapAt(t, 4, 1<<32-1)
	p := NewProducer(mem)
	p.Reserve(1)
	p.Submit()
	mem.Cons.Store(10)
	checkProducerDead(t, &p, "Pending", func() bool { return p.Pending() == 0 })
	checkProducerDead(t, &p, "Free", func() bool { return p.Free(1) == 0 })
}

func checkProducerDead(t *testing.T, p *Producer[uint64], op string, quiet func() bool) {
	t.Helper()
	if !quiet() {
		t.Errorf("%s: the corrupt ring still offers something", op)
	}
	if !errors.Is(p.Err(), ErrCorrupt) {
		t.Errorf("%s: Err() = %v, want ErrCorrupt", op, p.Err())
	}
}

func TestConsumerCorrupt(t *testing.T) {
	for _, start := range starts {
		for _, lie := range []uint32{5, 1 << 31, 1<<32 - 1, 1<<32 - 4} {
			mem := heapAt(t, 4, start)
			c := NewConsumer(mem)
			mem.Prod.Store(start + 2)
			c.Peek(2)
			mem.Prod.Store(start + 2 + lie)
			if c.Empty() {
				t.Errorf("start %#x lie %#x: Empty before it was noticed", start, lie)
			}
			if _, n := c.Peek(1); n != 0 || !errors.Is(c.Err(), ErrCorrupt) {
				t.Errorf("start %#x lie %#x: Peek = %d, Err %v", start, lie, n, c.Err())
			}
			mem.Prod.Store(start + 3) // sticky, also if the peer repents
			c.Cancel(1)
			if _, n := c.Peek(1); n != 0 || c.Available(1) != 0 || !c.Empty() {
				t.Errorf("start %#x lie %#x: the corrupt ring still offers something", start, lie)
			}
			c.Release()
			if !errors.Is(c.Err(), ErrCorrupt) {
				t.Errorf("start %#x lie %#x: Err %v after Release", start, lie, c.Err())
			}
		}
	}
}

func TestConsumerCorruptBackwards(t *testing.T) {
	mem := heapAt(t, 4, 0)
	c := NewConsumer(mem)
	mem.Prod.Store(3)
	if got := c.Available(1); got != 3 {
		t.Fatalf("Available = %d, want 3", got)
	}
	mem.Prod.Store(2)
	if got := c.Available(4); got != 0 || c.Err() == nil {
		t.Errorf("Available = %d, Err %v", got, c.Err())
	}
}

// FuzzHostile lets the fuzzer play both ends with any index. Whatever the peer
// writes, no end claims more than the ring holds, none reads or writes outside
// the slots, and an error stays.
func FuzzHostile(f *testing.F) {
	f.Add(uint32(1<<32-2), []byte{0, 3, 1, 2, 2, 0, 3, 9, 4, 1, 5, 2})
	f.Add(uint32(0), []byte{3, 255, 0, 1, 6, 0, 7, 128, 1, 1, 2, 2})
	f.Fuzz(func(t *testing.T, start uint32, ops []byte) {
		const size = 8
		p, c := NewProducer(heapAt(t, size, start)), NewConsumer(heapAt(t, size, start))
		var reserved, peeked uint32
		for len(ops) >= 2 {
			op, arg := ops[0]%8, uint32(ops[1])
			ops = ops[2:]
			pErr, cErr := p.Err(), c.Err()
			switch op {
			case 0:
				if first, ok := p.Reserve(arg % (2 * size)); ok {
					reserved += arg % (2 * size)
					for i := range arg % (2 * size) {
						p.Set(first+i, uint64(arg))
					}
				}
			case 1:
				n := min(arg, reserved)
				p.Cancel(n)
				reserved -= n
			case 2:
				p.Submit()
				reserved = 0
			case 3:
				p.cons.Store(start + arg*arg - 64)
			case 4:
				first, n := c.Peek(arg)
				for i := range n {
					c.Get(first + i)
				}
				peeked += n
			case 5:
				n := min(arg, peeked)
				c.Cancel(n)
				peeked -= n
			case 6:
				c.Release()
				peeked = 0
			case 7:
				c.prod.Store(start + arg*arg - 64)
			}
			if reserved > size || p.Free(arg)+reserved > size || p.Pending() > size {
				t.Fatalf("op %d: producer: %d reserved, Free %d, Pending %d", op, reserved, p.Free(arg), p.Pending())
			}
			if peeked > size || c.Available(arg) > size {
				t.Fatalf("op %d: consumer: %d peeked, Available %d", op, peeked, c.Available(arg))
			}
			if pErr != nil && (p.Err() == nil || p.Free(1) != 0) || cErr != nil && (c.Err() == nil || c.Available(1) != 0) {
				t.Fatalf("op %d: an error did not stay", op)
			}
		}
	})
}
