package stack

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// TestFragmentsTogether has several sockets write datagrams in fragments to one host,
// and each writer lose its processor after each fragment: those of one datagram leave
// together, and all as one flow, so that no link takes them in turns. Linux gives a
// datagram up when more than 64 others have come between two of its fragments.
func TestFragmentsTogether(t *testing.T) {
	for _, off := range []bool{false, true} {
		for _, host := range []string{addrB, addrB6} {
			t.Run(fmt.Sprintf("%s/fastip=%v", host, !off), func(t *testing.T) { testFragmentsTogether(t, host, off) })
		}
	}
}

func testFragmentsTogether(t *testing.T, host string, off bool) {
	a := testConfig(addrA, addrA6)
	a.NoFastIP = off
	p := newPairWith(t, pairOptions{verified: true, a: a, b: testConfig(addrB, addrB6)})
	to := netip.AddrPortFrom(netip.MustParseAddr(host), 9)
	type fragment struct {
		id   uint32
		last bool
		flow uint32
	}
	var mu sync.Mutex
	var seen []fragment
	saw := func(pkt *gstack.PacketBuffer) {
		h := pkt.NetworkHeader().Slice()
		f := fragment{flow: pkt.Hash}
		if header.IPVersion(h) == header.IPv4Version {
			f.id, f.last = uint32(header.IPv4(h).ID()), !header.IPv4(h).More()
		} else if h := header.IPv6(h); h.NextHeader() == header.IPv6FragmentHeader {
			e := header.IPv6Fragment(h[header.IPv6MinimumSize:])
			f.id, f.last = e.ID(), !e.More()
		} else {
			return // neighbour discovery
		}
		mu.Lock()
		seen = append(seen, f)
		mu.Unlock()
		runtime.Gosched()
	}
	p.wa.saw.Store(&saw)
	const writers, each = 4, 50
	var wg sync.WaitGroup
	for range writers {
		u := listenUDP(t, p.a, "udp", ":0")
		wg.Go(func() {
			for range each {
				if _, err := u.WriteToUDPAddrPort(make([]byte, 8000), to); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	p.wa.saw.Store(nil)
	ids := make(map[uint32]bool)
	for i, f := range seen {
		ids[f.id] = true
		if f.flow != seen[0].flow || f.flow == 0 {
			t.Fatalf("a fragment of flow %#x, others of %#x", f.flow, seen[0].flow)
		}
		if i > 0 && !seen[i-1].last && f.id != seen[i-1].id {
			t.Fatalf("fragment %d is of another datagram than the one before, which is not its last", i)
		}
	}
	if len(ids) != writers*each || ids[0] && host == addrB {
		t.Errorf("%d datagrams have %d IDs (0 among them: %v)", writers*each, len(ids), ids[0])
	}
}
