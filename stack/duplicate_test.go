package stack

import (
	"errors"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/raced"
)

// TestWhileStalled has the check for duplicate addresses be made again while the process
// gets no processor, but not for ever, and not after an answer.
func TestWhileStalled(t *testing.T) {
	const should = duplicateProbes * duplicateWait
	found := errors.New("somebody has the address")
	for _, tc := range []struct {
		name  string
		takes []time.Duration
		fails int // the check that does, counted from 1
	}{
		{"in time", []time.Duration{should + should/2}, 0},
		{"stalled once", []time.Duration{time.Minute, should}, 0},
		{"stalled for good", []time.Duration{2 * should, 3 * should, time.Hour, time.Hour}, 0},
		{"found", []time.Duration{time.Minute, time.Minute}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				checks := 0
				err := whileStalled(should, func() error {
					if checks++; checks > len(tc.takes) {
						t.Fatalf("check %d, want %d", checks, len(tc.takes))
					}
					time.Sleep(tc.takes[checks-1])
					if checks == tc.fails {
						return found
					}
					return nil
				})
				if checks != len(tc.takes) || errors.Is(err, found) != (tc.fails != 0) {
					t.Errorf("%d checks, want %d: %v", checks, len(tc.takes), err)
				}
			})
		})
	}
}
