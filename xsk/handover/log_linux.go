package handover

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the log, which whoever may connect writes to.
const (
	logLines  = 100         // about one class
	logEvery  = time.Minute // in this time
	logQueued = 256         // lines that ServerConfig.Log has not taken yet
)

// logger hands lines to ServerConfig.Log, from a goroutine of its own: nobody waits
// for it.
type logger struct {
	out   func(line string)
	done  chan struct{}
	ended atomic.Bool // out is told nothing more

	mu      sync.Mutex // guards what follows
	lines   chan string
	closed  bool
	budgets map[class]*budget
}

// budget is what a class has written of late.
type budget struct {
	since       time.Time
	lines, left int
}

func newLogger(out func(line string)) *logger {
	lg := &logger{out: out, done: make(chan struct{}), lines: make(chan string, logQueued), budgets: make(map[class]*budget)}
	go func() {
		defer close(lg.done)
		for line := range lg.lines {
			if lg.ended.Load() {
				return
			}
			lg.out(line)
		}
	}()
	return lg
}

// print logs a line about one of a class, or counts it among those that are left out.
func (lg *logger) print(of class, line string) {
	lg.mu.Lock()
	defer lg.mu.Unlock()
	if lg.closed {
		return
	}
	b, now := lg.budgets[of], time.Now()
	if b == nil {
		b = &budget{since: now}
		lg.budgets[of] = b
	}
	if now.Sub(b.since) >= logEvery {
		lg.sayLeftLocked(of, b)
		b.since, b.lines = now, 0
	}
	if b.lines < logLines && lg.queueLocked(line) {
		b.lines++
	} else {
		b.left++
	}
}

func (lg *logger) queueLocked(line string) bool {
	select {
	case lg.lines <- line:
		return true
	default:
		return false
	}
}

func (lg *logger) sayLeftLocked(of class, b *budget) {
	if b.left > 0 && lg.queueLocked(fmt.Sprintf("%v: lines left out: %d", of, b.left)) {
		b.left = 0
	}
}

// end waits, as long as ctx lets it, for the lines to be taken.
func (lg *logger) end(ctx context.Context) {
	lg.mu.Lock()
	for of, b := range lg.budgets {
		lg.sayLeftLocked(of, b)
	}
	lg.closed = true
	close(lg.lines)
	lg.mu.Unlock()
	select {
	case <-lg.done:
	case <-ctx.Done():
		lg.ended.Store(true)
	}
}
