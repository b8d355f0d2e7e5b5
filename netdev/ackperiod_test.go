package netdev

import (
	"testing"
	"time"
)

// TestACKPace has the timer fire for nothing, and slow down after a while, until it
// finds something to send. What many wait for is bounded all the same.
func TestACKPace(t *testing.T) {
	var p ACKPace
	check := func(when string, waiting int, want time.Duration) {
		t.Helper()
		if got := p.Period(waiting); got != want {
			t.Errorf("%s: %v while %d wait, want %v", when, got, waiting, want)
		}
	}
	for range 2 {
		for range calmAfter {
			check("at first", 1, ackPeriod)
			p.Fired(false)
		}
		for range 2 * calmAfter {
			check("for nothing", 1, calmAckPeriod)
			p.Fired(false)
		}
		check("for nothing", 100, 100*ackTurn)
		check("for nothing", 1<<20, maxAckPeriod)
		p.Fired(true)
		check("once needed", 1, ackPeriod)
		for range calmAfter - 1 {
			p.Fired(false)
		}
		p.Fired(true)
		check("needed again", 1, ackPeriod)
	}
}
