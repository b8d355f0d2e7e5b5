package floor

import (
	"encoding/binary"

	"github.com/afxnet/afxnet/internal/packet"
)

// udp sends a datagram back. Addresses and ports only change places, so the
// checksum stays right; one that a virtual device has left to hardware, and only
// covers the pseudo-header, is made whole. One of 65536 that are whole looks like that.
func (a *answerer) udp(buf []byte) int {
	l4, end := int(a.info.L4), int(a.info.End)
	be := binary.BigEndian
	h := buf[l4 : l4+packet.UDPLen]
	length := int(be.Uint16(h[4:])) // packet.ParseFirst has checked it
	pseudo := a.pseudo(buf, length)
	if field := be.Uint16(h[6:]); field != 0 && field == packet.Fold(pseudo) {
		be.PutUint16(h[6:], 0)
		sum := ^packet.Fold(a.sum(buf, l4, l4+length, pseudo))
		if sum == 0 {
			sum = 0xffff // zero says that there is none (RFC 768)
		}
		be.PutUint16(h[6:], sum)
	}
	a.swapAddresses(buf)
	swapPorts(h)
	a.count[udpEchoes]++
	return end
}

// The IPv6 fragment header (RFC 8200, 4.5), behind the fixed header.
const (
	fragmentAt     = packet.EthernetLen + packet.IPv6Len
	fragmentLen    = 8
	fragmentHeader = 44 // the next header value that announces it
)

// fragment sends a fragment of a UDP datagram back as it is: the client puts
// the datagram together again by the identification that it chose itself. Only
// the first one has ports.
func (a *answerer) fragment(buf []byte) int {
	l4, end := int(a.info.L4), int(a.info.End)
	be := binary.BigEndian
	var offset uint16
	proto := a.info.Proto
	if buf[packet.EthernetLen]>>4 == 4 {
		offset = be.Uint16(buf[packet.EthernetLen+6:]) & 0x1fff
	} else {
		if proto != fragmentHeader || end < fragmentAt+fragmentLen {
			a.count[otherFrames]++
			return 0
		}
		proto = buf[fragmentAt]
		offset = be.Uint16(buf[fragmentAt+2:]) >> 3
		l4 = fragmentAt + fragmentLen
	}
	if proto != packet.ProtoUDP {
		a.count[otherFrames]++
		return 0
	}
	if offset == 0 {
		if end < l4+packet.UDPLen {
			a.count[badFrames]++
			return 0
		}
		swapPorts(buf[l4:])
	}
	a.swapAddresses(buf)
	a.count[udpEchoes]++
	return end
}
