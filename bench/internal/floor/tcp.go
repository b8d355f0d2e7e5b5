package floor

import (
	"encoding/binary"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/packet"
)

// What replies say of our window: the most that the field holds, and in the
// SYN+ACK a scale that makes it 8 MiB, more than any request.
const (
	window      = 1<<16 - 1
	windowScale = 7
)

// Offsets in a TCP header, and option kinds (RFC 9293, 3.1; RFC 7323, 2.2).
const (
	tcpSeq      = 4
	tcpAck      = 8
	tcpOffset   = 12 // and flags
	tcpWindow   = 14
	tcpChecksum = 16
	tcpUrgent   = 18

	optionEnd, optionNop, optionMSS, optionScale = 0, 1, 2, 3
)

// tcp answers one segment. The package comment has the rules.
func (a *answerer) tcp(buf []byte) int {
	info := &a.info
	switch info.DstPort {
	case peer.SinkPort, peer.ProxySinkPort, peer.SourcePort:
		return a.bulk(buf)
	}
	switch info.Flags & (packet.SYN | packet.RST | packet.FIN | packet.ACK) {
	case packet.SYN:
		return a.accept(buf)
	case packet.ACK:
		if info.PayloadLen() == 0 {
			return a.pure(buf)
		}
	case packet.ACK | packet.FIN:
	default:
		if info.Flags&packet.RST != 0 {
			a.count[tcpResets]++
		} else {
			a.count[badFrames]++
		}
		return 0
	}

	end := info.Seq + uint32(info.PayloadLen())
	flags := uint8(packet.ACK)
	if info.Flags&packet.FIN != 0 {
		end++
		flags |= packet.FIN
	}
	if int32(end-info.Ack) <= 0 {
		// It has all of this back: only our ACK got lost.
		a.count[tcpDuplicate]++
		return a.ackOnly(buf, info.Ack, info.Ack)
	}
	ack := end
	hint := &a.owed[info.Hash%hints]
	if int32(info.Seq-info.Ack) > 0 {
		ack = info.Ack
		*hint = true
	} else if *hint {
		*hint = false
	}
	if flags&packet.FIN != 0 {
		a.count[tcpFins]++
	}
	if info.PayloadLen() == 0 {
		return a.header(buf, info.Seq, ack, flags, packet.TCPLen)
	}
	a.count[tcpEchoes]++
	return a.echo(buf, ack, flags|packet.PSH)
}

// accept answers a SYN with our first sequence number the same as the client's.
func (a *answerer) accept(buf []byte) int {
	l4, n := int(a.info.L4), packet.TCPLen+4
	family := 0
	if a.info.Kind == packet.TCP6 {
		family = 1
	}
	_, scaled := option(buf[l4+packet.TCPLen:int(a.info.Payload)], optionScale)
	room := l4 + packet.TCPLen + 8
	if room > len(buf) {
		a.count[badFrames]++ // more IP options or extension headers than any client sends
		return 0
	}
	opts := buf[l4+packet.TCPLen : room]
	opts[0], opts[1] = optionMSS, 4
	binary.BigEndian.PutUint16(opts[2:], a.mss[family])
	if scaled {
		opts[4], opts[5], opts[6], opts[7] = optionNop, optionScale, 3, windowScale
		n += 4
	}
	a.count[tcpAccepted]++
	a.owed[a.info.Hash%hints] = false
	return a.header(buf, a.info.Seq, a.info.Seq+1, packet.SYN|packet.ACK, n)
}

// option looks for an option by its kind and returns its data.
func option(opts []byte, kind byte) (data []byte, ok bool) {
	for len(opts) > 0 && opts[0] != optionEnd {
		if opts[0] == optionNop {
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return nil, false
		}
		if opts[0] == kind {
			return opts[2:opts[1]], true
		}
		opts = opts[opts[1]:]
	}
	return nil, false
}

// pure answers a segment without data, if that is needed.
func (a *answerer) pure(buf []byte) int {
	info := &a.info
	if info.Seq == info.Ack-1 {
		// Nothing else has such numbers: a keepalive or window probe.
		a.count[tcpAcks]++
		return a.ackOnly(buf, info.Ack, info.Ack)
	}
	hint := &a.owed[info.Hash%hints]
	if !*hint {
		a.count[tcpSilent]++
		return 0
	}
	if info.Seq == info.Ack {
		*hint = false // with this reply, everything is acknowledged
	}
	a.later = true
	a.count[tcpAcks]++
	return a.ackOnly(buf, info.Ack, info.Ack)
}

