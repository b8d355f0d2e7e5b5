package wire

import (
	"fmt"
	"time"
)

// Faults are what happens to the frames of one direction, in the order of the
// fields: filter, loss, duplication, corruption (of each copy by itself), rate,
// delay, reordering. The zero value is a perfect direction. Probabilities are
// from 0 to 1.
type Faults struct {
	// Filter looks at each frame first; nil passes all. It must not keep or
	// change the frame, and may be called by several goroutines at once.
	Filter func(dir Dir, frame []byte) Verdict

	// Loss is the probability of losing a frame.
	Loss float64

	// LossBurst is how many frames in a row are lost each time. Zero means 1.
	LossBurst int

	// Duplicate is the probability that a frame arrives twice.
	Duplicate float64

	// Corrupt is the probability that a copy of a frame has bits flipped.
	Corrupt float64

	// CorruptBits is how many bits, one next to the other, from a random one
	// on. Zero means 1, which an Internet checksum finds wherever it covers.
	CorruptBits int

	// Rate is how fast frames leave in bits per second; preamble, FCS and gap
	// do not count. Zero means at once.
	Rate uint64

	// QueueBytes bounds the bytes that wait to leave, with the frame that is
	// leaving; a frame that would exceed it is dropped (tail drop), unless
	// none is waiting. Zero means 64 KiB. Of no effect without Rate.
	QueueBytes int

	// Delay is from leaving to arriving. Jitter adds a random part from 0 to
	// less than itself. The order stays, so that a late frame holds up those
	// close behind it: only Reorder changes the order.
	Delay, Jitter time.Duration

	// Reorder is the probability that a frame is held back, until ReorderBy
	// later frames have passed it (0: that does not matter) or ReorderDelay
	// after its time, whichever is first. ReorderDelay zero means 10 ms.
	Reorder      float64
	ReorderBy    int
	ReorderDelay time.Duration
}

// Verdict is what a filter says about a frame.
type Verdict int

const (
	Pass Verdict = iota
	Drop
)

const (
	defaultQueueBytes   = 64 << 10
	defaultReorderDelay = 10 * time.Millisecond
	maxDelay            = time.Hour // far from overflow, and a slip in a unit is found
)

// check returns an error that starts with the field's name.
func (f *Faults) check() error {
	for _, p := range []struct {
		name string
		v    float64
	}{{"Loss", f.Loss}, {"Duplicate", f.Duplicate}, {"Corrupt", f.Corrupt}, {"Reorder", f.Reorder}} {
		if !(p.v >= 0 && p.v <= 1) {
			return fmt.Errorf("%s: %v: a probability from 0 to 1", p.name, p.v)
		}
	}
	for _, n := range []struct {
		name string
		v    int64
	}{
		{"LossBurst", int64(f.LossBurst)}, {"CorruptBits", int64(f.CorruptBits)}, {"QueueBytes", int64(f.QueueBytes)},
		{"Delay", int64(f.Delay)}, {"Jitter", int64(f.Jitter)},
		{"ReorderBy", int64(f.ReorderBy)}, {"ReorderDelay", int64(f.ReorderDelay)},
	} {
		if n.v < 0 {
			return fmt.Errorf("%s: %d: 0 or more", n.name, n.v)
		}
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"Delay", f.Delay}, {"Jitter", f.Jitter}, {"ReorderDelay", f.ReorderDelay}} {
		if d.v > maxDelay {
			return fmt.Errorf("%s: %v: %v at most", d.name, d.v, maxDelay)
		}
	}
	return nil
}

// some tells whether anything at all happens to frames.
func (f *Faults) some() bool {
	return f.Filter != nil || f.Loss > 0 || f.Duplicate > 0 || f.Corrupt > 0 || f.timed()
}

// timed tells whether frames are delivered by the timer.
func (f *Faults) timed() bool {
	return f.Rate > 0 || f.Delay > 0 || f.Jitter > 0 || f.Reorder > 0
}

// rollLocked is true with probability p. It draws only for faults that are on.
func (l *link) rollLocked(p float64) bool { return p > 0 && l.rng.Float64() < p }

// loseLocked tells whether the next frame is lost.
func (l *link) loseLocked(f *Faults) bool {
	if l.burst > 0 {
		l.burst--
		return true
	}
	if !l.rollLocked(f.Loss) {
		return false
	}
	l.burst = max(f.LossBurst, 1) - 1
	return true
}

// flipLocked flips bits of data, which is not empty.
func (l *link) flipLocked(data []byte, f *Faults) {
	bits := len(data) * 8
	n := min(max(f.CorruptBits, 1), bits)
	first := l.rng.IntN(bits - n + 1)
	for i := first; i < first+n; i++ {
		data[i/8] ^= 0x80 >> (i % 8)
	}
}
