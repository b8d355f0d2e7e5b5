package ring

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
)

// ErrCorrupt says that the other side's index cannot be true: it claims more
// entries than the ring has slots.
var ErrCorrupt = errors.New("ring index out of range")

// FlagNeedWakeup is XDP_RING_NEED_WAKEUP (linux/if_xdp.h, 5.4): the kernel
// asks for a system call before it looks at this ring again.
const FlagNeedWakeup = 1 << 0

// Mem is the shared memory of one ring. Prod is written by the producing side
// only, Cons by the consuming side only, Flags by the kernel only.
type Mem[T any] struct {
	Prod  *atomic.Uint32
	Cons  *atomic.Uint32
	Flags *atomic.Uint32
	Slots []T // len is a power of two
}

// Heap makes a ring of n slots in Go memory, for a simulated kernel. The race
// detector sees heap memory, which it does not for mapped memory.
func Heap[T any](n uint32) (Mem[T], error) {
	if err := CheckSize(n); err != nil {
		return Mem[T]{}, err
	}
	// Each word on a cache line of its own, as the kernel lays them out.
	type line struct {
		v atomic.Uint32
		_ [60]byte
	}
	w := new([3]line)
	return Mem[T]{Prod: &w[0].v, Cons: &w[1].v, Flags: &w[2].v, Slots: make([]T, n)}, nil
}

// maxSlots is the largest ring: the kernel computes sizes in 32 bits, and
// indices are compared by subtraction, so half the index space is the limit.
const maxSlots = 1 << 30

// CheckSize returns an error unless n can be a ring's number of descriptors:
// a power of two, 2 or more (Linux net/xdp/xsk_queue.c takes 1, but one slot
// cannot hold a batch and drivers reject it).
func CheckSize(n uint32) error {
	if n < 2 || n > maxSlots || bits.OnesCount32(n) != 1 {
		return fmt.Errorf("%d descriptors: a ring holds a power of two, 2 to %d", n, maxSlots)
	}
	return nil
}
