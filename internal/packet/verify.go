package packet

import "encoding/binary"

// VerifyOptions is a set of options of Verify.
type VerifyOptions uint8

// AcceptPartial accepts a TCP or UDP checksum field that holds the folded sum of
// the pseudo-header. That is what a veth or virtio peer sends that leaves the
// checksum to a network card: such packets have not been on a wire. Accepted
// ones are marked Partial and not summed. The price: a complete checksum takes
// that value by chance once in 65536 packets, and then goes unchecked.
const AcceptPartial VerifyOptions = 1

// Verify checks the checksums of a packet that Parse found OK: IPv4 header, TCP,
// UDP. After OK, netstack may be told that TCP and UDP packets are validated, the
// partial ones too; all other kinds are OK without a look, and netstack has to
// check them itself. Verify sets Summed (and with it PayloadSum), Partial
// or Unsummed in info. more are the parts of the frame behind the first one.
func Verify(frame []byte, info *Info, opts VerifyOptions, more ...[]byte) Reason {
	if info.Kind < UDP4 {
		return OK
	}
	l3, l4, end := int(info.L3), int(info.L4), int(info.End)
	length := end - l4
	if info.Kind.IsUDP() {
		length = int(binary.BigEndian.Uint16(frame[l4+4:])) // Parse has checked it
	}
	var pseudo uint32
	switch info.Kind {
	case TCP4, UDP4:
		if !valid4(frame[l3:l4]) {
			return BadIPv4Checksum
		}
		pseudo = PseudoHeader4((*[8]byte)(frame[l3+12:]), info.Proto, length)
	default:
		pseudo = PseudoHeader6((*[32]byte)(frame[l3+8:]), info.Proto, length)
	}
	if l4+length > len(frame) {
		return verifyParts(frame[l4:], more, l4+length-len(frame), pseudo, info, opts)
	}
	if info.Kind.IsUDP() {
		return verifyUDP(frame[l4:l4+length], pseudo, info, opts)
	}
	return verifyTCP(frame[l4:end], pseudo, info, opts)
}

// verifyParts is verifyTCP and verifyUDP for a packet of which first is a part
// that has its header, and the next n bytes are in more.
func verifyParts(first []byte, more [][]byte, n int, pseudo uint32, info *Info, opts VerifyOptions) Reason {
	field := binary.BigEndian.Uint16(first[6:])
	if info.Kind.IsTCP() {
		field = binary.BigEndian.Uint16(first[16:])
	}
	switch {
	case opts&AcceptPartial != 0 && field == Fold(pseudo):
		info.Marks |= Partial
		return OK
	case field == 0 && info.Kind.IsUDP():
		return verifyUDP(first, pseudo, info, opts)
	}
	header := int(info.Payload - info.L4) // of even length
	payload := sumParts(Sum(first[header:], 0), len(first)&1 != 0, more, n, sumOf)
	if Fold(Sum(first[:header], pseudo)+payload) != 0xffff {
		return refuse(field, pseudo, info)
	}
	if info.Kind.IsTCP() {
		info.PayloadSum = uint16(payload)
		info.Marks |= Summed
	}
	return OK
}

// valid4 checks the sum of an IPv4 header.
func valid4(h []byte) bool {
	if len(h) != IPv4Len {
		return Fold(Sum(h, 0)) == 0xffff
	}
	p := (*[IPv4Len]byte)(h)
	le := binary.LittleEndian
	acc := uint64(le.Uint32(p[0:])) + uint64(le.Uint32(p[4:])) + uint64(le.Uint32(p[8:])) +
		uint64(le.Uint32(p[12:])) + uint64(le.Uint32(p[16:]))
	return fold64(acc) == 0xffff
}

func verifyTCP(seg []byte, pseudo uint32, info *Info, opts VerifyOptions) Reason {
	field := binary.BigEndian.Uint16(seg[16:])
	if opts&AcceptPartial != 0 && field == Fold(pseudo) {
		info.Marks |= Partial
		return OK
	}
	n := int(info.Payload - info.L4)
	payload := Sum(seg[n:], 0) // starts at a multiple of 4: no Swap
	if Fold(Sum(seg[:n], pseudo)+payload) != 0xffff {
		return refuse(field, pseudo, info)
	}
	info.PayloadSum = uint16(payload)
	info.Marks |= Summed
	return OK
}

func verifyUDP(dgram []byte, pseudo uint32, info *Info, opts VerifyOptions) Reason {
	field := binary.BigEndian.Uint16(dgram[6:])
	if field == 0 {
		if info.Kind == UDP6 {
			return MissingUDPChecksum
		}
		info.Marks |= Unsummed
		return OK
	}
	if opts&AcceptPartial != 0 && field == Fold(pseudo) {
		info.Marks |= Partial
		return OK
	}
	if Fold(Sum(dgram, pseudo)) != 0xffff {
		return refuse(field, pseudo, info)
	}
	return OK
}

// refuse tells damage from a sum that is not there yet: what AcceptPartial would
// have taken. Damage looks like that once in 65536 packets.
func refuse(field uint16, pseudo uint32, info *Info) Reason {
	partial := field == Fold(pseudo)
	switch {
	case info.Kind.IsTCP() && partial:
		return PartialTCPChecksum
	case info.Kind.IsTCP():
		return BadTCPChecksum
	case partial:
		return PartialUDPChecksum
	}
	return BadUDPChecksum
}
