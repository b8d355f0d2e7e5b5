package wire

import "encoding/binary"

const (
	etherIPv4, etherIPv6 = 0x0800, 0x86dd // big endian in the header
	protoTCP, protoUDP   = 6, 17
)

// Hash is how a port with several queues spreads flows: over addresses and
// ports of whole TCP and UDP packets, over addresses only for fragments and
// other IP packets. It is symmetric: both directions of a flow have one hash.
// ok is false for what is not IP, VLAN tags included, which goes to queue 0.
func Hash(frame []byte) (h uint32, ok bool) {
	if len(frame) < 14 {
		return 0, false
	}
	ip := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		if len(ip) < 20 || ip[0]>>4 != 4 {
			return 0, false
		}
		sum := uint64(binary.BigEndian.Uint32(ip[12:])) + uint64(binary.BigEndian.Uint32(ip[16:]))
		head := int(ip[0]&15) * 4
		whole := binary.BigEndian.Uint16(ip[6:])&0x3fff == 0 // more fragments, offset
		return finish(sum, ports(ip, head, ip[9], whole && head >= 20)), true
	case etherIPv6:
		if len(ip) < 40 || ip[0]>>4 != 6 {
			return 0, false
		}
		sum := uint64(0)
		for i := 8; i < 40; i += 8 {
			// The first and second half of both addresses weigh differently.
			sum += binary.BigEndian.Uint64(ip[i:]) * uint64(1+i/8%2*2)
		}
		return finish(sum, ports(ip, 40, ip[6], true)), true
	}
	return 0, false
}

// ports returns the sum of the port numbers, 0 if there are none.
func ports(ip []byte, head int, proto uint8, whole bool) uint64 {
	if !whole || proto != protoTCP && proto != protoUDP || len(ip) < head+4 {
		return 0
	}
	return uint64(binary.BigEndian.Uint16(ip[head:])) + uint64(binary.BigEndian.Uint16(ip[head+2:])) + 1<<17
}

// finish mixes all bits into the low ones, which choose the queue (splitmix64).
func finish(addrs, ports uint64) uint32 {
	x := addrs + ports*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return uint32(x ^ x>>31)
}
