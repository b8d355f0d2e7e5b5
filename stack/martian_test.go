package stack

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// A logRecord keeps what netstack logs.
type logRecord struct {
	mu    sync.Mutex
	lines []string
}

// Emit implements log.Emitter.
func (r *logRecord) Emit(_ int, _ log.Level, _ time.Time, format string, v ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, v...))
}

// TestMartians has packets from and to loopback addresses come from the link: they
// are counted and dropped, and nothing is logged.
func TestMartians(t *testing.T) {
	r, before := new(logRecord), log.Log().Emitter
	log.SetTarget(r)
	defer log.SetTarget(before)
	for _, off := range []bool{false, true} {
		a := testConfig(addrA, addrA6)
		a.NoFastIP = off
		p := newPairWith(t, pairOptions{verified: true, a: a, b: testConfig(addrB, addrB6)})
		u := listenUDP(t, p.a, "udp", ":8")
		p.wa.inject(ipv4.ProtocolNumber, udpPacket("127.0.0.1", addrA, 8, "forged"))
		p.wa.inject(ipv4.ProtocolNumber, udpPacket("127.0.0.1", "127.0.0.1", 8, "forged"))
		p.wa.inject(ipv4.ProtocolNumber, udpPacket(addrB, "127.9.9.9", 8, "forged"))
		p.wa.inject(ipv4.ProtocolNumber, udpPacket(addrB, addrA, 8, "honest"))
		b := make([]byte, 10)
		if n, _, err := u.ReadFrom(b); string(b[:n]) != "honest" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		ip := p.a.ns.Stats().IP
		if from, to := ip.InvalidSourceAddressesReceived.Value(), ip.InvalidDestinationAddressesReceived.Value(); from != 2 || to != 1 {
			t.Errorf("%d packets from loopback addresses, and %d to them, want 2 and 1", from, to)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) != 0 {
		t.Errorf("logged: %q", r.lines)
	}
}

// TestUnspecifiedSources has datagrams come from nowhere: a server that answers
// everybody would send to the stack itself, and hear itself from then on. What is for
// many may have no source yet.
func TestUnspecifiedSources(t *testing.T) {
	for _, off := range []bool{false, true} {
		a := testConfig(addrA, addrA6)
		a.NoFastIP = off
		p := newPairWith(t, pairOptions{verified: true, a: a, b: testConfig(addrB, addrB6)})
		u := listenUDP(t, p.a, "udp", ":8")
		for _, forged := range []string{"0.0.0.0", "0.1.2.3"} {
			p.wa.inject(ipv4.ProtocolNumber, udpPacket(forged, addrA, 8, "forged"))
			p.wa.inject(ipv4.ProtocolNumber, udpPacket(forged, "10.0.0.255", 8, "forged"))
		}
		p.wa.inject(ipv6.ProtocolNumber, udpPacket("::", addrA6, 8, "forged"))
		p.wa.inject(ipv4.ProtocolNumber, udpPacket("0.0.0.0", "255.255.255.255", 8, "to all"))
		p.wa.inject(ipv6.ProtocolNumber, udpPacket(addrB6, addrA6, 8, "honest"))
		for _, want := range []string{"to all", "honest"} {
			b := make([]byte, 10)
			if n, from, err := u.ReadFrom(b); string(b[:n]) != want || err != nil {
				t.Errorf("%q from %v, %v, want %q", b[:n], from, err, want)
			}
		}
		if from := p.a.ns.Stats().IP.InvalidSourceAddressesReceived.Value(); from != 4 {
			t.Errorf("%d packets from 0.0.0.0/8, want 4", from)
		}
	}
}

// TestUnspecifiedGroup has datagrams to a group come from nowhere: who is in it and
// answers everybody would hear himself from then on, so they are dropped, as on Linux.
func TestUnspecifiedGroup(t *testing.T) {
	for _, off := range []bool{false, true} {
		a := testConfig(addrA)
		a.NoFastIP = off
		p := newPairWith(t, pairOptions{verified: true, a: a, b: testConfig(addrB)})
		u := listenUDP(t, p.a, "udp", ":8")
		for _, group := range []string{"239.1.2.3", "224.0.0.9"} {
			if err := u.JoinGroup(nil, &net.UDPAddr{IP: net.ParseIP(group)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, forged := range []string{"0.0.0.0", "0.1.2.3"} {
			p.wa.inject(ipv4.ProtocolNumber, udpPacket(forged, "239.1.2.3", 8, "forged"))
		}
		p.wa.inject(ipv4.ProtocolNumber, udpPacket("0.0.0.0", "224.0.0.9", 8, "on the link"))
		p.wa.inject(ipv4.ProtocolNumber, udpPacket(addrB, "239.1.2.3", 8, "honest"))
		for _, want := range []string{"on the link", "honest"} {
			b := make([]byte, 20)
			if n, from, err := u.ReadFrom(b); string(b[:n]) != want || err != nil {
				t.Errorf("%q from %v, %v, want %q", b[:n], from, err, want)
			}
		}
	}
}
