// Package ring holds the two ends of an AF_XDP ring that user space plays:
// [Producer] for the fill and the TX ring, [Consumer] for the completion and
// the RX ring. The other end is the kernel, or internal/wire in tests.
//
// A ring is an array of a power of two of entries and two free-running 32-bit
// indices, each written by one side only. The four ordering points carry the
// letters of Linux net/xdp/xsk_queue.h (6.18):
//
//	producer                         consumer
//
//	if (load cons) {      (A)        if (load prod) {      (C)
//	    write entry                      read entry
//	    store prod        (B)            store cons        (D)
//	}                                }
//
// (A) pairs with (D): a slot is written only after the consumer said it had
// read it. (B) pairs with (C): an entry is read only after the producer said
// it had written it. Go's atomics are sequentially consistent, which is more
// than the acquire and release these points need; a Store is a locked
// instruction on amd64, so both types publish once per batch, never per entry.
// Entries themselves are plain reads and writes: they are ordered by the
// letters.
//
// # Goroutines
//
// Neither type locks. One goroutine at a time owns a Producer or a Consumer;
// ownership may move with any happens-before edge (a mutex, a channel).
//
// # Corruption
//
// The peer's index is data from outside. An index that claims more than the
// ring can hold is reported as [ErrCorrupt] once and for all: the end then
// offers no slot and no entry any more, so that no loop runs over garbage.
package ring
