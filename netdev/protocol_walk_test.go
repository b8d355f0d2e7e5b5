package netdev

import (
	"fmt"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/internal/raced"
)

// asleep is the state to begin with, and how many packets will come.
func asleep(packets int) protocol {
	s := protocol{holder: free, coming: uint8(packets), parks: uint8(pollerParks)}
	for i := 1; i < actors; i++ {
		s.at[i], s.rounds[i] = cAsleep, 1
	}
	s.rounds[minder] = 0
	return s
}

// arrive puts a packet into the ring.
func (s protocol) arrive() protocol {
	s.coming--
	s.ring++
	if s.armed {
		s.armed, s.ready = false, true
	}
	return s
}

// walk visits every reachable state. It returns how many there are and the way
// to a stranded one, empty if there is none.
func walk(f flaw, k kernel) (states int, way []string) {
	type step struct {
		from  protocol
		actor int8 // -1 is the source of packets
	}
	packets := 2
	if k.doze {
		packets = 1 // there are ten times as many states
	}
	start := asleep(packets)
	if k.doze {
		start.rounds[auditor] = 0 // it does what the minder does
	}
	came := map[protocol]step{start: {}}
	queue := []protocol{start}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if s.stranded(k) {
			for s != start {
				c := came[s]
				if s = c.from; c.actor < 0 {
					way = append(way, "a packet arrives")
				} else {
					way = append(way, fmt.Sprintf("actor %d: %s", c.actor, placeNames[s.at[c.actor]]))
				}
			}
			return len(came), way
		}
		visit := func(t protocol, actor int8) {
			if _, seen := came[t]; !seen {
				came[t] = step{s, actor}
				queue = append(queue, t)
			}
		}
		for i := range actors {
			for _, t := range s.next(i, f, k) {
				visit(t, int8(i))
			}
		}
		if s.coming > 0 {
			visit(s.arrive(), -1)
		}
	}
	return len(came), nil
}

var kernels = []kernel{{}, {askAnew: true}, {doze: true}, {askAnew: true, doze: true}}

// TestPollProtocol finds no state in which a packet is left to nobody, whatever
// the order of steps.
func TestPollProtocol(t *testing.T) {
	if raced.Enabled {
		t.Skip("a goroutine that computes by itself races with none")
	}
	for _, k := range kernels {
		n, way := walk(flaw{}, k)
		if way != nil {
			t.Errorf("%+v: stranded after (last step first)\n%s", k, strings.Join(way, "\n"))
		}
		if n < 10000 {
			t.Errorf("%+v: only %d states", k, n)
		}
	}
}

// TestPollProtocolFlaws shows that the checker finds what the protocol is for.
func TestPollProtocolFlaws(t *testing.T) {
	if raced.Enabled {
		t.Skip("a goroutine that computes by itself races with none")
	}
	for name, f := range map[string]flaw{
		"the poller does not set missed":        {noMissed: true},
		"callers do not look at missed":         {noLook: true},
		"no second try after missed":            {noTryAgain: true},
		"missed after the last try":             {missedLate: true},
		"arm after unlock":                      {armLate: true},
		"callers do not arm":                    {noArm: true},
		"callers do not arm for missed":         {noArmAgain: true},
		"Audit unlocks without looking at that": {auditNoLook: true},
		"missed is cleared without the lock":    {clearFirst: true},
		"disarm without the lock":               {disarmUnlocked: true},
		"late without a minder":                 {noMinder: true},
		"the minder does not arm":               {minderNoArm: true},
		"the minder stops too late":             {minderLate: true},
		"the minder does not look at missed":    {minderNoLook: true},
		"callers do not set missed":             {callerNoMissed: true},
		"callers set missed once":               {callerOnce: true},
		"the poller does not look at missed":    {pollerNoLook: true},
		"callers rest and do not arm":           {restNoArm: true},
		"callers rest and count as polling":     {restPolled: true},
		"nor who comes in passing":              {passerNoLook: true},

		"the poller that is kicked arms late":        {kickedLate: true},
		"nobody kicks the poller":                    {noKick: true},
		"the poller parks beside a caller":           {parkAnyhow: true},
		"the poller parks because it cannot lock":    {parkMissed: true},
		"the place is given up with the lock":        {riseLate: true},
		"who was woken otherwise does not look":      {riseAway: true},
		"callers who find nothing do not look at it": {foundNoLook: true},
	} {
		found := false
		for _, k := range kernels {
			if found || k.doze != f.dozes() {
				continue
			}
			_, way := walk(f, k)
			found = way != nil
		}
		if !found {
			t.Errorf("%s: not found", name)
		}
	}
}
