package netdev

import (
	"encoding/binary"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/packet"
)

// frame describes a frame as a test wants it; checksums are right unless bad.
type frame struct {
	v6           bool
	dst          []byte // MAC; nil is the device's
	proto        uint8  // 0 is TCP
	sport, dport uint16
	seq, ack     uint32
	flags        uint8
	window       uint16
	opts         []byte // TCP options
	ipOpts       []byte // IPv4
	ext          []byte // IPv6: extension headers, whole
	extFirst     uint8  // IPv6: next header of the fixed header, if ext is set
	frag         uint16 // IPv4 flags and offset
	id           uint16
	payload      []byte // behind the transport header, or the IP header for other protocols
	pad          int
	noSum        bool // UDP checksum 0
	partial      bool // checksum of the pseudo-header only
	bad          bool // transport checksum wrong
	badIP        bool // IPv4 header checksum wrong
}

var (
	addr4 = [2][]byte{{10, 0, 0, 1}, {10, 0, 0, 2}} // of port 0 and 1
	addr6 = [2][]byte{
		{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
		{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2},
	}
)

// bytes builds a frame from port 1 to port 0.
func (f frame) bytes() []byte {
	be := binary.BigEndian
	if f.proto == 0 {
		f.proto = packet.ProtoTCP
	}
	src, dst := addr4[1], addr4[0]
	if f.v6 {
		src, dst = addr6[1], addr6[0]
	}
	addrs := append(append([]byte(nil), src...), dst...)

	var l4 []byte
	at := -1
	switch f.proto {
	case packet.ProtoTCP:
		l4 = make([]byte, packet.TCPLen)
		be.PutUint32(l4[4:], f.seq)
		be.PutUint32(l4[8:], f.ack)
		l4[12], l4[13] = uint8(packet.TCPLen+len(f.opts))/4<<4, f.flags
		be.PutUint16(l4[14:], f.window)
		l4 = append(l4, f.opts...)
		at = 16
	case packet.ProtoUDP:
		l4 = make([]byte, packet.UDPLen)
		be.PutUint16(l4[4:], uint16(packet.UDPLen+len(f.payload)))
		at = 6
	}
	l4 = append(l4, f.payload...)
	if at >= 0 {
		be.PutUint16(l4[0:], f.sport)
		be.PutUint16(l4[2:], f.dport)
		sum := ^naiveTransport(addrs, f.proto, l4)
		if f.partial {
			sum = naiveSum(pseudo(addrs, f.proto, len(l4)))
		}
		if f.bad {
			sum ^= 0x5555
		}
		if !f.noSum {
			be.PutUint16(l4[at:], sum)
		}
	}

	mac := f.dst
	if mac == nil {
		mac = []byte{2, 0, 0, 0, 0, 1}
	}
	b := append(append([]byte(nil), mac...), 2, 0, 0, 0, 0, 2)
	var ip []byte
	if f.v6 {
		b = append(b, 0x86, 0xdd)
		ip = append(make([]byte, 8), addrs...)
		ip[0], ip[6], ip[7] = 6<<4, f.proto, 64
		if f.ext != nil {
			ip[6] = f.extFirst
		}
		be.PutUint16(ip[4:], uint16(len(f.ext)+len(l4)))
		ip = append(ip, f.ext...)
	} else {
		b = append(b, 8, 0)
		ip = make([]byte, 12)
		ip[0], ip[8], ip[9] = 4<<4|uint8(20+len(f.ipOpts))/4, 64, f.proto
		be.PutUint16(ip[2:], uint16(20+len(f.ipOpts)+len(l4)))
		be.PutUint16(ip[4:], f.id)
		be.PutUint16(ip[6:], f.frag)
		ip = append(append(ip, addrs...), f.ipOpts...)
		sum := ^naiveSum(ip)
		if f.badIP {
			sum ^= 0x5555
		}
		be.PutUint16(ip[10:], sum)
	}
	b = append(append(b, ip...), l4...)
	for range f.pad {
		b = append(b, 0xee)
	}
	return b
}

// naiveSum is RFC 1071 word by word.
func naiveSum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		if sum += w; sum > 0xffff {
			sum -= 0xffff
		}
	}
	return uint16(sum)
}

func pseudo(addrs []byte, proto uint8, n int) []byte {
	b := binary.BigEndian.AppendUint32(append([]byte(nil), addrs...), uint32(n))
	return append(b, 0, 0, 0, proto)
}

func naiveTransport(addrs []byte, proto uint8, data []byte) uint16 {
	return naiveSum(append(pseudo(addrs, proto, len(data)), data...))
}

