package stack

import (
	"sync"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/netdev"
)

// An owed sees to it that endpoints which owe an acknowledgement send it, unless
// they have sent something else meanwhile. There is one for each queue.
type owed struct {
	send  func(gstack.TransportEndpoint) bool // what an endpoint owes, if it still does
	flush func()                              // what was sent so

	mu         sync.Mutex                 // a leaf
	young, old []gstack.TransportEndpoint // since, and before the last round of the timer; some twice
	spare      []gstack.TransportEndpoint // memory for young
	timer      *time.Timer
	armed      bool
	closed     bool
	rounds     sync.WaitGroup // of the timer, under way
}

func (o *owed) init(send func(gstack.TransportEndpoint) bool, flush func()) {
	o.send, o.flush = send, flush
	o.timer = time.AfterFunc(time.Hour, o.round)
	o.timer.Stop()
}

// add notes that an endpoint owes an acknowledgement.
func (o *owed) add(ep gstack.TransportEndpoint) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.young); o.closed || n != 0 && o.young[n-1] == ep {
		return
	}
	o.young = append(o.young, ep)
	if !o.armed {
		o.armed = true
		o.timer.Reset(netdev.ACKPeriod(len(o.young) + len(o.old)))
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
		o.timer.Reset(netdev.ACKPeriod(len(o.young) + len(o.old)))
	}
	o.mu.Unlock()

	sent := false
	for _, ep := range due {
		sent = o.send(ep) || sent
	}
	if sent {
		o.flush()
	}
	clear(due) // they may be closed by now
	o.mu.Lock()
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
