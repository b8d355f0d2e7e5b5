package stack

import (
	"sync"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/afxnet/afxnet/netdev"
)

// An owed sees to it that endpoints which owe an acknowledgement send it, unless
// they have sent something else meanwhile. There is one for each queue.
type owed struct {
	send  func(gstack.TransportEndpoint) bool // what an endpoint owes, if it still does
	flush func()                              // what was sent so

	mu         sync.Mutex // a leaf
	young, old []debt     // since, and before the last round of the timer; some endpoints twice
	spare      []debt     // memory for young
	timer      *time.Timer
	armed      bool
	pace       netdev.ACKPace
	closed     bool
	rounds     sync.WaitGroup // of the timer, under way
}

// A debt is an acknowledgement that an endpoint owes. Whatever the endpoint sends
// settles it.
type debt struct {
	ep   gstack.TransportEndpoint
	sent uint64 // segments that it had sent by then
}

func newDebt(ep gstack.TransportEndpoint) debt { return debt{ep, segmentsSent(ep)} }

// settled tells whether the endpoint has sent something since, without its lock,
// for which its user would have to wait.
func (d debt) settled() bool { return segmentsSent(d.ep) != d.sent }

func segmentsSent(ep gstack.TransportEndpoint) uint64 {
	if e, ok := ep.(*tcp.Endpoint); ok {
		return e.Stats().(*tcp.Stats).SegmentsSent.Value()
	}
	return 0
}

func (o *owed) init(send func(gstack.TransportEndpoint) bool, flush func()) {
	o.send, o.flush = send, flush
	o.timer = time.AfterFunc(time.Hour, o.round)
	o.timer.Stop()
}

// add notes that an endpoint owes an acknowledgement. What it owed before it has
// settled.
func (o *owed) add(ep gstack.TransportEndpoint) {
	d := newDebt(ep)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	if n := len(o.young); n != 0 && o.young[n-1].ep == ep {
		o.young[n-1] = d
		return
	}
	o.young = append(o.young, d)
	if !o.armed {
		o.armed = true
		o.timer.Reset(o.pace.Period(len(o.young) + len(o.old)))
	}
}

// round is the timer: it settles what the round before has seen.
func (o *owed) round() {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return
	}
	o.rounds.Add(1)
	defer o.rounds.Done()
	due := o.old
	o.old, o.young, o.spare = o.young, o.spare, nil
	if o.armed = len(o.old) != 0; o.armed {
		o.timer.Reset(o.pace.Period(len(o.young) + len(o.old)))
	}
	o.mu.Unlock()

	sent := false
	for _, d := range due {
		sent = !d.settled() && o.send(d.ep) || sent
	}
	if sent {
		o.flush()
	}
	n := len(due)
	clear(due) // they may be closed by now
	o.mu.Lock()
	if n != 0 {
		o.pace.Fired(sent)
	}
	o.spare = due[:0]
	o.mu.Unlock()
}

// close forgets all. No add follows.
func (o *owed) close() {
	o.mu.Lock()
	o.closed, o.young, o.old = true, nil, nil
	if o.timer != nil {
		o.timer.Stop()
	}
	o.mu.Unlock()
	o.rounds.Wait()
}