// pattern is n bytes that follow from seed and position.
func pattern(seed uint32, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		x := seed + uint32(i)
		b[i] = byte(x ^ x>>8 ^ x>>16*7)
	}
	return b
}

// segment describes a TCP segment that netstack hands over, from port 0.
type segment struct {
	v6       bool
	hash     uint32
	sport    uint16
	seq      uint32
	ack      uint32
	flags    uint8
	window   uint16
	opts     []byte
	payload  []byte
	mss      int           // 0: no GSO
	plain    bool          // with checksums, not for the cutter
	released *atomic.Int32 // counts the end of the packet
}

// packet makes the PacketBuffer, Ethernet header included.
func (s segment) packet() *gstack.PacketBuffer {
	o := gstack.PacketBufferOptions{ReserveHeaderBytes: 14 + 40 + 60}
	if len(s.payload) > 0 {
		o.Payload = buffer.MakeWithData(s.payload)
	}
	if n := s.released; n != nil {
		o.OnRelease = func() { n.Add(1) }
	}
	pkt := gstack.NewPacketBuffer(o)
	tcp := header.TCP(pkt.TransportHeader().Push(20 + len(s.opts)))
	sport := s.sport
	if sport == 0 {
		sport = 80
	}
	tcp.Encode(&header.TCPFields{
		SrcPort: sport, DstPort: 1000, SeqNum: s.seq, AckNum: s.ack, DataOffset: uint8(20 + len(s.opts)),
		Flags: header.TCPFlags(s.flags), WindowSize: s.window,
	})
	copy(tcp[20:], s.opts)
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	l4 := len(tcp) + len(s.payload)
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	addrs, l3 := append(append([]byte(nil), addr4[0]...), addr4[1]...), header.IPv4MinimumSize
	if s.v6 {
		addrs, l3 = append(append([]byte(nil), addr6[0]...), addr6[1]...), header.IPv6MinimumSize
		pkt.NetworkProtocolNumber = header.IPv6ProtocolNumber
	}
	if s.plain {
		tcp.SetChecksum(^naiveTransport(addrs, 6, append(append([]byte(nil), tcp...), s.payload...)))
	} else {
		pkt.GSOOptions = gstack.GSO{NeedsCsum: true, CsumOffset: 16, L3HdrLen: uint16(l3), MaxSize: maxGSO}
		if s.mss > 0 {
			pkt.GSOOptions.Type, pkt.GSOOptions.MSS = gstack.GSOTCPv4, uint16(s.mss)
			if s.v6 {
				pkt.GSOOptions.Type = gstack.GSOTCPv6
			}
		}
	}
	pushIP(pkt, s.v6, uint8(header.TCPProtocolNumber), l4)
	pkt.Hash = s.hash
	return pkt
}

// datagram is a packet with n bytes behind its IP header that no cutter touches.
func datagram(hash uint32, n int, released *atomic.Int32) *gstack.PacketBuffer {
	o := gstack.PacketBufferOptions{ReserveHeaderBytes: 14 + 20, Payload: buffer.MakeWithData(pattern(hash, n))}
	if released != nil {
		o.OnRelease = func() { released.Add(1) }
	}
	pkt := gstack.NewPacketBuffer(o)
	pkt.TransportProtocolNumber = 253
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	pushIP(pkt, false, 253, n)
	pkt.Hash = hash
	return pkt
}

func pushIP(pkt *gstack.PacketBuffer, v6 bool, proto uint8, l4 int) {
	if v6 {
		header.IPv6(pkt.NetworkHeader().Push(header.IPv6MinimumSize)).Encode(&header.IPv6Fields{
			PayloadLength: uint16(l4), TransportProtocol: tcpip.TransportProtocolNumber(proto), HopLimit: 64,
			SrcAddr: tcpip.AddrFromSlice(addr6[0]), DstAddr: tcpip.AddrFromSlice(addr6[1]),
		})
	} else {
		ip := header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize))
		ip.Encode(&header.IPv4Fields{
			TotalLength: uint16(header.IPv4MinimumSize + l4), TTL: 64, Protocol: proto,
			SrcAddr: tcpip.AddrFromSlice(addr4[0]), DstAddr: tcpip.AddrFromSlice(addr4[1]),
		})
		ip.SetChecksum(^ip.CalculateChecksum())
	}
	eth := header.Ethernet(pkt.LinkHeader().Push(ethernetLen))
	eth.Encode(&header.EthernetFields{
		SrcAddr: "\x02\x00\x00\x00\x00\x01", DstAddr: "\x02\x00\x00\x00\x00\x02", Type: pkt.NetworkProtocolNumber,
	})
}
