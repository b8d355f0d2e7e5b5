package stack

import (
	"testing"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/netdev"
)

// wirePingPong returns a function that sends n bytes through everything there
// is, from Write to the rings and back to Read, to a peer that sends them back.
func wirePingPong(t testing.TB, n int, host string, poll netdev.PollMode) func() {
	var o overWireOptions
	o.config[0].Device.Poll, o.config[1].Device.Poll = poll, poll
	ow := newOverWire(t, o)
	c, s := ow.tcpPair(t, host)
	return roundTrip(t, c, s, n)
}

// TestOverWireAllocs counts the allocations of a round trip: both sockets, both
// stacks, both devices and the wire.
func TestOverWireAllocs(t *testing.T) {
	for _, poll := range []netdev.PollMode{netdev.PollAdaptive, netdev.PollBlock} {
		for _, host := range []string{addrB, addrB6} {
			t.Run(poll.String()+" "+host, func(t *testing.T) {
				if host == addrB6 && mechanism.Off(mechanism.FastIP) {
					t.Skip("netstack's own IPv6 layer allocates for each packet")
				}
				f := wirePingPong(t, 64, host, poll)
				for range raced.Few(2000, 100) {
					f()
				}
				// AllocsPerRun rounds down: a garbage collection empties
				// netstack's pools.
				if got := testing.AllocsPerRun(raced.Few(5000, 100), f); got > 0 && !raceEnabled {
					t.Errorf("%v allocations per round trip, want 0", got)
				}
			})
		}
	}
}

func BenchmarkOverWirePingPong(b *testing.B) {
	for _, poll := range []netdev.PollMode{netdev.PollAdaptive, netdev.PollBlock} {
		b.Run("len=64/poll="+poll.String(), func(b *testing.B) {
			f := wirePingPong(b, 64, addrB, poll)
			for range 2000 {
				f()
			}
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
