package stack

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/wire"
)

// deafPair joins two stacks by a wire on which nothing that the first sends arrives
// while deaf is true. It asks for link addresses once.
func deafPair(t *testing.T) (ow *overWire, deaf *atomic.Bool) {
	t.Helper()
	deaf = new(atomic.Bool)
	deaf.Store(true)
	var o overWireOptions
	o.wire.Faults[0].Filter = func(wire.Dir, []byte) wire.Verdict {
		if deaf.Load() {
			return wire.Drop
		}
		return wire.Pass
	}
	ow = newOverWire(t, o)
	for _, proto := range []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
		nud := gstack.DefaultNUDConfigurations()
		nud.RetransmitTimer = time.Hour
		if terr := ow.s[0].ns.SetNUDConfigurations(nicID, proto, nud); terr != nil {
			t.Fatal(terr)
		}
	}
	return ow, deaf
}

// objects returns how many objects are on the heap.
func objects() int {
	runtime.GC()
	runtime.GC() // what was in a pool
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapObjects)
}

// TestUnresolved writes to a neighbour that does not answer: what is kept of it is
// bounded, and when the neighbour is heard the first of it arrives, and what comes then.
func TestUnresolved(t *testing.T) {
	for _, host := range [][2]string{{addrA, addrB}, {addrA6, addrB6}} {
		ow, deaf := deafPair(t)
		a, b := listenUDP(t, ow.s[0], "udp", ":7"), listenUDP(t, ow.s[1], "udp", ":7")
		to := netip.AddrPortFrom(netip.MustParseAddr(host[1]), 7)
		const n = 20000
		before := objects()
		for range n {
			if _, err := a.WriteToUDPAddrPort([]byte("early"), to); err != nil {
				t.Fatal(err)
			}
		}
		if more := objects() - before; more > n {
			t.Errorf("%s: %d objects for %d datagrams that wait for a link address", to, more, n)
		}
		deaf.Store(false)
		if _, err := b.WriteTo([]byte("here"), &net.UDPAddr{IP: net.ParseIP(host[0]), Port: 7}); err != nil {
			t.Fatal(err)
		}
		early, buf := 0, make([]byte, 10)
		for {
			k, _, err := b.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatal(err)
			}
			if string(buf[:k]) == "late" {
				break
			}
			if early++; early == 1 { // it is known now
				if _, err := a.WriteToUDPAddrPort([]byte("late"), to); err != nil {
					t.Fatal(err)
				}
			}
		}
		if early == 0 || early > maxWaiting {
			t.Errorf("%s: %d datagrams have waited, want %d at most", to, early, maxWaiting)
		}
	}
}

// TestUnresolvedPing has echo requests come from addresses that nobody has.
func TestUnresolvedPing(t *testing.T) {
	ow, _ := deafPair(t)
	port := ow.w.Port(0)
	const n = 5000
	echo := func(v6 bool) []byte {
		rest := bytes.Repeat([]byte{1}, 12)
		if v6 {
			src, dst := netip.MustParseAddr("fd00::99").AsSlice(), netip.MustParseAddr(addrA6).AsSlice()
			m := icmp6(src, dst, 128, rest)
			return frameOf(port.MAC(), ow.w.Port(1).MAC(), 0x86dd, ip6(src, dst, 58, len(m), 64), m)
		}
		m := icmp4(8, rest)
		return frameOf(port.MAC(), ow.w.Port(1).MAC(), 0x0800, ip4([]byte{10, 0, 0, 99}, []byte{10, 0, 0, 1}, 1, 1, 0, len(m), false), m)
	}
	icmp := ow.s[0].ns.Stats().ICMP
	for _, v6 := range []bool{false, true} {
		frame, replies := echo(v6), icmp.V4.PacketsSent.EchoReply
		if v6 {
			replies = icmp.V6.PacketsSent.EchoReply
		}
		before := objects()
		for i := range n {
			for !port.Inject(frame) {
				runtime.Gosched()
			}
			for replies.Value() != uint64(i+1) {
				runtime.Gosched()
			}
		}
		if more := objects() - before; more > n {
			t.Errorf("IPv6 %v: %d objects for %d replies that wait for a link address", v6, more, n)
		}
	}
}

// TestUnresolvedCrowd dials a neighbour, and before it answers more others than
// netstack asks for at a time, none of which does. Who is not there at all is told of
// all the same.
func TestUnresolvedCrowd(t *testing.T) {
	ow, deaf := deafPair(t)
	crowd, b := listenUDP(t, ow.s[0], "udp", ":7"), listenUDP(t, ow.s[1], "udp", ":7")
	l, err := ow.s[1].Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tc := range []struct {
		near, far, other string
		proto            tcpip.NetworkProtocolNumber
	}{
		{addrA, addrB, "10.0.0.100", ipv4.ProtocolNumber},
		{addrA6, addrB6, "fd00::100", ipv6.ProtocolNumber},
	} {
		deaf.Store(true)
		asked := ow.w.Stats()[wire.From0].Filtered
		dialed := make(chan error, 1)
		go func() {
			c, err := ow.s[0].Dial("tcp", net.JoinHostPort(tc.far, "80"))
			if err == nil {
				c.Close()
			}
			dialed <- err
		}()
		wait := func(n uint64) {
			t.Helper()
			if err := poll(func() error {
				if got := ow.w.Stats()[wire.From0].Filtered - asked; got < n {
					return fmt.Errorf("%s: %d neighbours were asked for, want %d", tc.far, got, n)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		wait(1)
		const others = 100
		to := netip.MustParseAddr(tc.other)
		for range others {
			if _, err := crowd.WriteToUDPAddrPort([]byte("?"), netip.AddrPortFrom(to, 7)); err != nil {
				t.Fatal(err)
			}
			to = to.Next()
		}
		wait(1 + others)
		deaf.Store(false)
		// It asks for the dialer's address, and tells its own with that.
		if _, err := b.WriteTo([]byte("here"), &net.UDPAddr{IP: net.ParseIP(tc.near), Port: 7}); err != nil {
			t.Fatal(err)
		}
		if err := <-dialed; err != nil {
			t.Error(err)
		}
		nud := gstack.DefaultNUDConfigurations()
		nud.RetransmitTimer = time.Millisecond
		if terr := ow.s[0].ns.SetNUDConfigurations(nicID, tc.proto, nud); terr != nil {
			t.Fatal(terr)
		}
		_, err := ow.s[0].Dial("tcp", net.JoinHostPort(to.String(), "80"))
		wantOp(t, err, "dial", syscall.EHOSTUNREACH)
	}
}
