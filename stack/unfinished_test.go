package stack

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"
)

// TestUnfinishedClock has the fragment from nobody renewed by the clock that netstack
// gives it up by.
func TestUnfinishedClock(t *testing.T) {
	clock := faketime.NewManualClock()
	clock.Advance(time.Hour)
	u := newUnfinished(clock)
	const timeout = 30 * time.Second
	for i, step := range []struct {
		wait time.Duration
		want bool
	}{{0, true}, {0, false}, {timeout/2 + 1, false}, {timeout / 2, true}, {0, false}, {timeout, true}} {
		clock.Advance(step.wait)
		if got := u.renew(timeout); got != step.want {
			t.Errorf("step %d, after %v: renewed %v, want %v", i, step.wait, got, step.want)
		}
	}
}
