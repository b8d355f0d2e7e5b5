package stack

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/netdev"
)

// echoUDP sends back what comes, until the socket is closed.
func echoUDP(u *UDPConn) {
	b := make([]byte, 2048)
	for {
		n, from, err := u.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		u.WriteToUDPAddrPort(b[:n], from) //nolint:errcheck // the other end tells
	}
}

// udpRounds are the ways to exchange a datagram, and how often one allocates.
var udpRounds = []struct {
	name   string
	allocs float64
	round  func(t testing.TB, s *Stack, to netip.AddrPort, b []byte) func() error
}{
	{"Read Write", 0, func(t testing.TB, s *Stack, to netip.AddrPort, b []byte) func() error {
		c, err := s.Dial("udp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return func() error {
			if _, err := c.Write(b); err != nil {
				return err
			}
			n, err := c.Read(b)
			return wrongLength(n, b, err)
		}
	}},
	{"AddrPort", 0, func(t testing.TB, s *Stack, to netip.AddrPort, b []byte) func() error {
		c := listenUDP(t, s, "udp", ":0")
		return func() error {
			if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
				return err
			}
			n, _, err := c.ReadFromUDPAddrPort(b)
			return wrongLength(n, b, err)
		}
	}},
	// The address, as with package net.
	{"ReadFrom WriteTo", 1, func(t testing.TB, s *Stack, to netip.AddrPort, b []byte) func() error {
		c := listenUDP(t, s, "udp", ":0")
		addr := net.Addr(net.UDPAddrFromAddrPort(to))
		return func() error {
			if _, err := c.WriteTo(b, addr); err != nil {
				return err
			}
			n, _, err := c.ReadFrom(b)
			return wrongLength(n, b, err)
		}
	}},
}

func wrongLength(n int, b []byte, err error) error {
	if err == nil && n != len(b) {
		err = fmt.Errorf("%d bytes of %d", n, len(b))
	}
	return err
}

// udpPingPong returns a function that exchanges a datagram of n bytes over
// everything there is.
func udpPingPong(t testing.TB, way, n int, host string, poll netdev.PollMode) func() {
	var o overWireOptions
	o.config[0].Device.Poll, o.config[1].Device.Poll = poll, poll
	ow := newOverWire(t, o)
	go echoUDP(listenUDP(t, ow.s[1], "udp", ":53"))
	to := netip.AddrPortFrom(netip.MustParseAddr(host), 53)
	round := udpRounds[way].round(t, ow.s[0], to, make([]byte, n))
	return func() {
		if err := round(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOverWireUDPAllocs counts the allocations of an exchange: both sockets,
// both stacks, both devices and the wire.
func TestOverWireUDPAllocs(t *testing.T) {
	for way, w := range udpRounds {
		for _, host := range []string{addrB, addrB6} {
			t.Run(w.name+" "+host, func(t *testing.T) {
				if host == addrB6 && mechanism.Off(mechanism.FastIP) {
					t.Skip("netstack's own IPv6 layer allocates for each packet")
				}
				f := udpPingPong(t, way, 64, host, netdev.PollAdaptive)
				for range raced.Few(2000, 100) {
					f()
				}
				// AllocsPerRun rounds down: a garbage collection empties
				// netstack's pools.
				if got := testing.AllocsPerRun(raced.Few(5000, 100), f); got > w.allocs && !raceEnabled {
					t.Errorf("%v allocations per exchange, want %v", got, w.allocs)
				}
			})
		}
	}
}

func BenchmarkOverWireUDP(b *testing.B) {
	for way, w := range udpRounds {
		for _, host := range []string{addrB, addrB6} {
			for _, poll := range []netdev.PollMode{netdev.PollAdaptive, netdev.PollBlock} {
				b.Run(fmt.Sprintf("way=%s/to=%s/len=64/poll=%v", w.name, host, poll), func(b *testing.B) {
					f := udpPingPong(b, way, 64, host, poll)
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
	}
}
