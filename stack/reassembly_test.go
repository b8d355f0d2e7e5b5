package stack

import (
	"fmt"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// longPing returns the fragments of an echo request from b to a, of so many bytes
// behind the IPv4 header. The first has so many bytes of options, all padding.
func longPing(id uint16, size, options int) (fragments [][]byte) {
	m := make([]byte, size)
	m[0] = byte(header.ICMPv4Echo)
	m[size-1] = byte(id) // what is cut off is missed
	header.ICMPv4(m).SetChecksum(^checksum.Checksum(m, 0))
	for at, step := 0, 1440; at < size; at += step {
		part := m[at:min(at+step, size)]
		f := header.IPv4Fields{
			ID: id, TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber), FragmentOffset: uint16(at),
			SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 2}), DstAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 1}),
		}
		n := header.IPv4MinimumSize
		if at == 0 {
			n += options
		}
		if at+step < size {
			f.Flags = header.IPv4FlagMoreFragments
		}
		b := make([]byte, n+len(part))
		f.TotalLength = uint16(len(b))
		h := header.IPv4(b)
		h.Encode(&f)
		h.SetHeaderLength(uint8(n))
		for i := header.IPv4MinimumSize; i < n; i++ {
			b[i] = byte(header.IPv4OptionNOPType)
		}
		h.SetChecksum(0)
		h.SetChecksum(^h.CalculateChecksum())
		copy(b[n:], part)
		fragments = append(fragments, b)
	}
	return fragments
}

// TestOversizedFragments has echo requests come in fragments that are longer,
// together, than a packet can be. They are not answered, and what comes next is.
func TestOversizedFragments(t *testing.T) {
	p := guardedPair(t)
	u := listenUDP(t, p.a, "udp", addrA+":8")
	replies := p.a.ns.Stats().ICMP.V4.PacketsSent.EchoReply
	for i, tc := range []struct{ size, options int }{
		{65515, 0}, {65516, 0}, {65535, 0}, {65536, 0},
		{65475, 40}, {65476, 40}, {65515, 40}, {65536, 40},
	} {
		t.Run(fmt.Sprint(tc), func(t *testing.T) {
			before, want := replies.Value(), uint64(1)
			if header.IPv4MinimumSize+tc.options+tc.size > 65535 {
				want = 0
			}
			for _, f := range longPing(uint16(i+1), tc.size, tc.options) {
				p.wa.inject(ipv4.ProtocolNumber, f)
			}
			p.wa.inject(ipv4.ProtocolNumber, udpPacket(addrB, addrA, 8, "next"))
			b := make([]byte, 10)
			if n, _, err := u.ReadFrom(b); string(b[:n]) != "next" || err != nil {
				t.Fatalf("%q, %v", b[:n], err)
			}
			if got := replies.Value() - before; got != want {
				t.Errorf("%d replies, want %d", got, want)
			}
		})
	}
}
