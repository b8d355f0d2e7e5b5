package stack_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/xsk"
)

// missedWithin is how soon a stack hears that its program is off the interface, of
// which the kernel tells nobody, and a blocked call ends.
const missedWithin = 4 * time.Second

// TestLabLost takes the program, or the interface, away from a stack under load: all
// calls end and say why, for good.
func TestLabLost(t *testing.T) {
	detach := func(s *labStack) error { return s.lab.DetachProgram() }
	for _, tc := range []struct {
		name   string
		attach xsk.AttachMode
		take   func(*labStack) error
		want   string
	}{
		{"native program detached", xsk.AttachNative, detach, "bpf_link was detached"},
		{"generic program detached", xsk.AttachGeneric, detach, "bpf_link was detached"},
		{"deleted", xsk.AttachNative, func(s *labStack) error { return s.lab.Delete() }, "is gone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			told := make(chan error, 1000)
			s := openLab(t, lab.Config{Queues: 2}, stack.Config{Device: netdev.Config{
				Attach: tc.attach, OnLink: func(err error) { told <- err },
			}})
			s.loseLink(t, func() error { return tc.take(s) }, missedWithin)
			checkLost(t, told, tc.want)
			s.idle(t)
			if tc.name == "deleted" { // the program went along: nobody is to blame
				<-time.After(missedWithin)
			}
			if err := s.Device().LinkErr(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// checkLost waits until OnLink is told that all is over, and why.
func checkLost(t *testing.T, told chan error, want string) {
	t.Helper()
	for late := time.After(patience); ; {
		select {
		case err := <-told:
			if errors.Is(err, syscall.ENODEV) {
				if !errors.Is(err, syscall.ENETDOWN) || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want ENETDOWN and %q", err, want)
				}
				return
			}
		case <-late:
			t.Fatal("OnLink was not told")
		}
	}
}

// TestLabLostHandover has the helper's program taken off: the process is told why.
func TestLabLostHandover(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	path := serveHelper(t, l)
	for range 2 { // the helper gives the interface again
		told := make(chan error, 1000)
		s := openIn(t, l, stack.Config{Device: netdev.Config{Handover: path, OnLink: func(err error) { told <- err }}})
		s.loseLink(t, l.DetachProgram, missedWithin)
		checkLost(t, told, "the helper: xsk: look for program, afx0: its bpf_link was detached")
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}
