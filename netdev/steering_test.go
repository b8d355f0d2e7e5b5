package netdev

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/afxnet/afxnet/internal/steering"
	"github.com/afxnet/afxnet/xsk"
)

// lostSteering is a program that is gone.
type lostSteering struct {
	steerer
	findings *steering.Mailbox
	done     chan struct{}
	err      error
}

func (s *lostSteering) Done() <-chan struct{}        { return s.done }
func (s *lostSteering) Err() error                   { return s.err }
func (s *lostSteering) Findings() <-chan xsk.Finding { return s.findings.Ready() }

// TestSteeringLost has the program go when much has been found: all of that is told, and
// why the program is gone, and then that the link is down. After Detach there is nothing
// to tell.
func TestSteeringLost(t *testing.T) {
	lost := &xsk.OpError{Op: "look for program", Device: "eth0", Queue: xsk.NoQueue, Err: os.ErrNotExist, Remedy: "put it back"}
	gone := errors.New("the helper has ended")
	for _, tc := range []struct {
		err  error
		want []string
	}{
		{lost, []string{os.ErrNotExist.Error() + ": put it back", "down"}},
		{gone, []string{gone.Error() + ": close, and open again", "down"}},
		{nil, nil},
	} {
		var told []string
		d := &Device{link: Link{Name: "eth0"}}
		d.cfg.OnFinding = func(f xsk.Finding) { told = append(told, f.Text+": "+f.Fix) }
		d.cfg.OnLink = func(err error) {
			if tc.err == nil || !errors.Is(err, tc.err) {
				t.Errorf("OnLink is told %v, want %v", err, tc.err)
			}
			told = append(told, "down")
		}
		s := &lostSteering{findings: steering.NewMailbox(), done: make(chan struct{}), err: tc.err}
		close(s.done)
		var want []string
		if tc.err != nil {
			for i := range 50 {
				s.findings.Put(xsk.Finding{Text: fmt.Sprint(i), Fix: "mend it"})
				want = append(want, fmt.Sprint(i)+": mend it")
			}
		}
		d.followSteering(s)
		if want = append(want, tc.want...); !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	}
}
