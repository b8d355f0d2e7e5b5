package raw

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/afxnet/afxnet/internal/packet"
)

const (
	ethernetLen = packet.EthernetLen
	headersLen4 = ethernetLen + packet.IPv4Len + packet.UDPLen
)

// UDPFrame returns an Ethernet frame of size bytes with a UDP datagram over
// IPv4, all checksums filled in. size is 42 (no payload) to 65535.
func UDPFrame(srcMAC, dstMAC net.HardwareAddr, src, dst netip.AddrPort, size int) ([]byte, error) {
	if len(srcMAC) != 6 || len(dstMAC) != 6 || !src.Addr().Is4() || !dst.Addr().Is4() {
		return nil, fmt.Errorf("raw: frame from %v %v to %v %v: Ethernet and IPv4 only", srcMAC, src, dstMAC, dst)
	}
	if size < headersLen4 || size > packet.MaxFrame {
		return nil, fmt.Errorf("raw: frame of %d bytes: from %d to %d", size, headersLen4, packet.MaxFrame)
	}
	be := binary.BigEndian
	f := make([]byte, 0, size)
	f = append(append(f, dstMAC...), srcMAC...)
	f = append(f, 0x08, 0x00, 0x45, 0)
	f = be.AppendUint16(f, uint16(size-ethernetLen))
	f = append(f, 0, 0, 0x40, 0, 64, packet.ProtoUDP, 0, 0)
	f = append(append(f, src.Addr().AsSlice()...), dst.Addr().AsSlice()...)
	be.PutUint16(f[24:], ^packet.Fold(packet.Sum(f[ethernetLen:], 0)))
	n := size - ethernetLen - packet.IPv4Len
	f = be.AppendUint16(be.AppendUint16(f, src.Port()), dst.Port())
	f = append(be.AppendUint16(f, uint16(n)), 0, 0)
	for i := len(f); i < size; i++ {
		f = append(f, byte(i))
	}
	udp := f[ethernetLen+packet.IPv4Len:]
	sum := ^packet.Fold(packet.Sum(udp, packet.PseudoHeader4((*[8]byte)(f[26:]), packet.ProtoUDP, n)))
	if sum == 0 {
		sum = 0xffff // zero says that there is none (RFC 768)
	}
	be.PutUint16(udp[6:], sum)
	return f, nil
}
