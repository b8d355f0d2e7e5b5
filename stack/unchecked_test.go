package stack

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// TestTCPHeaderLengths has SYNs come, in packets that no link checks, whose headers say
// that they are of another length than there is.
func TestTCPHeaderLengths(t *testing.T) {
	p := guardedPair(t)
	l, err := p.a.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u := listenUDP(t, p.a, "udp", ":8")
	src, dst := netip.MustParseAddr(addrB6).AsSlice(), netip.MustParseAddr(addrA6).AsSlice()
	src4, dst4 := netip.MustParseAddr(addrB).AsSlice(), netip.MustParseAddr(addrA).AsSlice()
	for words := range uint8(16) {
		for _, size := range []int{20, 24, 40} { // of the segment
			tcp := make([]byte, size)
			binary.BigEndian.PutUint16(tcp, 1000)
			binary.BigEndian.PutUint16(tcp[2:], 80)
			tcp[12], tcp[13] = words<<4, byte(header.TCPFlagSyn)
			putSum(src, dst, 6, tcp, 16)
			for ext := 8; ext <= 64; ext += 8 { // the memory behind is of many lengths, too
				options := make([]byte, ext)
				options[0], options[1] = 6, byte(ext/8-1)
				options[2], options[3] = 1, byte(ext-4) // padding
				p.wa.inject(ipv6.ProtocolNumber, slices.Concat(ip6(src, dst, 60, ext+size, 64), options, tcp))
			}
			fragment := append([]byte{6, 0, 0, 0}, 0, 0, 0, words) // the only one
			p.wa.inject(ipv6.ProtocolNumber, slices.Concat(ip6(src, dst, 44, len(fragment)+size, 64), fragment, tcp))
			putSum(src4, dst4, 6, tcp, 16)
			p.wa.inject(ipv4.ProtocolNumber, append(ip4(src4, dst4, 6, uint16(words)+1, 0, 16, true), tcp[:16]...))
			p.wa.inject(ipv4.ProtocolNumber, append(ip4(src4, dst4, 6, uint16(words)+1, 16, size-16, false), tcp[16:]...))
		}
		p.wa.inject(ipv4.ProtocolNumber, udpPacket(addrB, addrA, 8, "next"))
		b := make([]byte, 10)
		if n, _, err := u.ReadFrom(b); string(b[:n]) != "next" || err != nil {
			t.Fatalf("%q, %v", b[:n], err)
		}
	}
}
