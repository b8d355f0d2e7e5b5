//go:build !xskdebug

package wire

import (
	"testing"
	"time"

	"github.com/afxnet/afxnet/umem"
)

// TestAllocs is about the path without timers; xskdebug notes callers, which
// allocates.
func TestAllocs(t *testing.T) {
	_, s := pair(t, Config{Faults: [2]Faults{{}, {Loss: 1e-9}}}, 64)
	d := make([]umem.Desc, 64)
	f := numbered(1, 1514)
	for i := range s {
		if n := testing.AllocsPerRun(200, func() { burst(t, s[i].TX(), s[1-i].RX(), f, d) }); n != 0 {
			t.Errorf("direction %d: %v allocations for 64 packets", i, n)
		}
	}
	wait := func(tx bool, d time.Duration) func() {
		return func() {
			if err := s[1].Wait(tx, d); err != nil {
				t.Error(err)
			}
		}
	}
	if n := testing.AllocsPerRun(200, wait(true, 0)); n != 0 {
		t.Errorf("%v allocations in a Wait that is ready", n)
	}
	if n := testing.AllocsPerRun(200, wait(false, time.Microsecond)); n != 0 {
		t.Errorf("%v allocations in a Wait that is not", n)
	}
}
