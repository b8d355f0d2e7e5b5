package wire

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// link is one direction of the wire.
type link struct {
	dir      Dir
	from, to *Port
	taps     *taps
	epoch    time.Time // times below are since then
	count    counters

	faults atomic.Pointer[Faults] // nil: none
	queued atomic.Bool            // inFlight is not 0

	mu       sync.Mutex // a leaf: nothing is called with it held
	rng      *rand.Rand
	burst    int           // frames that will be lost without asking
	freeAt   time.Duration // when the last byte of what waits has left
	lastDue  time.Duration // no frame that keeps its place arrives before
	seq      uint64        // of the next flight
	due      flights       // heap
	held     []*flight     // of these, those that wait for others to pass
	free     []*flight     // for reuse, at most mostFree
	timer    *time.Timer
	armed    time.Duration // when timer fires, or unarmed
	running  bool          // the timer's goroutine is in run
	closed   bool
	inFlight int           // in due, or being delivered by run
	idle     chan struct{} // closed when inFlight becomes 0; nil if nobody waits
}

func (l *link) setFaults(f Faults) {
	if !f.some() {
		l.faults.Store(nil)
		return
	}
	l.faults.Store(&f)
}

// send takes one frame, which must stay as it is until send returns. refused
// tells that the device dropped it at once.
func (l *link) send(frame []byte) (refused bool) {
	l.count.sent.Add(1)
	if l.from.down() || l.to.down() {
		// No carrier: __dev_direct_xmit (Linux net/core/dev.c) drops.
		l.count.end(portDown)
		return true
	}
	f := l.faults.Load()
	if f == nil && !l.queued.Load() {
		l.deliver(frame, false)
		return false
	}
	if f == nil {
		f = new(Faults) // behind what is in flight
	}
	l.sendFaulty(frame, f)
	return false
}

func (l *link) sendFaulty(frame []byte, f *Faults) {
	if f.Filter != nil && f.Filter(l.dir, frame) == Drop {
		l.count.end(filtered)
		return
	}
	l.mu.Lock()
	if l.loseLocked(f) {
		l.mu.Unlock()
		l.count.end(lost)
		return
	}
	copies := 1
	if l.rollLocked(f.Duplicate) {
		copies = 2
		l.count.duplicated.Add(1)
	}
	var direct [2]*flight // to be delivered here; nil: frame itself
	n := 0
	for range copies {
		corrupt := l.rollLocked(f.Corrupt)
		timed := f.timed() || l.inFlight != 0
		if !corrupt && !timed {
			direct[n] = nil
			n++
			continue
		}
		fl := l.copyLocked(frame)
		if fl.corrupt = corrupt; corrupt {
			l.flipLocked(fl.data, f)
		}
		if timed {
			l.enqueueLocked(fl, f)
			continue
		}
		direct[n] = fl
		n++
	}
	l.mu.Unlock()
	for _, fl := range direct[:n] {
		if fl == nil {
			l.deliver(frame, false)
			continue
		}
		l.deliver(fl.data, fl.corrupt)
		l.mu.Lock()
		l.freeLocked(fl)
		l.mu.Unlock()
	}
}

// deliver gives a frame to the receiving port and tells whether it took it.
// No lock is held, but the sending Queue's.
func (l *link) deliver(frame []byte, corrupt bool) bool {
	l.taps.record(frame)
	good := delivered
	if corrupt {
		good = deliveredCorrupt
	}
	if l.to.down() {
		l.count.end(portDown)
		return false
	}
	if len(frame) > l.to.mtu+ethernetOverhead {
		l.count.end(tooLong)
		return false
	}
	if raw := l.to.raw.Load(); raw != nil {
		l.count.end(good)
		(*raw)(frame[:len(frame):len(frame)])
		return true
	}
	q := l.to.pick(frame)
	if q == nil {
		l.count.end(noSocket)
		return false
	}
	return q.receive(frame, &l.count, good)
}
