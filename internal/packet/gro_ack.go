package packet

import "encoding/binary"

// pureACK reports whether a TCP segment does nothing but acknowledge: no data,
// no flag but ACK (the ninth, AE of accurate ECN, is in the byte of the data
// offset), plain TCP options, so no SACK block either, and a plain IP header.
func pureACK(frame []byte, info *Info) bool {
	if info.Flags != ACK || info.Payload != info.End || info.Marks&Extended != 0 || frame[info.L4+12]&0x0f != 0 {
		return false
	}
	return PlainOptions(frame[info.L4+TCPLen : info.Payload])
}

// PlainOptions tells whether TCP options are none but a timestamp, in the form
// that everybody writes it (RFC 7323, appendix A).
func PlainOptions(options []byte) bool {
	const nopNopTimestamp = 1<<24 | 1<<16 | 8<<8 | 10
	switch len(options) {
	case 0:
		return true
	case 12:
		return binary.BigEndian.Uint32(options) == nopNopTimestamp
	}
	return false
}

// addACK takes frame i, a pure ACK; slot is its flow's, or nil. If the flow's
// last frame of the batch was one too, and this one says all that that one said
// and more, it takes its place.
func (g *GRO) addACK(i int, frame []byte, info *Info, slot *groSlot) bool {
	place, segs, before, repeats := g.heads, 1, -1, false
	if slot != nil {
		if old := &g.group[slot.head-1]; old.pure {
			if old.supersededBy(frame, info) {
				place, segs, before = old.place, old.segs+1, int(slot.head)-1
			} else {
				repeats = info.Ack == old.ack
			}
		}
	} else {
		slot = g.vacate(info.Hash)
	}
	if segs == 1 {
		g.heads++
	} else {
		g.acks++
	}
	g.order[place] = uint16(i)
	g.next[i] = int16(before)
	*slot = groSlot{hash: info.Hash, gen: g.gen, head: uint16(i) + 1}
	g.group[i] = group{
		header: frame[:info.Payload:info.Payload],
		seq:    info.Seq,
		segs:   segs,
		marks:  info.Marks,
		pure:   true, repeats: repeats, ack: info.Ack, place: place,
	}
	return segs > 1
}

// supersededBy reports whether a pure ACK makes that of the group needless: it
// acknowledges more, and nothing else is different but the window, of which the
// newest counts, the IPv4 ID and the checksum. The sequence number is the same, so
// neither is a probe; the timestamp is, so the round trip that it measures is.
//
// An ACK that acknowledges no more than the one before it counts as a duplicate
// (RFC 5681, 2), opens the window or answers a probe. It takes no ACK's place,
// and none takes its.
func (gr *group) supersededBy(frame []byte, info *Info) bool {
	if gr.repeats || int32(info.Ack-gr.ack) <= 0 || info.Seq != gr.seq || info.Marks != gr.marks || int(info.Payload) != len(gr.header) {
		return false
	}
	if string(gr.header[info.L4+TCPLen:]) != string(frame[info.L4+TCPLen:info.Payload]) {
		return false
	}
	if info.Kind == TCP4 {
		p, q := (*[ipv4TCPLen]byte)(gr.header), (*[ipv4TCPLen]byte)(frame)
		return differIP4(p, q)|differACK((*[TCPLen]byte)(p[34:]), (*[TCPLen]byte)(q[34:])) == 0
	}
	p, q := (*[ipv6TCPLen]byte)(gr.header), (*[ipv6TCPLen]byte)(frame)
	return differIP6(p, q)|differACK((*[TCPLen]byte)(p[54:]), (*[TCPLen]byte)(q[54:])) == 0
}
