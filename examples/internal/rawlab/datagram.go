package rawlab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// Ends are those of a datagram.
type Ends struct {
	ToMAC, FromMAC net.HardwareAddr
	To, From       netip.AddrPort // IPv4
}

// Datagram writes an Ethernet frame with a UDP datagram over IPv4, without a UDP
// checksum, that fills b: at least 42 bytes. payload is repeated in what room
// there is.
func Datagram(b []byte, e Ends, payload []byte) error {
	if len(b) < 42 || !e.To.Addr().Is4() || !e.From.Addr().Is4() || len(e.ToMAC) != 6 || len(e.FromMAC) != 6 {
		return fmt.Errorf("no datagram over IPv4 from %v to %v in %d bytes", e.From, e.To, len(b))
	}
	clear(b)
	copy(b, e.ToMAC)
	copy(b[6:], e.FromMAC)
	binary.BigEndian.PutUint16(b[12:], 0x0800)
	ip := b[14:]
	ip[0] = 0x45 // version 4, 20 bytes of header
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[8], ip[9] = 64, 17 // hops, UDP
	copy(ip[12:], e.From.Addr().AsSlice())
	copy(ip[16:], e.To.Addr().AsSlice())
	binary.BigEndian.PutUint16(ip[10:], checksum(ip[:20]))
	udp := ip[20:]
	binary.BigEndian.PutUint16(udp, e.From.Port())
	binary.BigEndian.PutUint16(udp[2:], e.To.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	for n := 8; len(payload) > 0 && n < len(udp); {
		n += copy(udp[n:], payload)
	}
	return nil
}

// checksum is the Internet checksum of an even number of bytes.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
