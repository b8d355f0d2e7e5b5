package umem

import "sync"

// pool is the central stock of free frames, last freed first used. Owners take
// and give frames in batches through their Cache, so its lock is rare.
type pool struct {
	mu   sync.Mutex
	free []Addr // stack; cap is the number of chunks
}

// fill puts every frame of r in, so that low addresses come out first, but for
// those that straddle two huge pages: a device that reads or writes the region
// itself may not have them next to each other, and the kernel refuses them.
func (p *pool) fill(r *Region) {
	p.free = make([]Addr, 0, r.Chunks())
	for i := r.Chunks() - 1; i >= 0; i-- {
		first := Addr(i * r.chunkSize)
		if last := first + Addr(r.chunkSize) - 1; r.huge && first/hugePageSize != last/hugePageSize {
			r.state[i] = Unused
			continue
		}
		p.free = append(p.free, first)
	}
}

// take appends up to n frames to dst.
func (p *pool) take(dst []Addr, n int) []Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	rest := max(len(p.free)-n, 0)
	dst = append(dst, p.free[rest:]...)
	p.free = p.free[:rest]
	return dst
}

// give puts frames back.
func (p *pool) give(frames []Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, frames...)
}

func (p *pool) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.free)
}
