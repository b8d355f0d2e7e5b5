package stack

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"github.com/afxnet/afxnet/internal/wire"
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
		if got := u.renew(timeout, 0); got != step.want {
			t.Errorf("step %d, after %v: renewed %v, want %v", i, step.wait, got, step.want)
		}
	}
	for i, step := range []struct {
		size int
		want bool
	}{{unfinishedBytes - 1, false}, {1, true}, {unfinishedBytes - 1, false}, {2, true}, {0, false}} {
		if got := u.renew(timeout, step.size); got != step.want {
			t.Errorf("step %d, after %d bytes: renewed %v, want %v", i, step.size, got, step.want)
		}
	}
}

// TestUnfinishedStays has so many fragments come, and then the rest of those, that
// netstack has had no room for what it knew before. Datagrams in fragments leave
// nothing behind all the same.
func TestUnfinishedStays(t *testing.T) {
	a4, b4 := netip.MustParseAddr(addrA).AsSlice(), netip.MustParseAddr(addrB).AsSlice()
	a6, b6 := netip.MustParseAddr(addrA6).AsSlice(), netip.MustParseAddr(addrB6).AsSlice()
	const (
		crowd = 4000 // datagrams of which the middle comes first
		size  = 1400 // bytes of that: 7 MB, of which netstack keeps 4 at most
		many  = 1000 // datagrams in two fragments
	)
	for _, v6 := range []bool{false, true} {
		ow := newOverWire(t, overWireOptions{alone: true})
		sent := 0
		send := func(id, offset, n int, more bool) {
			t.Helper()
			frame := frameOf(ow.w.Port(0).MAC(), ow.w.Port(1).MAC(), 0x0800,
				ip4(b4, a4, 17, uint16(id), offset, n, more), make([]byte, n))
			if v6 {
				f := []byte{17, 0, 0, 0, 0, 0, 0, 0}
				if binary.BigEndian.PutUint16(f[2:], uint16(offset)); more {
					f[3]++
				}
				binary.BigEndian.PutUint32(f[4:], uint32(id))
				frame = frameOf(ow.w.Port(0).MAC(), ow.w.Port(1).MAC(), 0x86dd, ip6(b6, a6, 44, len(f)+n, 64), f, make([]byte, n))
			}
			ow.w.Port(0).Inject(frame)
			if sent++; sent%128 != 0 {
				return
			}
			if err := poll(func() error {
				if received(ow.s[0]) < ow.w.Stats()[wire.From1].Delivered {
					return errors.New("frames are under way")
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		pairs := func(from int) {
			for id := from; id < from+many; id++ {
				send(id, 0, 8, true)
				send(id, 8, 8, false)
			}
		}
		pairs(0) // tables that the first ones need are made
		for id := many; id < many+crowd; id++ {
			send(id, 8, size, true)
		}
		for id := many; id < many+crowd; id++ {
			send(id, 0, 8, true)
			send(id, 8, size, true)
			send(id, 8+size, 8, false)
		}
		before := objects()
		pairs(many + crowd)
		if more := objects() - before; more > many {
			t.Errorf("IPv6 %v: %d objects are left of %d datagrams", v6, more, many)
		}
	}
}
