package packet

import "encoding/binary"

// maxExtensions bounds the walk over IPv6 extension headers. Real packets have
// one or two; a frame has room for hundreds.
const maxExtensions = 8

func parse6(frame []byte, total int, info *Info) Reason {
	if len(frame) < EthernetLen+IPv6Len {
		return TooShort
	}
	h := (*[EthernetLen + IPv6Len]byte)(frame)
	if h[14]>>4 != 6 {
		return BadVersion
	}
	const l4 = EthernetLen + IPv6Len
	info.Kind = IP
	info.Marks = DontFragment
	info.L3 = EthernetLen
	info.L4, info.Payload = l4, l4
	word := binary.BigEndian.Uint32(h[14:])
	info.TOS = uint8(word >> 20)
	info.FlowLabel = word & 0xfffff
	info.Proto = h[20]
	info.TTL = h[21]

	payload := int(binary.BigEndian.Uint16(h[18:]))
	if payload == 0 { // nothing, or a jumbogram: then its length is elsewhere
		return OK
	}
	if l4+payload > total {
		return BadTotalLength
	}
	info.End = uint16(l4 + payload)
	frame = frame[:min(l4+payload, len(frame))]
	switch info.Proto {
	case ProtoTCP, ProtoUDP, protoICMP6:
		return parseTransport6(frame, l4, info)
	}
	return walk6(frame, info)
}

// walk6 follows extension headers to the transport header. It stops, leaving
// the kind at IP, at all that a pseudo-header may depend on (a routing header
// with segments left, a home address among destination options), at what hides
// the rest, and at anything out of order or cut short: netstack knows which of
// these want an ICMP error.
func walk6(frame []byte, info *Info) Reason {
	at := EthernetLen + IPv6Len
	next := info.Proto
	for range maxExtensions {
		switch next {
		case ProtoTCP, ProtoUDP, protoICMP6:
			info.L4, info.Payload, info.Proto = uint16(at), uint16(at), next
			info.Marks |= Extended
			return parseTransport6(frame, at, info)
		case protoFragment:
			info.Kind = Fragment
			return OK
		case protoHopByHop:
			if at != EthernetLen+IPv6Len {
				return OK
			}
		case protoRouting:
			if len(frame)-at < 8 || frame[at+3] != 0 {
				return OK
			}
		default:
			return OK
		}
		if len(frame)-at < 8 {
			return OK
		}
		n := 8 + 8*int(frame[at+1])
		if n > len(frame)-at {
			return OK
		}
		next = frame[at]
		at += n
	}
	return OK
}

// parseTransport6 reads the header of info.Proto at l4 of a frame that ends as
// parseTCP's does.
func parseTransport6(frame []byte, l4 int, info *Info) (r Reason) {
	h := (*[EthernetLen + IPv6Len]byte)(frame)
	switch info.Proto {
	case ProtoTCP:
		info.Kind = TCP6
		r = parseTCP(frame, l4, info)
		info.Hash = hash6((*[32]byte)(h[22:]), ProtoTCP, info)
	case ProtoUDP:
		info.Kind = UDP6
		r = parseUDP(frame, l4, info)
		info.Hash = hash6((*[32]byte)(h[22:]), ProtoUDP, info)
	case protoICMP6:
		info.Kind = ICMP6
	}
	return r
}
