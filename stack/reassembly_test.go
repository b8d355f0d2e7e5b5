package stack

import (
	"bytes"
	"fmt"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
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

// TestHeaderStays has the transport header of a datagram in two fragments: where
// netstack has the IP header from stays the packet's when the other is parsed.
func TestHeaderStays(t *testing.T) {
	src, dst := []byte{10, 0, 0, 2}, []byte{10, 0, 0, 1}
	const link, first = 14, 16 // bytes of the link header, and of the segment in the first fragment
	for _, options := range []int{0, 4, 40} {
		ip := ip4(src, dst, 6, 1, 0, first, true)
		ip = append(ip, bytes.Repeat([]byte{byte(header.IPv4OptionNOPType)}, options)...)
		header.IPv4(ip).SetHeaderLength(uint8(len(ip)))
		frame := append(make([]byte, link), ip...)
		frame = append(frame, bytes.Repeat([]byte{1}, first)...)
		pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
		pkt.LinkHeader().Consume(link)
		keepHeader4(pkt)
		pkt.NetworkHeader().Consume(len(ip))
		h := pkt.NetworkHeader().Slice()
		rest := buffer.MakeWithData(bytes.Repeat([]byte{2}, 8))
		pkt.Data().MergeBuffer(&rest)
		got, ok := pkt.TransportHeader().Consume(20)
		if want := append(bytes.Repeat([]byte{1}, first), 2, 2, 2, 2); !ok || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of options: transport header %x, want %x", options, got, want)
		}
		if !bytes.Equal(h, ip) || &h[0] != &pkt.NetworkHeader().Slice()[0] {
			t.Errorf("%d bytes of options: header %x has moved, or is not %x", options, h, ip)
		}
		if n := len(pkt.LinkHeader().Slice()); n != link || pkt.Data().Size() != 4 {
			t.Errorf("%d bytes of options: link header of %d bytes, %d of data", options, n, pkt.Data().Size())
		}
		pkt.DecRef()
	}
}
