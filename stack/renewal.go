package stack

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// renewEvery is how often the congestion control of idle connections begins anew.
const renewEvery = 24 * time.Hour

// A renewal bounds the time that CUBIC counts. Its window grows with the cube of the
// time since the last loss (RFC 9438, 4.2), and netstack's counts on while nothing is
// sent. After 71 days the first acknowledgement that follows a pause makes a window of
// 10 segments larger than an int, which on amd64 is a number below zero: the connection
// sends nothing any more, for good (cubicState.getCwnd in
// pkg/tcpip/transport/tcp/cubic.go). So once a day connections with nothing under way
// begin anew. One that never has a pause does without, for there each acknowledgement
// adds little to a window that is large.
type renewal struct {
	mu    sync.Mutex // held for a whole round; below it are Stack.mu and endpoints' locks
	timer *time.Timer
	ended bool
}

func (r *renewal) start(s *Stack) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer = time.AfterFunc(renewEvery, func() { r.round(s) })
}

func (r *renewal) round(s *Stack) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.timer.Reset(renewEvery)
	for _, ep := range s.tcpEndpoints() {
		s.renew(ep)
	}
}

// end waits for a round that is under way.
func (r *renewal) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended = true; r.timer != nil {
		r.timer.Stop()
	}
}

// tcpEndpoints returns the endpoints of open TCP sockets.
func (s *Stack) tcpEndpoints() (all []tcpip.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := s.first; k != nil; k = k.next {
		if t, ok := k.below.(*tcpSocket); ok {
			all = append(all, t.ep)
		}
	}
	return all
}

// renew gives an endpoint a new congestion control, if it has CUBIC and nothing under
// way. In the middle of a recovery it would lose the window that it is to go on with.
func (s *Stack) renew(ep tcpip.Endpoint) {
	t, flow, ok := s.guard.flowOf(ep)
	if !ok {
		return
	}
	if una, nxt, ok := t.progress(flow); !ok || una != nxt {
		return
	}
	var cc tcpip.CongestionControlOption
	if terr := ep.GetSockOpt(&cc); terr == nil && cc == congestionWAN {
		_ = ep.SetSockOpt(&cc) // netstack has it: it cannot fail
	}
}
