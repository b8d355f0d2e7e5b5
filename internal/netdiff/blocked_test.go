package netdiff

import (
	"bytes"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// A watcher knows when a goroutine sleeps in a call: from the runtime, which has
// the state of each. One watcher serves all, since it stops the world to look.
type watcher struct {
	mu      sync.Mutex
	waiting map[int64]*watched
	running bool
}

type watched struct {
	seen  int // looks in a row at which it slept
	slept chan struct{}
}

var sleepers watcher

// goroutineID returns the number of the calling goroutine.
func goroutineID() int64 {
	var buf [64]byte
	id, _, _ := goroutineHeader(buf[:runtime.Stack(buf[:], false)])
	return id
}

// goroutineHeader takes "goroutine 7 [IO wait, 2 minutes]:" apart.
func goroutineHeader(line []byte) (id int64, state string, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte("goroutine "))
	if !ok {
		return 0, "", false
	}
	number, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return 0, "", false
	}
	id, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil {
		return 0, "", false
	}
	if _, rest, ok = bytes.Cut(rest, []byte("[")); !ok {
		return 0, "", false
	}
	end := bytes.IndexAny(rest, ",]")
	if end < 0 {
		return 0, "", false
	}
	return id, string(rest[:end]), true
}

// asleep tells whether a state is one that only somebody else ends.
func asleep(state string) bool {
	switch state {
	case "IO wait", "chan receive", "select", "semacquire", "sync.Mutex.Lock", "sync.RWMutex.Lock", "sync.RWMutex.RLock", "sync.Cond.Wait":
		return true
	}
	return false
}

// watch returns a channel that is closed once a goroutine sleeps. Two looks in a
// row have to find it so: a lock may be held for a moment.
func (w *watcher) watch(id int64) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = make(map[int64]*watched)
	}
	s := &watched{slept: make(chan struct{})}
	w.waiting[id] = s
	if !w.running {
		w.running = true
		go w.look()
	}
	return s.slept
}

// forget ends a watch.
func (w *watcher) forget(id int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, id)
}

func (w *watcher) look() {
	buf := make([]byte, 1<<20)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		n := runtime.Stack(buf, true)
		for n == len(buf) {
			buf = make([]byte, 2*len(buf))
			n = runtime.Stack(buf, true)
		}
		if !w.update(buf[:n]) {
			return
		}
	}
}

// update takes in one look. It reports false if nobody waits any more.
func (w *watcher) update(stacks []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for stacks != nil {
		var line []byte
		line, stacks, _ = bytes.Cut(stacks, []byte("\n"))
		if id, state, ok := goroutineHeader(line); ok {
			w.seen(id, asleep(state))
		}
		if _, stacks, _ = bytes.Cut(stacks, []byte("\n\n")); len(stacks) == 0 {
			break
		}
	}
	w.running = len(w.waiting) != 0
	return w.running
}

func (w *watcher) seen(id int64, slept bool) {
	s := w.waiting[id]
	switch {
	case s == nil:
	case !slept:
		s.seen = 0
	case s.seen == 1:
		close(s.slept)
		delete(w.waiting, id)
	default:
		s.seen++
	}
}
