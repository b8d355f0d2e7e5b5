package netdev

import (
	"testing"

	"github.com/afxnet/afxnet/internal/raced"
)

// endless tells whether callers may arm for ever over a packet that is in the
// ring: whether, among the steps that neither put packets into the ring nor take
// them and that are not the first of a caller's round, there is a cycle in which
// one arms. It finds the strongly connected parts of that graph (Tarjan).
func endless(f flaw, k kernel) bool {
	var (
		order = make(map[protocol]int) // of the first visit, from 1
		part  = make(map[protocol]int) // by the least order in it, once it is whole
		stack []protocol               // visited, of parts that are not whole
		other = []protocol{asleep(1)}  // what the other steps lead to
	)
	other[0].rounds[auditor] = 0 // does as a caller does that rests
	if k.doze {
		other[0].rounds[auditor-1] = 0 // one caller and the poller are enough
	}
	same := func(s, t protocol) bool { return s.ring == t.ring && s.rounds == t.rounds }
	var visit func(s protocol) (low int)
	visit = func(s protocol) int {
		n := len(order) + 1
		order[s] = n
		low := n
		stack = append(stack, s)
		for i := range actors {
			for _, t := range s.next(i, f, k) {
				switch {
				case !same(s, t):
					other = append(other, t)
				case order[t] == 0:
					low = min(low, visit(t))
				case part[t] == 0:
					low = min(low, order[t])
				}
			}
		}
		if s.coming > 0 {
			other = append(other, s.arrive())
		}
		for low == n && part[s] == 0 {
			last := len(stack) - 1
			part[stack[last]] = n
			stack = stack[:last]
		}
		return low
	}
	for len(other) > 0 {
		s := other[len(other)-1]
		other = other[:len(other)-1]
		if order[s] == 0 {
			visit(s)
		}
	}
	for s := range order {
		for i := range actors {
			if s.at[i] != cArm || s.ring == 0 {
				continue
			}
			for _, t := range s.next(i, f, k) {
				if part[t] == part[s] {
					return true
				}
			}
		}
	}
	return false
}

// TestPollProtocolEnds finds nobody who arms for ever while a packet waits, as
// callers and the poller would that wake and miss each other by turns.
func TestPollProtocolEnds(t *testing.T) {
	if raced.Enabled {
		t.Skip("a goroutine that computes by itself races with none")
	}
	for _, k := range kernels {
		if endless(flaw{}, k) {
			t.Errorf("%+v: arming goes on for ever", k)
		}
		if !endless(flaw{noPollAgain: true}, k) {
			t.Errorf("%+v: arming without polling is not found to go on for ever", k)
		}
	}
}
