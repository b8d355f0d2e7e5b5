package packet

import "encoding/binary"

// Parse finds the headers of an Ethernet frame and fills in info; nothing is
// summed (see Verify). If the result is not OK, info is of no use but for
// counting.
func Parse(frame []byte, info *Info) Reason { return ParseFirst(frame, len(frame), info) }

// ParseFirst is Parse for a frame of total bytes that lies in several parts, of
// which frame is the first. All headers must be in it: one that is not counts as
// cut short.
func ParseFirst(frame []byte, total int, info *Info) Reason {
	*info = Info{}
	if len(frame) < EthernetLen {
		return TooShort
	}
	if total > MaxFrame {
		return TooLong
	}
	info.End = uint16(total)
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		return parse4(frame, total, info)
	case etherIPv6:
		return parse6(frame, total, info)
	case etherARP:
		info.Kind = ARP
		info.L3 = EthernetLen
	}
	return OK
}

func parse4(frame []byte, total int, info *Info) Reason {
	if len(frame) < EthernetLen+IPv4Len {
		return TooShort
	}
	h := (*[EthernetLen + IPv4Len]byte)(frame)
	if h[14]>>4 != 4 {
		return BadVersion
	}
	l4 := EthernetLen + int(h[14]&0xf)*4
	end := EthernetLen + int(binary.BigEndian.Uint16(h[16:]))
	if l4 < EthernetLen+IPv4Len || l4 > len(frame) {
		return BadIPv4HeaderLength
	}
	if end < l4 || end > total {
		return BadTotalLength
	}
	info.Kind = IP
	info.L3 = EthernetLen
	info.L4, info.Payload, info.End = uint16(l4), uint16(l4), uint16(end)
	info.TOS = h[15]
	info.ID = binary.BigEndian.Uint16(h[18:])
	info.TTL = h[22]
	info.Proto = h[23]

	frag := binary.BigEndian.Uint16(h[20:])
	if frag&0x4000 != 0 {
		info.Marks = DontFragment
	}
	if frag&0x3fff != 0 { // more fragments, or an offset
		info.Kind = Fragment
		return OK
	}
	if l4 > EthernetLen+IPv4Len {
		info.Marks |= Extended
		if !plainOptions(frame[EthernetLen+IPv4Len : l4]) {
			return OK
		}
	}
	switch info.Proto {
	case ProtoTCP:
		info.Kind = TCP4
		r := parseTCP(frame[:min(end, len(frame))], l4, info)
		info.Hash = hash4(binary.LittleEndian.Uint64(h[26:]), ProtoTCP, info)
		return r
	case ProtoUDP:
		info.Kind = UDP4
		r := parseUDP(frame[:min(end, len(frame))], l4, info)
		info.Hash = hash4(binary.LittleEndian.Uint64(h[26:]), ProtoUDP, info)
		return r
	case protoICMP4:
		info.Kind = ICMP4
	}
	return OK
}

// plainOptions reports whether IPv4 options leave the destination alone: a
// source route puts the one of the pseudo-header elsewhere. Options that do not
// parse are not plain.
func plainOptions(opts []byte) bool {
	for len(opts) > 0 {
		switch opts[0] {
		case 0: // end of list
			return true
		case 1: // no operation
			opts = opts[1:]
			continue
		case 131, 137: // loose, strict source route
			return false
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return false
		}
		opts = opts[opts[1]:]
	}
	return true
}

// parseTCP reads the TCP header at l4 of a frame that ends where the IP packet
// does, or before that where its first part does.
func parseTCP(frame []byte, l4 int, info *Info) Reason {
	if len(frame)-l4 < TCPLen {
		return TooShort
	}
	t := (*[TCPLen]byte)(frame[l4:])
	n := int(t[12]>>4) * 4
	if n < TCPLen || n > len(frame)-l4 {
		return BadTCPDataOffset
	}
	info.Payload = uint16(l4 + n)
	info.SrcPort = binary.BigEndian.Uint16(t[0:])
	info.DstPort = binary.BigEndian.Uint16(t[2:])
	info.Seq = binary.BigEndian.Uint32(t[4:])
	info.Ack = binary.BigEndian.Uint32(t[8:])
	info.Flags = t[13]
	info.Window = binary.BigEndian.Uint16(t[14:])
	return OK
}

// parseUDP is parseTCP for UDP. A length below the room that IP gives is legal,
// and left to netstack to trim.
func parseUDP(frame []byte, l4 int, info *Info) Reason {
	if len(frame)-l4 < UDPLen {
		return TooShort
	}
	u := (*[UDPLen]byte)(frame[l4:])
	n := int(binary.BigEndian.Uint16(u[4:]))
	if n < UDPLen || n > int(info.End)-l4 {
		return BadUDPLength
	}
	info.Payload = uint16(l4 + UDPLen)
	info.SrcPort = binary.BigEndian.Uint16(u[0:])
	info.DstPort = binary.BigEndian.Uint16(u[2:])
	return OK
}
