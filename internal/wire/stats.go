package wire

import (
	"fmt"
	"sync/atomic"
)

// Stats are the counters of both directions, by Dir.
type Stats [2]DirStats

// DirStats counts frames in one direction. The first group is what came in,
// the second where each of them ended.
type DirStats struct {
	Sent       uint64 // taken from a TX ring, or given to Port.Send
	Injected   uint64 // given to Port.Inject of the receiving port
	Duplicated uint64 // further copies made by Faults.Duplicate

	Delivered        uint64 // put into an RX ring, or given to OnReceive
	DeliveredCorrupt uint64 // the same, with bits flipped
	Lost             uint64 // Faults.Loss
	Filtered         uint64 // Faults.Filter said Drop
	QueueFull        uint64 // Faults.QueueBytes were waiting
	PortDown         uint64 // one of the ports was down or gone
	NoSocket         uint64 // no socket on the queue that RSS chose
	TooLong          uint64 // longer than the port's MTU or a chunk
	NoFrame          uint64 // fill ring empty
	RXFull           uint64 // RX ring full
	Abandoned        uint64 // in flight at Wire.Close
	InFlight         uint64 // not there yet

	Reordered uint64 // of all, held back by Faults.Reorder
}

// Check returns an error unless each frame that came in is counted in exactly
// one place. It holds whenever no frame is being sent or delivered just then:
// after the senders have stopped and Wire.WaitIdle has returned.
func (s DirStats) Check() error {
	in := s.Sent + s.Injected + s.Duplicated
	out := s.Delivered + s.DeliveredCorrupt + s.Dropped() + s.InFlight
	if in != out {
		return fmt.Errorf("wire: %d frames came in, %d are accounted for: %+v", in, out, s)
	}
	return nil
}

// Dropped returns how many frames ended without being delivered.
func (s DirStats) Dropped() uint64 {
	return s.Lost + s.Filtered + s.QueueFull + s.PortDown + s.NoSocket +
		s.TooLong + s.NoFrame + s.RXFull + s.Abandoned
}

// outcome is where a frame ends.
type outcome int

const (
	delivered outcome = iota
	deliveredCorrupt
	lost
	filtered
	queueFull
	portDown
	noSocket
	tooLong
	noFrame
	rxFull
	abandoned
	numOutcomes
)

// counters belongs to one direction; any goroutine adds to it.
type counters struct {
	sent, injected, duplicated atomic.Uint64
	inFlight, reordered        atomic.Uint64
	ended                      [numOutcomes]atomic.Uint64
}

func (c *counters) end(o outcome) { c.ended[o].Add(1) }

func (c *counters) read() DirStats {
	n := func(o outcome) uint64 { return c.ended[o].Load() }
	return DirStats{
		Sent: c.sent.Load(), Injected: c.injected.Load(), Duplicated: c.duplicated.Load(),
		Delivered: n(delivered), DeliveredCorrupt: n(deliveredCorrupt),
		Lost: n(lost), Filtered: n(filtered), QueueFull: n(queueFull),
		PortDown: n(portDown), NoSocket: n(noSocket), TooLong: n(tooLong),
		NoFrame: n(noFrame), RXFull: n(rxFull), Abandoned: n(abandoned),
		InFlight: c.inFlight.Load(), Reordered: c.reordered.Load(),
	}
}
