package floor

import (
	"encoding/binary"
	"net/netip"

	"github.com/afxnet/afxnet/internal/packet"
)

// ARP over Ethernet and IPv4 (RFC 826): offsets in the frame.
const (
	arpAt     = packet.EthernetLen
	arpOp     = arpAt + 6
	arpSender = arpAt + 8  // 6 bytes of MAC, 4 of IPv4
	arpTarget = arpAt + 18 // the same
	arpEnd    = arpAt + 28

	arpRequest = 1
	arpReply   = 2
)

// arpHeader is hardware Ethernet, protocol IPv4, with their address lengths.
const arpHeader = 0x0001_0800_0604

// arp answers a request for our address.
func (a *answerer) arp(frame []byte) int {
	if len(frame) < arpEnd {
		a.count[badFrames]++
		return 0
	}
	be := binary.BigEndian
	target := netip.AddrFrom4([4]byte(frame[arpTarget+6:]))
	if be.Uint64(frame[arpAt:])>>16 != arpHeader || be.Uint16(frame[arpOp:]) != arpRequest || target != a.v4 {
		a.count[otherFrames]++
		return 0
	}
	be.PutUint16(frame[arpOp:], arpReply)
	copy(frame[arpTarget:arpEnd], frame[arpSender:arpTarget])
	copy(frame[arpSender:], a.mac[:])
	ours := a.v4.As4()
	copy(frame[arpSender+6:], ours[:])
	a.count[arpReplies]++
	return arpEnd
}

// Neighbour discovery (RFC 4861, 4.3 and 4.4): offsets in a frame without
// extension headers.
const (
	ndAt     = packet.EthernetLen + packet.IPv6Len
	ndTarget = ndAt + 8
	ndOption = ndTarget + 16
	ndEnd    = ndOption + 8 // with one link-layer address option

	ndSolicitation  = 135
	ndAdvertisement = 136
	ndHopLimit      = 255     // anything less has passed a router
	ndSolicited     = 3 << 29 // flags: solicited, override
)

// solicitation answers a neighbour solicitation for our address. One from the
// unspecified address asks whether it is free, which is no case for a lab.
func (a *answerer) solicitation(buf []byte) int {
	const ip = packet.EthernetLen
	l4, end := int(a.info.L4), int(a.info.End)
	if l4 != ndAt || end < ndOption || end > len(buf) || buf[ndAt] != ndSolicitation || buf[ndAt+1] != 0 || buf[ip+7] != ndHopLimit {
		a.count[otherFrames]++
		return 0
	}
	source := netip.AddrFrom16([16]byte(buf[ip+8:]))
	target := netip.AddrFrom16([16]byte(buf[ndTarget:]))
	if target != a.v6 || source.IsUnspecified() || source.IsMulticast() || packet.Fold(packet.Sum(buf[ndAt:end], a.pseudo(buf, end-ndAt))) != 0xffff {
		a.count[otherFrames]++
		return 0
	}
	be := binary.BigEndian
	copy(buf[ip+24:ip+40], buf[ip+8:])
	copy(buf[ip+8:ip+24], buf[ndTarget:ndOption])
	be.PutUint16(buf[ip+4:], ndEnd-ndAt)
	buf[ndAt] = ndAdvertisement
	be.PutUint16(buf[ndAt+2:], 0)
	be.PutUint32(buf[ndAt+4:], ndSolicited)
	buf[ndOption], buf[ndOption+1] = 2, 1 // target link-layer address, 8 bytes
	copy(buf[ndOption+2:ndEnd], a.mac[:])
	sum := packet.Sum(buf[ndAt:ndEnd], a.pseudo(buf, ndEnd-ndAt))
	be.PutUint16(buf[ndAt+2:], ^packet.Fold(sum))
	a.count[ndReplies]++
	return ndEnd
}
