package netdev

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/afxnet/afxnet/internal/hostif"
)

// TestMoved has the interface go, and go to another namespace, where its settings stay
// as they are: that is said.
func TestMoved(t *testing.T) {
	for _, moved := range []bool{false, true} {
		r := newRig(t, rigConfig{idle: true})
		r.d.onLink(hostif.Event{Change: hostif.ChangeGone, State: hostif.State{Moved: moved}})
		err := r.d.LinkErr()
		if !errors.Is(err, syscall.ENETDOWN) || !errors.Is(err, syscall.ENODEV) || strings.Contains(err.Error(), "ethtool -K wire0 rxvlan on") != moved {
			t.Errorf("moved %t: %v", moved, err)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("moved %t: %q: more than one line", moved, err)
		}
	}
}
