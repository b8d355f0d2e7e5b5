package stack

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/wire"
)

// TestNoIPv6 makes the link's MTU too small for IPv6 under sockets: nothing of it is
// sent or received then, of IPv4 as before. When the MTU is large enough again, what
// TCP has to send arrives.
func TestNoIPv6(t *testing.T) {
	var segments atomic.Int32 // with data, over IPv6, of the near stack
	count := func(_ wire.Dir, f []byte) wire.Verdict {
		const ip, tcp = 14, 14 + 40
		if len(f) > tcp+12 && binary.BigEndian.Uint16(f[12:]) == 0x86dd && f[ip+6] == 6 &&
			int(binary.BigEndian.Uint16(f[ip+4:])) > int(f[tcp+12]>>4)*4 {
			segments.Add(1)
		}
		return wire.Pass
	}
	ow := newOverWire(t, overWireOptions{wire: wire.Config{Faults: [2]wire.Faults{{Filter: count}, {}}}})
	near, far := ow.s[0], ow.s[1]
	c, s := ow.tcpPair(t, addrB6)
	u, v := listenUDP(t, near, "udp", ":53"), listenUDP(t, far, "udp", ":53")
	to := func(host string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(host), 53) }
	pass := func(from *UDPConn, host, text string) {
		t.Helper()
		if _, err := from.WriteToUDPAddrPort([]byte(text), to(host)); err != nil {
			t.Fatal(err)
		}
	}
	arrives := func(at *UDPConn, text string) {
		t.Helper()
		b := make([]byte, 100)
		if n, _, err := at.ReadFromUDPAddrPort(b); string(b[:n]) != text || err != nil {
			t.Fatalf("%q, %v, want %q", b[:n], err, text)
		}
	}
	for _, hosts := range [][2]string{{addrA, addrB}, {addrA6, addrB6}} {
		pass(u, hosts[1], "there")
		arrives(v, "there")
		pass(v, hosts[0], "back")
		arrives(u, "back")
	}

	whole := near.link.MTU()
	near.link.SetMTU(1279)
	if _, err := u.WriteToUDPAddrPort([]byte("x"), to(addrB6)); err == nil {
		t.Error("a datagram is sent")
	} else {
		wantOp(t, err, "write", syscall.ENETUNREACH)
	}
	_, err := near.Dial("tcp", net.JoinHostPort(addrB6, "53"))
	wantOp(t, err, "dial", syscall.ENETUNREACH)
	if _, err := c.Write([]byte("later")); err != nil {
		t.Fatal(err)
	}
	pass(u, addrB, "over IPv4")
	arrives(v, "over IPv4")
	if n := segments.Load(); n != 0 {
		t.Errorf("%d segments are sent", n)
	}
	pass(v, addrA6, "lost")
	pass(v, addrA, "next")
	arrives(u, "next")
	if near.ns.Stats().IP.DisabledPacketsReceived.Value() == 0 {
		t.Error("what arrives over IPv6 is not counted")
	}

	near.link.SetMTU(whole)
	if err := s.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len("later"))
	if _, err := io.ReadFull(s, b); string(b) != "later" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}
