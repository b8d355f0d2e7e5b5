package packet

import (
	"encoding/binary"
	"testing"
)

// seg describes a TCP segment in a frame, as a test wants it.
type seg struct {
	v6           bool
	mac          byte // last byte of the source address
	src          byte // last byte of the source IP address
	sport, dport uint16
	seq, ack     uint32
	window       uint16
	urgent       uint16
	flags        uint8
	opts         []byte
	ipOpts       []byte // IPv4
	ext          []byte // IPv6: one extension header, its first byte is replaced
	extProto     uint8
	tos, ttl     uint8
	frag         uint16 // IPv4 flags and offset
	id           uint16
	label        uint32
	payload      []byte
	pad          int // bytes behind the IP packet
	partial      bool
	doff         uint8 // low nibble of the data offset byte
}

// baseSeg is a plain data segment that can merge.
func baseSeg(v6 bool) seg {
	return seg{
		v6: v6, src: 1, sport: 1000, dport: 80, seq: 1, ack: 7, window: 500, flags: ACK, ttl: 64,
		frag: 0x4000, id: 9, opts: []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, payload: make([]byte, 100),
	}
}

func (s *seg) addrs() []byte {
	if s.v6 {
		a := make([]byte, 32)
		a[0], a[1], a[15] = 0xfd, 0x11, s.src
		a[16], a[17], a[31] = 0xfd, 0x22, 9
		return a
	}
	return []byte{10, 1, 2, s.src, 10, 9, 9, 9}
}

// frame builds the segment, with checksums by naiveSum.
func (s *seg) frame() []byte {
	be := binary.BigEndian
	tcp := make([]byte, TCPLen, TCPLen+len(s.opts)+len(s.payload))
	be.PutUint16(tcp[0:], s.sport)
	be.PutUint16(tcp[2:], s.dport)
	be.PutUint32(tcp[4:], s.seq)
	be.PutUint32(tcp[8:], s.ack)
	tcp[12] = uint8(TCPLen+len(s.opts))/4<<4 | s.doff
	tcp[13] = s.flags
	be.PutUint16(tcp[14:], s.window)
	be.PutUint16(tcp[18:], s.urgent)
	tcp = append(append(tcp, s.opts...), s.payload...)

	f := []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, s.mac, 8, 0}
	var ip []byte
	if s.v6 {
		be.PutUint16(f[12:], etherIPv6)
		ip = make([]byte, 8, 48)
		be.PutUint32(ip, 6<<28|uint32(s.tos)<<20|s.label)
		be.PutUint16(ip[4:], uint16(len(s.ext)+len(tcp)))
		ip[6], ip[7] = ProtoTCP, s.ttl
		ip = append(ip, s.addrs()...)
		if s.ext != nil {
			ip[6] = s.extProto
			ip = append(ip, s.ext...)
			ip[40] = ProtoTCP
		}
	} else {
		n := IPv4Len + len(s.ipOpts)
		ip = make([]byte, 12, n)
		ip[0], ip[1] = 4<<4|uint8(n/4), s.tos
		be.PutUint16(ip[2:], uint16(n+len(tcp)))
		be.PutUint16(ip[4:], s.id)
		be.PutUint16(ip[6:], s.frag)
		ip[8], ip[9] = s.ttl, ProtoTCP
		ip = append(append(ip, s.addrs()...), s.ipOpts...)
		be.PutUint16(ip[10:], ^naiveSum(ip))
	}
	sum := ^naiveTransport(s.addrs(), ProtoTCP, tcp)
	if s.partial {
		sum = naiveTransport(s.addrs(), ProtoTCP, tcp) // of pseudo-header and segment
		sum = onesSub(sum, naiveSum(tcp))
	}
	be.PutUint16(tcp[16:], sum)
	f = append(append(f, ip...), tcp...)
	for range s.pad {
		f = append(f, 0xee)
	}
	return f
}

// onesSub is a - b in ones-complement, for a sum that contains b.
func onesSub(a, b uint16) uint16 {
	s := uint32(a) + uint32(^b)
	return uint16(s + s>>16)
}

// naiveTransport sums a pseudo-header and what follows it.
func naiveTransport(addrs []byte, proto byte, data []byte) uint16 {
	b := append([]byte(nil), addrs...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, 0, 0, 0, proto)
	return naiveSum(append(b, data...))
}

// checkSums fails unless the checksums of a TCP frame are right by naiveSum.
func checkSums(tb testing.TB, f []byte, l4 int) {
	tb.Helper()
	ip := f[EthernetLen:l4]
	var addrs []byte
	if ip[0]>>4 == 4 {
		if got := naiveSum(ip); got != 0xffff {
			tb.Errorf("IPv4 header sums to %#x", got)
		}
		if got := int(binary.BigEndian.Uint16(ip[2:])); got != len(f)-EthernetLen {
			tb.Errorf("total length %d of %d bytes", got, len(f)-EthernetLen)
		}
		addrs = ip[12:20]
	} else {
		if got := int(binary.BigEndian.Uint16(ip[4:])); got != len(f)-EthernetLen-IPv6Len {
			tb.Errorf("payload length %d of %d bytes", got, len(f)-EthernetLen-IPv6Len)
		}
		addrs = ip[8:40]
	}
	if got := naiveTransport(addrs, ProtoTCP, f[l4:]); got != 0xffff {
		tb.Errorf("TCP sums to %#x", got)
	}
}

// naiveCut is the reference of Cutter: every frame is made from scratch.
func naiveCut(header []byte, l3, l4 int, payload []byte, mss int) (frames [][]byte) {
	be := binary.BigEndian
	if mss == 0 {
		mss = max(1, len(payload))
	}
	for off, i := 0, 0; i == 0 || off < len(payload); off, i = off+mss, i+1 {
		end := min(off+mss, len(payload))
		f := append(append([]byte(nil), header...), payload[off:end]...)
		ip, tcp := f[l3:l4], f[l4:]
		addrs := ip[8:]
		if ip[0]>>4 == 4 {
			be.PutUint16(ip[2:], uint16(len(f)-l3))
			be.PutUint16(ip[4:], be.Uint16(ip[4:])+uint16(i))
			be.PutUint16(ip[10:], 0)
			be.PutUint16(ip[10:], ^naiveSum(ip))
			addrs = ip[12:20]
		} else {
			be.PutUint16(ip[4:], uint16(len(tcp)))
		}
		be.PutUint32(tcp[4:], be.Uint32(tcp[4:])+uint32(off))
		if i > 0 {
			tcp[13] &^= CWR
		}
		if end < len(payload) {
			tcp[13] &^= FIN | PSH
		}
		be.PutUint16(tcp[16:], 0)
		be.PutUint16(tcp[16:], ^naiveTransport(addrs, ProtoTCP, tcp))
		frames = append(frames, f)
	}
	return frames
}

// mustParse parses and verifies a frame that is good.
func mustParse(tb testing.TB, f []byte) (info Info) {
	tb.Helper()
	if r := Parse(f, &info); r != OK {
		tb.Fatalf("parse: %v", r)
	}
	if r := Verify(f, &info, AcceptPartial); r != OK {
		tb.Fatalf("verify: %v", r)
	}
	return info
}
