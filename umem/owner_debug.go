//go:build xskdebug

package umem

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
)

// poison fills free frames. A frame that was written to while it was free no
// longer has it.
const poison = 0xdb

// debug checks what release builds only count: it panics when a frame is freed
// that is not owned, and when a free frame was written to.
type debug struct {
	mu    *sync.Mutex
	freed []string // per chunk: where it was last freed
}

func (d *debug) init(r *Region) {
	d.mu = new(sync.Mutex)
	d.freed = make([]string, r.Chunks())
	for i := range r.mem {
		r.mem[i] = poison
	}
}

// enter poisons a frame that becomes free.
func (d *debug) enter(r *Region, a Addr) {
	for b, i := r.Chunk(a), 0; i < len(b); i++ {
		b[i] = poison
	}
	d.mu.Lock()
	d.freed[r.number(a)] = callers()
	d.mu.Unlock()
}

// leave checks a frame that is handed out.
func (d *debug) leave(r *Region, a Addr) {
	for i, b := range r.Chunk(a) {
		if b != poison {
			panic(fmt.Sprintf("umem: frame %#x was written at byte %d while free; freed at %s", uint64(a), i, d.where(r, a)))
		}
	}
}

// stray reports a frame that user code freed without holding it.
func (d *debug) stray(r *Region, a Addr) {
	i, ok := r.index(a)
	if !ok {
		panic(fmt.Sprintf("umem: address %#x is outside the region of %d bytes", uint64(a), len(r.mem)))
	}
	panic(fmt.Sprintf("umem: frame %#x freed while %v; last freed at %s", uint64(a), r.state[i], d.where(r, a)))
}

// index returns the number of a's chunk; ok is false outside the region.
func (r *Region) index(a Addr) (i int, ok bool) {
	n := r.number(a)
	return int(n), n < Addr(len(r.state))
}

func (d *debug) where(r *Region, a Addr) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.freed[r.number(a)]; s != "" {
		return s
	}
	return "never"
}

// callers names the three callers above this package.
func callers() string {
	var pc [6]uintptr
	frames := runtime.CallersFrames(pc[:runtime.Callers(4, pc[:])])
	var s []string
	for f, more := frames.Next(); more && len(s) < 3; f, more = frames.Next() {
		s = append(s, fmt.Sprintf("%s:%d", f.Function, f.Line))
	}
	return strings.Join(s, " < ")
}
