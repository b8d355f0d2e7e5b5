package wire

import (
	"container/heap"
	"math"
	"math/bits"
	"slices"
	"time"
)

// flight is a frame on its way.
type flight struct {
	data    []byte
	corrupt bool
	due     time.Duration // since link.epoch
	seq     uint64        // order of those due at the same time
	after   int           // frames still to pass it; 0: does not wait for any
	index   int           // in the heap
}

// flights is a heap by time of arrival.
type flights []*flight

func (h flights) Len() int { return len(h) }
func (h flights) Less(i, j int) bool {
	return h[i].due < h[j].due || h[i].due == h[j].due && h[i].seq < h[j].seq
}
func (h flights) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *flights) Push(x any) {
	fl := x.(*flight)
	fl.index = len(*h)
	*h = append(*h, fl)
}

func (h *flights) Pop() any {
	old := *h
	fl := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return fl
}

// span returns how long n bytes take at rate bits per second, rounded down.
func span(n int, rate uint64) time.Duration {
	hi, lo := bits.Mul64(uint64(n)*8, uint64(time.Second))
	if hi >= rate {
		return math.MaxInt64
	}
	d, _ := bits.Div64(hi, lo, rate)
	return time.Duration(min(d, math.MaxInt64))
}

func (l *link) now() time.Duration { return time.Since(l.epoch) }

// copyLocked returns a flight with a copy of frame.
func (l *link) copyLocked(frame []byte) *flight {
	fl := new(flight)
	if n := len(l.free); n > 0 {
		fl = l.free[n-1]
		l.free = l.free[:n-1]
	}
	fl.data = append(fl.data[:0], frame...)
	fl.after = 0
	return fl
}

// mostFree is how many flights a link keeps for reuse. Under a heavy load thousands
// wait now and then, which need not be held for good.
const mostFree = 256

// freeLocked keeps fl for another frame.
func (l *link) freeLocked(fl *flight) {
	if len(l.free) < mostFree {
		l.free = append(l.free, fl)
	}
}

// enqueueLocked sends fl off, or drops it because too much is waiting.
func (l *link) enqueueLocked(fl *flight, f *Faults) {
	if l.closed {
		l.count.end(abandoned)
		return
	}
	now := l.now()
	depart := now
	if f.Rate > 0 {
		queue := f.QueueBytes
		if queue == 0 {
			queue = defaultQueueBytes
		}
		start := max(now, l.freeAt)
		took := min(span(len(fl.data), f.Rate), math.MaxInt64/4)
		if wait := start - now; wait > 0 && wait+took > span(queue, f.Rate) {
			l.count.end(queueFull)
			l.freeLocked(fl)
			return
		}
		depart = min(start+took, math.MaxInt64/4)
		l.freeAt = depart
	}
	fl.due = depart + f.Delay
	if f.Jitter > 0 {
		fl.due += time.Duration(l.rng.Int64N(int64(f.Jitter)))
	}
	fl.due = max(fl.due, l.lastDue)
	if l.rollLocked(f.Reorder) {
		l.holdLocked(fl, f)
	} else {
		l.lastDue = fl.due
		l.pushLocked(fl)
		l.passLocked(fl.due)
	}
	l.armLocked()
}

func (l *link) pushLocked(fl *flight) {
	fl.seq = l.seq
	l.seq++
	heap.Push(&l.due, fl)
	l.inFlight++
	l.queued.Store(true)
	l.count.inFlight.Add(1)
}

// holdLocked puts fl back behind frames that are yet to come.
func (l *link) holdLocked(fl *flight, f *Faults) {
	l.count.reordered.Add(1)
	wait := f.ReorderDelay
	if wait == 0 {
		wait = defaultReorderDelay
	}
	fl.due += wait
	l.pushLocked(fl)
	if fl.after = f.ReorderBy; fl.after > 0 {
		l.held = append(l.held, fl)
	}
}

// passLocked tells those who are held back that a frame due at that time has
// been put before them: the last one they wait for takes them along.
func (l *link) passLocked(due time.Duration) {
	rest := l.held[:0]
	for _, fl := range l.held {
		if fl.after--; fl.after > 0 {
			rest = append(rest, fl)
			continue
		}
		if fl.due > due {
			fl.due, fl.seq = due, l.seq
			l.seq++
			heap.Fix(&l.due, fl.index)
		}
	}
	clear(l.held[len(rest):])
	l.held = rest
}

// unarmed is link.armed while the timer is not set.
const unarmed time.Duration = -1

// armLocked sets the timer to the next arrival.
func (l *link) armLocked() {
	if l.running || len(l.due) == 0 || l.armed == l.due[0].due {
		return
	}
	l.armed = l.due[0].due
	d := max(l.armed-l.now(), 0)
	if l.timer == nil {
		l.timer = time.AfterFunc(d, l.run)
	} else {
		l.timer.Reset(d)
	}
}

// run is the timer's goroutine: it delivers what is due, one frame after the
// other. Only one runs at a time, so that frames stay in order.
func (l *link) run() {
	l.mu.Lock()
	if l.running {
		l.mu.Unlock()
		return
	}
	l.running, l.armed = true, unarmed
	for len(l.due) > 0 && l.due[0].due <= l.now() {
		fl := heap.Pop(&l.due).(*flight)
		if fl.after > 0 {
			l.held = slices.DeleteFunc(l.held, func(h *flight) bool { return h == fl })
		}
		l.mu.Unlock()
		l.deliver(fl.data, fl.corrupt)
		l.mu.Lock()
		l.freeLocked(fl)
		l.landedLocked()
	}
	l.running = false
	l.armLocked()
	l.mu.Unlock()
}

// landedLocked says that one frame less is in flight, already counted where it
// ended.
func (l *link) landedLocked() {
	l.count.inFlight.Add(^uint64(0))
	if l.inFlight--; l.inFlight > 0 {
		return
	}
	l.queued.Store(false)
	if l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// abandon drops what is in flight, now and from now on.
func (l *link) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	n := len(l.due)
	l.due, l.held, l.free = nil, nil, nil
	for range n {
		l.count.end(abandoned)
		l.landedLocked()
	}
}
