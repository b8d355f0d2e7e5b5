package stack

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/hostile"
	"github.com/afxnet/afxnet/internal/wire"
)

// heapRoom is what a siege may add to the heap, in bytes: two reassembly
// buffers of 4 MB, neighbours and those who wait for them, half-open
// connections, and what pools keep.
const heapRoom = 64 << 20

// TestHostile has an attacker send frames to a stack with established flows:
// nothing may panic, leak or grow, every frame is counted, and every flow still
// carries what is sent, or was reset by the one segment that may.
func TestHostile(t *testing.T) {
	n, round := 100_000, 20_000
	switch {
	case *hostileFrames > 0:
		n, round = *hostileFrames, 50_000
	case testing.Short():
		n = 40_000
	case raceEnabled:
		n, round = 15_000, 5_000
	}
	before := len(goroutinesOf("gvisor.dev/gvisor"))
	s := laySiege(t, 1)
	s.verify(t)
	base := heap()
	start := s.reachedAll()
	began := time.Now()
	for done := 0; done < n; done += round {
		s.gen.SetFlows(s.state(t))
		s.attack(t, min(round, n-done))
		s.verify(t)
		if h := heap(); h > s.peak {
			s.peak = h
			if h > base+heapRoom {
				t.Fatalf("after %d frames the heap has grown from %d to %d bytes", done+round, base, h)
			}
		}
		if t.Failed() {
			t.Fatalf("after %d frames", done+round)
		}
		if *hostileFrames > 0 && done/round%20 == 0 {
			t.Logf("%9d frames, %v, heap %d MB, %d goroutines", done+round, time.Since(began).Round(time.Second), heap()>>20, runtime.NumGoroutine())
		}
	}
	s.rest(t)
	s.count(t, uint64(n), s.reachedAll()-start)
	t.Logf("heap: %.1f MB before, %.1f MB at most; goroutines of netstack: %d before", float64(base)/1e6, float64(s.peak)/1e6, before)
}

// count checks that every frame is counted in one place.
func (s *siege) count(t *testing.T, n, reached uint64) {
	t.Helper()
	st := s.w.Stats()[wire.From1]
	if st.Injected != n || s.injected != n {
		t.Errorf("%d frames, %d injected, %d counted", n, s.injected, st.Injected)
	}
	if err := st.Check(); err != nil {
		t.Error(err)
	}
	if got := received(s.s[0]); got != st.Delivered {
		t.Errorf("%d frames delivered, %d counted by the device", st.Delivered, got)
	}
	q := deviceStats(s.s[0])[0]
	if q.Socket.RXBadDescs != s.bad {
		t.Errorf("%d bad descriptors pushed, %d counted", s.bad, q.Socket.RXBadDescs)
	}
	if q.Socket.TXStrays != s.strays {
		t.Errorf("%d false completions pushed, %d counted", s.strays, q.Socket.TXStrays)
	}
	var classes []string
	for c, k := range s.class {
		classes = append(classes, fmt.Sprintf("%v %d", hostile.Class(c), k))
	}
	t.Logf("frames: %s", strings.Join(classes, ", "))
	t.Logf("%d of %d reached a flow's endpoint (%.1f%%), %d flows were rightly reset, %d bad descriptors, %d false completions",
		reached, n, float64(reached)*100/float64(n), s.resets, s.bad, s.strays)
	t.Logf("wire: %+v", st)
	t.Logf("device: %v; %d frames up in %d packets", q.Drops, q.RXDelivered, q.RXPackets)
	refused, forged := s.s[0].guard.forged.Load(), s.class[hostile.Forged]
	t.Logf("%d segments were refused for their acknowledgements, %d were in the window", refused, forged)
	if refused < forged*9/10 { // GRO may join two
		t.Errorf("%d forged segments, %d refused", forged, refused)
	}
	if reached*2 < n {
		t.Errorf("%d of %d frames reached an established flow: less than half", reached, n)
	}
}