// ackOnly makes the segment in hand one without data.
func (a *answerer) ackOnly(buf []byte, seq, ack uint32) int {
	return a.header(buf, seq, ack, packet.ACK, packet.TCPLen)
}

// header makes the segment in hand one of n bytes of TCP header, with the
// options that are in place, and no data.
func (a *answerer) header(buf []byte, seq, ack uint32, flags uint8, n int) int {
	return a.segment(buf, seq, ack, flags, n, 0)
}

// segment does the same with so many bytes of data, which are in place.
func (a *answerer) segment(buf []byte, seq, ack uint32, flags uint8, n, data int) int {
	be := binary.BigEndian
	a.swapAddresses(buf)
	setLength(buf, int(a.info.L3), int(a.info.L4), n+data)
	t := buf[a.info.L4:][:n+data]
	swapPorts(t)
	be.PutUint32(t[tcpSeq:], seq)
	be.PutUint32(t[tcpAck:], ack)
	t[tcpOffset], t[tcpOffset+1] = byte(n/4)<<4, flags
	be.PutUint16(t[tcpWindow:], window)
	be.PutUint16(t[tcpChecksum:], 0)
	be.PutUint16(t[tcpUrgent:], 0)
	be.PutUint16(t[tcpChecksum:], ^packet.Fold(packet.Sum(t, a.pseudo(buf, len(t)))))
	return int(a.info.L4) + len(t)
}

// setLength makes the IP header at l3 say that n bytes follow from l4 on.
func setLength(frame []byte, l3, l4, n int) {
	be := binary.BigEndian
	end := l4 + n
	if frame[l3]>>4 == 4 {
		be.PutUint16(frame[l3+2:], uint16(end-l3))
		be.PutUint16(frame[l3+10:], 0)
		be.PutUint16(frame[l3+10:], ^packet.Fold(packet.Sum(frame[l3:l4], 0)))
	} else {
		be.PutUint16(frame[l3+4:], uint16(end-l3-packet.IPv6Len))
	}
}

// echo sends the segment in hand back with its data and sequence number. The
// checksum is updated for the words that change (RFC 1624), so that data that
// was damaged on its way is still found to be when it is back; one that a
// virtual device has left to hardware is made whole, and so is one of 65536 others,
// which looks like that.
func (a *answerer) echo(buf []byte, ack uint32, flags uint8) int {
	be := binary.BigEndian
	l4, end := int(a.info.L4), int(a.info.End)
	t := buf[l4:a.info.Payload] // the header
	field := be.Uint16(t[tcpChecksum:])
	pseudo := a.pseudo(buf, end-l4)
	partial := field == packet.Fold(pseudo)
	changed := func() uint32 { // the words of the header that do
		return uint32(be.Uint16(t[tcpAck:])) + uint32(be.Uint16(t[tcpAck+2:])) +
			uint32(be.Uint16(t[tcpOffset:])) + uint32(be.Uint16(t[tcpWindow:])) + uint32(be.Uint16(t[tcpUrgent:]))
	}
	before := changed()
	if n := int(t[tcpOffset]>>4) * 4; n > packet.TCPLen {
		// What the client's options say is about its own direction.
		before += packet.Sum(t[packet.TCPLen:n], 0)
		for i := packet.TCPLen; i < n; i++ {
			t[i] = optionNop
		}
		before += uint32(^packet.Fold(packet.Sum(t[packet.TCPLen:n], 0)))
	}
	be.PutUint32(t[tcpAck:], ack)
	t[tcpOffset+1] = flags
	t[tcpOffset] &= 0xf0
	be.PutUint16(t[tcpWindow:], window)
	be.PutUint16(t[tcpUrgent:], 0)
	if partial {
		be.PutUint16(t[tcpChecksum:], 0)
		be.PutUint16(t[tcpChecksum:], ^packet.Fold(a.sum(buf, l4, end, pseudo)))
	} else {
		sum := uint32(^field) + uint32(^packet.Fold(before)) + changed()
		be.PutUint16(t[tcpChecksum:], ^packet.Fold(sum))
	}
	a.swapAddresses(buf)
	swapPorts(t)
	return end
}
