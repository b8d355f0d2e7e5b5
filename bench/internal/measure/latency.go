package measure

import (
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/cpu"
)

// Latencies are kept from a microsecond fraction to a minute, to three digits.
const (
	maxLatency = time.Minute
	digits     = 3
)

// NewHistogram returns an empty histogram of latencies in nanoseconds.
func NewHistogram() *hdr.Histogram { return hdr.New(1, int64(maxLatency), digits) }

// Record adds a latency; one beyond the histogram's end counts as its end.
func Record(h *hdr.Histogram, d time.Duration) {
	_ = h.RecordValue(int64(min(max(d, 1), maxLatency))) // within its bounds
}

// Latencies collects latencies from many goroutines.
type Latencies struct {
	shards []shard
}

type shard struct {
	mu sync.Mutex
	h  *hdr.Histogram
	_  cpu.CacheLinePad
}

// NewLatencies returns a collector with n parts, at least one.
func NewLatencies(n int) *Latencies {
	l := &Latencies{shards: make([]shard, max(n, 1))}
	for i := range l.shards {
		l.shards[i].h = NewHistogram()
	}
	return l
}

// Record adds a latency to the part of number i, which need not be below the
// number of parts.
func (l *Latencies) Record(i int, d time.Duration) {
	s := &l.shards[i%len(l.shards)]
	s.mu.Lock()
	Record(s.h, d)
	s.mu.Unlock()
}

// Merged returns all parts in one histogram.
func (l *Latencies) Merged() *hdr.Histogram {
	all := NewHistogram()
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		all.Merge(s.h)
		s.mu.Unlock()
	}
	return all
}
