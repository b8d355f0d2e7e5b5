package stack

import (
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// newEthernetPair joins two stacks by a wire with Ethernet headers. asked
// counts the ARP packets and neighbor solicitations that a sends.
func newEthernetPair(t *testing.T, a, b Config) (sa, sb *Stack, asked *atomic.Int32) {
	t.Helper()
	wa, wb := newWire(false)
	wa.addr, wb.addr = "\x02\x00\x00\x00\x00\x0a", "\x02\x00\x00\x00\x00\x0b"
	asked = new(atomic.Int32)
	saw := func(pkt *gstack.PacketBuffer) {
		buf := pkt.ToBuffer()
		b := buf.Flatten() // Ethernet, IPv6, ICMPv6
		buf.Release()
		const next, kind = header.EthernetMinimumSize + 6, header.EthernetMinimumSize + header.IPv6MinimumSize
		if pkt.NetworkProtocolNumber == arp.ProtocolNumber ||
			len(b) > kind && b[next] == uint8(header.ICMPv6ProtocolNumber) && b[kind] == uint8(header.ICMPv6NeighborSolicit) {
			asked.Add(1)
		}
	}
	wa.saw.Store(&saw)
	var err error
	if sa, err = newStack(a, ethernet.New(wa), nil, false, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sa.Close() })
	if sb, err = newStack(b, ethernet.New(wb), nil, false, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sb.Close() })
	return sa, sb, asked
}

// TestNeighbors connects by ARP and by neighbor discovery.
func TestNeighbors(t *testing.T) {
	a, b, asked := newEthernetPair(t, testConfig(addrA, addrA6), testConfig(addrB, addrB6))
	l, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, host := range []string{addrB, addrB6} {
		asked.Store(0)
		c, err := a.Dial("tcp", net.JoinHostPort(host, "80"))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if asked.Load() == 0 {
			t.Errorf("%s: connected without asking for its link address", host)
		}
	}
	// Nobody answers: ask faster than each second.
	var nud gstack.NUDConfigurations
	nud.RetransmitTimer = time.Millisecond
	if terr := a.ns.SetNUDConfigurations(nicID, ipv4.ProtocolNumber, nud); terr != nil {
		t.Fatal(terr)
	}
	_, err = a.Dial("tcp", "10.0.0.99:80")
	wantOp(t, err, "dial", syscall.EHOSTUNREACH)
}

func TestStaticNeighbor(t *testing.T) {
	cfg := testConfig(addrA)
	cfg.Neighbors = []Neighbor{{netip.MustParseAddr(addrB), net.HardwareAddr{2, 0, 0, 0, 0, 0xb}}}
	cfg.Gateways = []netip.Addr{netip.MustParseAddr(addrB)}
	cfgB := testConfig(addrB, "192.0.2.7")
	cfgB.Gateways = []netip.Addr{netip.MustParseAddr(addrA)}
	a, b, asked := newEthernetPair(t, cfg, cfgB)
	l, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// The second address is behind the first, by the default route.
	for _, host := range []string{addrB, "192.0.2.7"} {
		// Answering b's question is no question.
		before := asked.Load()
		c, err := a.Dial("tcp", host+":80")
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if host != addrB && asked.Load() != before {
			t.Errorf("%s: asked for a link address that is known", host)
		}
	}
}

// TestCloseOfBadLink checks that a stack that cannot be made is taken apart.
func TestCloseOfBadLink(t *testing.T) {
	wa, wb := newWire(false)
	cfg := testConfig(addrA)
	// A wire without link addresses has no neighbors.
	cfg.Neighbors = []Neighbor{{netip.MustParseAddr(addrB), net.HardwareAddr{2, 0, 0, 0, 0, 0xb}}}
	if _, err := newStack(cfg, wa, wa, false, nil); err == nil {
		t.Fatal("no error")
	}
	wb.Close()
	noGoroutines(t)
}
