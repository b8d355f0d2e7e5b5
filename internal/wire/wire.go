package wire

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// Dir is a direction of the wire: the number of the port that sends.
type Dir int

const (
	From0 Dir = 0 // from port 0 to port 1
	From1 Dir = 1 // from port 1 to port 0
)

// Wire is a link between two ports.
type Wire struct {
	seed  uint64
	ports [2]*Port
	links [2]*link // by Dir
	taps  taps

	// state guards the ports' state and watchers. It comes before every other
	// lock, and is held while watchers are called.
	state sync.Mutex
}

// Port returns port 0 or 1.
func (w *Wire) Port(i int) *Port { return w.ports[i] }

// Seed returns the seed of all random choices: with it, and the same frames in
// the same order per direction, the same faults happen again.
func (w *Wire) Seed() uint64 { return w.seed }

// SetFaults changes what happens to frames sent from now on. Those in flight
// arrive as they were due, and none overtakes them but by Reorder.
func (w *Wire) SetFaults(dir Dir, f Faults) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("wire: Faults.%w", err)
	}
	w.links[dir].setFaults(f)
	return nil
}

// Faults returns what SetFaults or Config set.
func (w *Wire) Faults(dir Dir) Faults {
	if f := w.links[dir].faults.Load(); f != nil {
		return *f
	}
	return Faults{}
}

// Stats returns the counters of both directions.
func (w *Wire) Stats() Stats {
	return Stats{w.links[From0].count.read(), w.links[From1].count.read()}
}

// WaitIdle returns when no frame is in flight in either direction.
func (w *Wire) WaitIdle(ctx context.Context) error {
	for {
		c := w.busy()
		if c == nil {
			return nil
		}
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// busy returns a channel that closes when a direction that has frames in
// flight has none, or nil if there are none in both. It looks at both at the
// same time, since a frame that arrives on one may be answered on the other.
func (w *Wire) busy() <-chan struct{} {
	w.links[0].mu.Lock()
	defer w.links[0].mu.Unlock()
	w.links[1].mu.Lock()
	defer w.links[1].mu.Unlock()
	for _, l := range w.links {
		if l.inFlight != 0 {
			if l.idle == nil {
				l.idle = make(chan struct{})
			}
			return l.idle
		}
	}
	return nil
}

// Tap writes every frame that reaches the far end of either direction to out
// in pcap format, corrupted and duplicated ones too, until stop, which returns
// the first error of out. out is not used by two goroutines at once.
func (w *Wire) Tap(out io.Writer) (stop func() error, err error) {
	return w.taps.add(out)
}

// Close deletes both ports and counts the frames in flight as Abandoned. It
// returns when no timer delivers any more; a function the wire calls must not
// call it. The sockets remain to be closed. Idempotent.
func (w *Wire) Close() error {
	for _, p := range w.ports {
		p.Delete()
	}
	for _, l := range w.links {
		l.abandon()
	}
	return w.WaitIdle(context.Background())
}
