package packet

import "encoding/binary"

// mergeable reports whether a TCP segment may be in a group at all: data under a
// plain IP header and no flag but ACK and PSH (the ninth, AE of accurate ECN,
// is in the byte of the data offset).
func mergeable(frame []byte, info *Info) bool {
	return info.Flags&^PSH == ACK &&
		info.Payload < info.End &&
		info.Marks&Extended == 0 &&
		frame[info.L4+12]&0x0f == 0
}

// accepts reports whether a mergeable segment continues the group.
func (gr *group) accepts(frame []byte, info *Info) bool {
	n := info.PayloadLen()
	if info.Seq != gr.seq || n > gr.segLen ||
		int(info.Payload-info.L3)+gr.bytes+n > maxMerged ||
		info.Marks != gr.marks || int(info.Payload) != len(gr.header) ||
		!gr.acceptsID(info) {
		return false
	}
	if info.Kind == TCP4 {
		return equalHeaders4(gr.header, frame) &&
			string(gr.header[ipv4TCPLen:]) == string(frame[ipv4TCPLen:info.Payload])
	}
	return equalHeaders6(gr.header, frame) &&
		string(gr.header[ipv6TCPLen:]) == string(frame[ipv6TCPLen:info.Payload])
}

// acceptsID applies Linux's rule for the IPv4 ID (inet_gro_flush): it counts up
// by one, or, if DF is set, stays the same all through the group; the second
// segment decides which. DF makes the ID meaningless (RFC 6864), but a group of
// which this holds can be described in full by its first header, and a sender
// that cuts large segments in its card keeps to it. IPv6 has no ID: here it is
// 0, with DontFragment set.
func (gr *group) acceptsID(info *Info) bool {
	step := info.ID - gr.id
	if gr.segs == 1 {
		return step == 1 || step == 0 && info.Marks&DontFragment != 0
	}
	return step == gr.idStep
}

const (
	ipv4TCPLen = EthernetLen + IPv4Len + TCPLen
	ipv6TCPLen = EthernetLen + IPv6Len + TCPLen
)

// equalHeaders4 compares what must be equal in two frames of IPv4 without
// options, up to the TCP options: MAC addresses, TOS, DF, TTL, addresses, ports,
// ACK number, data offset, window and urgent pointer (which means nothing without
// URG, but would be lost). Left out are total length, ID, checksums, sequence
// number and flags.
func equalHeaders4(a, b []byte) bool {
	if len(a) < ipv4TCPLen || len(b) < ipv4TCPLen {
		return false
	}
	p, q := (*[ipv4TCPLen]byte)(a), (*[ipv4TCPLen]byte)(b)
	return differIP4(p, q)|differTCP((*[TCPLen]byte)(p[34:]), (*[TCPLen]byte)(q[34:])) == 0
}

// equalHeaders6 is equalHeaders4 for IPv6, with the flow label.
func equalHeaders6(a, b []byte) bool {
	if len(a) < ipv6TCPLen || len(b) < ipv6TCPLen {
		return false
	}
	p, q := (*[ipv6TCPLen]byte)(a), (*[ipv6TCPLen]byte)(b)
	return differIP6(p, q)|differTCP((*[TCPLen]byte)(p[54:]), (*[TCPLen]byte)(q[54:])) == 0
}

// differIP4 returns 0 if MAC addresses, TOS, DF, TTL and addresses are equal.
func differIP4(p, q *[ipv4TCPLen]byte) uint64 {
	le := binary.LittleEndian
	d := le.Uint64(p[0:]) ^ le.Uint64(q[0:])
	d |= le.Uint64(p[8:]) ^ le.Uint64(q[8:]) // to TOS
	d |= uint64(le.Uint32(p[20:]) ^ le.Uint32(q[20:]))
	return d | (le.Uint64(p[26:]) ^ le.Uint64(q[26:]))
}

// differIP6 is differIP4 for IPv6, with the flow label.
func differIP6(p, q *[ipv6TCPLen]byte) uint64 {
	le := binary.LittleEndian
	d := le.Uint64(p[0:]) ^ le.Uint64(q[0:])
	d |= le.Uint64(p[8:]) ^ le.Uint64(q[8:])
	d |= uint64(le.Uint16(p[16:]) ^ le.Uint16(q[16:])) // end of the flow label
	d |= uint64(le.Uint16(p[20:]) ^ le.Uint16(q[20:])) // next header, hop limit
	d |= le.Uint64(p[22:]) ^ le.Uint64(q[22:])
	d |= le.Uint64(p[30:]) ^ le.Uint64(q[30:])
	d |= le.Uint64(p[38:]) ^ le.Uint64(q[38:])
	return d | (le.Uint64(p[46:]) ^ le.Uint64(q[46:]))
}

// differTCP returns 0 if ports, ACK number, data offset, window and urgent
// pointer are equal.
func differTCP(p, q *[TCPLen]byte) uint64 {
	le := binary.LittleEndian
	d := le.Uint32(p[8:]) ^ le.Uint32(q[8:])
	d |= uint32(le.Uint16(p[14:]) ^ le.Uint16(q[14:]))
	return uint64(d) | differACK(p, q)
}

// differACK returns 0 if ports, data offset and urgent pointer are equal.
func differACK(p, q *[TCPLen]byte) uint64 {
	le := binary.LittleEndian
	d := le.Uint32(p[0:]) ^ le.Uint32(q[0:])
	d |= uint32(p[12] ^ q[12])
	d |= uint32(le.Uint16(p[18:]) ^ le.Uint16(q[18:]))
	return uint64(d)
}
