package stack

import (
	"io"
	"net/netip"
	"testing"

	"github.com/afxnet/afxnet/internal/raced"
)

// pingPong returns a function that sends n bytes to a peer that sends them
// back, and waits for them.
func pingPong(t testing.TB, n int) func() {
	p := newPairWith(t, pairOptions{a: testConfig(addrA), b: testConfig(addrB)})
	p.a.idle, p.b.idle = nil, nil
	c, s := p.connect(t, "tcp", addrB)
	return roundTrip(t, c, s, n)
}

// roundTrip has s send back what comes, n bytes at a time, and returns a
// function that sends n bytes from c and waits for them.
func roundTrip(t testing.TB, c, s io.ReadWriter, n int) func() {
	go func() {
		b := make([]byte, n)
		for {
			if _, err := io.ReadFull(s, b); err != nil {
				return
			}
			if _, err := s.Write(b); err != nil {
				return
			}
		}
	}()
	b := make([]byte, n)
	return func() {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTCPAllocs counts the allocations of a whole round trip: both adapters,
// both stacks, and the wire.
func TestTCPAllocs(t *testing.T) {
	f := pingPong(t, 64)
	for range 100 {
		f()
	}
	// Less than one: a garbage collection empties netstack's pools.
	if got := testing.AllocsPerRun(raced.Few(2000, 100), f); got >= 1 && !raceEnabled {
		t.Errorf("%v allocations per round trip, want 0", got)
	}
}

func TestUDPAllocs(t *testing.T) {
	p := newPairWith(t, pairOptions{a: testConfig(addrA), b: testConfig(addrB)})
	s := listenUDP(t, p.b, "udp4", ":53")
	c := listenUDP(t, p.a, "udp4", ":0")
	to := netip.MustParseAddrPort(addrB + ":53")
	b := make([]byte, 64)
	round := func() {
		if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.ReadFromUDPAddrPort(b); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		round()
	}
	// Less than one: a garbage collection empties netstack's pools.
	if got := testing.AllocsPerRun(raced.Few(1000, 100), round); got >= 1 && !raceEnabled {
		t.Errorf("%v allocations per datagram, want 0", got)
	}
}

func BenchmarkTCPPingPong(b *testing.B) {
	f := pingPong(b, 64)
	b.ReportAllocs()
	for b.Loop() {
		f()
	}
}
