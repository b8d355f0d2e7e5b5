package umem

import "strconv"

// State says who owns a frame. See the package documentation.
type State uint8

// A frame's owners.
const (
	Free   State = iota // the pool, or a cache
	Held                // the caller, to read or to write
	Fill                // the kernel, to receive into
	TX                  // the kernel, to send
	Unused              // nobody: never handed out: see Config.Unaligned
	numStates
)

func (s State) String() string {
	switch s {
	case Free:
		return "free"
	case Held:
		return "held"
	case Fill:
		return "fill"
	case TX:
		return "tx"
	case Unused:
		return "unused"
	}
	return "state " + strconv.Itoa(int(s))
}

// Move changes the state of a's frame from one to another and tells whether it
// was in the first. If it was not, or a is outside the region, nothing changes
// and the caller must not use the frame: count a stray and drop it. Only the
// frame's owner may call it; Free is entered and left through a Cache.
func (r *Region) Move(a Addr, from, to State) bool {
	i := r.number(a)
	if i >= Addr(len(r.state)) || r.state[i] != from {
		return false
	}
	r.state[i] = to
	return true
}

// Audit is a count of frames by state.
type Audit struct {
	Free, Held, Fill, TX int
	Unused               int // chunks that straddle two huge pages

	// Pooled is the number of frames in the central pool; the other free ones
	// lie in caches.
	Pooled int
}

// Chunks returns the sum of all states.
func (a Audit) Chunks() int { return a.Free + a.Held + a.Fill + a.TX + a.Unused }

// Audit counts the frames by their state. No owner may be working meanwhile:
// it is for tests, for Close, and for a caller that holds every owner's lock.
func (r *Region) Audit() Audit {
	var n [numStates]int
	for _, s := range r.state {
		n[s]++
	}
	return Audit{Free: n[Free], Held: n[Held], Fill: n[Fill], TX: n[TX], Unused: n[Unused], Pooled: r.pool.len()}
}
