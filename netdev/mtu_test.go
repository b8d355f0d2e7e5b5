package netdev

import (
	"testing"

	"github.com/afxnet/afxnet/internal/hostif"
)

// TestMTU has netstack and the interface change the MTU by turns.
func TestMTU(t *testing.T) {
	r := newRig(t, rigConfig{idle: true, chunk: 4096})
	ask := func(mtu int) { r.d.LinkEndpoint().SetMTU(uint32(mtu)) }
	link := func(mtu int) {
		r.d.onLink(hostif.Event{Change: hostif.ChangeMTU, State: hostif.State{Present: true, Up: true, Running: true, MTU: mtu}})
	}
	for i, step := range []struct {
		set  func(int)
		mtu  int
		want int
	}{
		{ask, 1400, 1400},
		{link, 1500, 1400}, // the watch's first event
		{link, 3000, 1400},
		{ask, 2000, 2000}, // more than it had at first
		{ask, 3001, 2000},
		{ask, 575, 2000},
		{link, 1300, 1300},
		{ask, 1400, 1300}, // more than it has now
		{ask, 1301, 1300},
		{link, 2500, 2000},
		{ask, 2500, 2500}, // none of its own
		{link, 3500, 3500},
		{link, 9000, chunkMTU(4096)},
		{ask, 1000, 1000},
		{link, 575, 1000}, // nothing is sent: see below
		{link, 576, 576},
		{link, 1500, 1000},
	} {
		if step.set(step.mtu); r.d.MTU() != step.want || r.d.LinkEndpoint().MTU() != uint32(step.want) {
			t.Errorf("step %d: MTU %d, want %d", i, r.d.MTU(), step.want)
		}
		if err := r.d.LinkErr(); (err != nil) != (step.mtu == 575 && i > 10) {
			t.Errorf("step %d: %v", i, err)
		}
	}
}
