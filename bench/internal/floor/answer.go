package floor

import (
	"encoding/binary"
	"net/netip"

	"github.com/afxnet/afxnet/internal/packet"
)

// slack is the least number of bytes that the answerer needs behind the start
// of a frame, whatever was received: its longest reply that is longer than the
// request is a SYN+ACK over IPv6 with options in IPv4 or extension headers, or a
// neighbour advertisement.
const slack = 160

// hints is the size of the table of flows that wait for an ACK: a power of two.
const hints = 1 << 16

// answerer turns requests into replies. It belongs to one queue.
type answerer struct {
	mac [6]byte // ours
	v4  netip.Addr
	v6  netip.Addr
	mss [2]uint16 // for IPv4 and IPv6, bytes

	info    packet.Info // of the frame in hand
	first   int         // bytes of the packet in hand that lie in its first frame
	more    [][]byte    // the others
	owed    [hints]bool // flows that have data here which was not acknowledged
	later   bool        // the reply in hand is an ACK that one for the same flow may replace
	patient bool        // it may also wait until the queue is idle
	flows   [flows]flow // to the sink, and from the source
	turn    int         // of the next one to be replaced
	count   tally
}

func newAnswerer(mac [6]byte, v4, v6 netip.Addr, mtu int) *answerer {
	segment := func(headers int) uint16 { return uint16(min(mtu-headers, 1<<16-1)) }
	return &answerer{
		mac: mac, v4: v4, v6: v6,
		mss: [2]uint16{segment(packet.IPv4Len + packet.TCPLen), segment(packet.IPv6Len + packet.TCPLen)},
	}
}

// answer makes the reply to a packet of total bytes, of which the first n are in
// buf and the others in more, in buf, and returns its length; 0 is none. Of a packet
// that lies in several frames all headers have to be in buf, and if its reply is
// longer than n, then that has the packet's length and goes on as the packet does.
// buf must have slack bytes or more, and at least n. Nothing in it is trusted.
func (a *answerer) answer(buf []byte, n, total int, more ...[]byte) (reply int) {
	a.later, a.patient = false, false
	a.first, a.more = n, more
	a.count[framesIn]++
	a.count[bytesIn] += uint64(total)
	if n < 0 || n > len(buf) || len(buf) < slack || packet.ParseFirst(buf[:n], total, &a.info) != packet.OK {
		a.count[badFrames]++
		return 0
	}
	switch a.info.Kind {
	case packet.TCP4, packet.TCP6:
		reply = a.tcp(buf)
	case packet.UDP4, packet.UDP6:
		reply = a.udp(buf)
	case packet.Fragment:
		reply = a.fragment(buf)
	case packet.ARP:
		reply = a.arp(buf[:n])
	case packet.ICMP6:
		reply = a.solicitation(buf)
	default:
		a.count[otherFrames]++
	}
	if reply != 0 {
		a.returnToSender(buf)
	}
	return reply
}

// returnToSender turns the Ethernet header round.
func (a *answerer) returnToSender(buf []byte) {
	copy(buf[0:6], buf[6:12])
	copy(buf[6:12], a.mac[:])
}

// swap4 exchanges two integers of 4 bytes, such as addresses; b has 8 bytes or
// more. What is swapped does not change a checksum over both.
func swap4(b []byte) {
	be := binary.BigEndian
	x, y := be.Uint32(b), be.Uint32(b[4:])
	be.PutUint32(b, y)
	be.PutUint32(b[4:], x)
}

// swap16 exchanges two IPv6 addresses; b has 32 bytes or more.
func swap16(b []byte) {
	var x [16]byte
	copy(x[:], b[:16])
	copy(b[:16], b[16:32])
	copy(b[16:32], x[:])
}

// swapPorts exchanges the first two 16-bit words of a transport header.
func swapPorts(b []byte) { b[0], b[1], b[2], b[3] = b[2], b[3], b[0], b[1] }

// swapAddresses exchanges source and destination of the packet in hand. The
// IPv4 header checksum stays right.
func (a *answerer) swapAddresses(buf []byte) {
	if buf[packet.EthernetLen]>>4 == 4 {
		swap4(buf[packet.EthernetLen+12:])
	} else {
		swap16(buf[packet.EthernetLen+8:])
	}
}

// sum adds the packet in hand from l4 to end, wherever that lies, to sum.
func (a *answerer) sum(buf []byte, l4, end int, sum uint32) uint32 {
	at := min(end, a.first)
	return packet.SumParts(packet.Sum(buf[l4:at], sum), (at-l4)&1 != 0, a.more, end-at)
}

// pseudo sums the pseudo-header of length bytes of transport. It is the same
// for both directions.
func (a *answerer) pseudo(buf []byte, length int) uint32 {
	return pseudoHeader(buf, a.info.Proto, length)
}

func pseudoHeader(buf []byte, proto uint8, length int) uint32 {
	if buf[packet.EthernetLen]>>4 == 4 {
		return packet.PseudoHeader4((*[8]byte)(buf[packet.EthernetLen+12:]), proto, length)
	}
	return packet.PseudoHeader6((*[32]byte)(buf[packet.EthernetLen+8:]), proto, length)
}
