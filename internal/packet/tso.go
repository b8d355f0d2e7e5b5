package packet

import "encoding/binary"

// Cutter cuts one TCP segment, as large as netstack hands it over, into frames.
// The frames may be asked for one at a time and much later: all state is in the
// Cutter, and a Next that found no room changes nothing.
type Cutter struct {
	header []byte   // template: Ethernet, IP, TCP with options
	parts  [][]byte // payload; parts[part][off:] comes next
	part   int
	off    int

	left int // payload bytes not yet written
	mss  int // payload bytes of every frame but the last
	segs int // frames not yet written

	ip, l4 int    // offsets of the IP and TCP headers
	ipSum  uint32 // of the IPv4 header without length, ID and checksum
	tcpSum uint32 // of pseudo-header and header without length, sequence number, flags and checksum
	seq    uint32 // of the next frame
	id     uint16 // IPv4; of the next frame
	flags  uint8  // of the next frame, if it is the last
	v4     bool
}

// Init prepares to cut a segment with the given headers, the IP header at l3 and
// the TCP header, which ends them, at l4. Lengths and checksums in them are
// ignored. The payload is parts, one behind the other. mss is the most payload
// bytes of one frame; at 0, or if the payload is no longer, there is one frame.
//
// header and parts are kept, and must not change, until the last frame is
// written. Init returns OK, BadHeader, BadMSS, or BadTotalLength if a frame
// would not fit an IP packet; unless OK, there are no frames.
func (c *Cutter) Init(header []byte, l3, l4 int, parts [][]byte, mss int) Reason {
	c.header, c.parts, c.segs = nil, nil, 0
	if l3 < 0 || l3 > l4 || l4 > len(header)-TCPLen || l4-l3 < IPv4Len {
		return BadHeader
	}
	ip, tcp := header[l3:l4], header[l4:]
	if int(tcp[12]>>4)*4 != len(tcp) {
		return BadHeader
	}
	if mss < 0 {
		return BadMSS
	}
	payload := 0
	for _, p := range parts {
		payload += len(p)
	}
	segs := 1
	if mss == 0 || payload <= mss {
		mss = payload
	} else {
		segs = (payload + mss - 1) / mss
	}
	if len(ip)+len(tcp)+mss > maxMerged {
		return BadTotalLength
	}
	be := binary.BigEndian
	var sum uint32 // of the addresses
	switch {
	case ip[0] == 4<<4|uint8(len(ip)/4) && len(ip)%4 == 0 && ip[9] == ProtoTCP:
		c.v4 = true
		c.id = be.Uint16(ip[4:])
		sum = PseudoHeader4((*[8]byte)(ip[12:]), 0, 0)
		c.ipSum = sum + uint32(be.Uint16(ip[0:])) + uint32(be.Uint16(ip[6:])) + uint32(be.Uint16(ip[8:]))
		if len(ip) > IPv4Len {
			c.ipSum = Sum(ip[IPv4Len:], c.ipSum)
		}
	case ip[0]>>4 == 6 && len(ip) == IPv6Len && ip[6] == ProtoTCP:
		c.v4 = false
		sum = PseudoHeader6((*[32]byte)(ip[8:]), 0, 0)
	default:
		return BadHeader
	}
	c.tcpSum = sum + ProtoTCP + tcpConstants((*[TCPLen]byte)(tcp))
	if len(tcp) > TCPLen {
		c.tcpSum = Sum(tcp[TCPLen:], c.tcpSum)
	}
	c.seq = be.Uint32(tcp[4:])
	c.flags = tcp[13]
	c.header, c.parts, c.part, c.off = header, parts, 0, 0
	c.left, c.mss, c.segs = payload, mss, segs
	c.ip, c.l4 = l3, l4
	return OK
}

// tcpConstants sums the words of a TCP header that are the same in all frames:
// all but sequence number, flags and checksum.
func tcpConstants(tcp *[TCPLen]byte) uint32 {
	be := binary.BigEndian
	acc := uint64(be.Uint32(tcp[0:])) + uint64(be.Uint32(tcp[8:])) +
		uint64(be.Uint32(tcp[12:])&^0xff0000) + uint64(be.Uint16(tcp[18:]))
	return uint32(fold64(acc))
}

// Segments returns the number of frames not yet written.
func (c *Cutter) Segments() int { return c.segs }

// FrameLen returns the bytes of the next frame, 0 if there is none. No later
// frame is longer.
func (c *Cutter) FrameLen() int {
	if c.segs == 0 {
		return 0
	}
	return len(c.header) + min(c.left, c.mss)
}

// Next writes the next frame to dst and returns its bytes. It returns 0 if all
// are written, or dst is shorter than FrameLen. A frame that dst does not hold
// goes on in more, each filled before the next; the headers must fit dst.
//
// Each frame has the template's headers with its own lengths, checksums and
// sequence number; the IPv4 ID counts up from the template's. As Linux does, FIN
// and PSH are left to the last frame and CWR to the first.
func (c *Cutter) Next(dst []byte, more ...[]byte) int {
	size := c.FrameLen()
	if size == 0 {
		return 0
	}
	n := size - len(c.header)
	var sum uint32
	switch {
	case size <= len(dst):
		copy(dst, c.header)
		sum = c.gather(dst[len(c.header):size])
	case c.fits(size, dst, more):
		k := copy(dst, c.header)
		sum = sumParts(c.gather(dst[k:]), (len(dst)-k)&1 != 0, more, size-len(dst), c.gather)
	default:
		return 0
	}

	be := binary.BigEndian
	ip := dst[c.ip:c.l4]
	length := size - c.l4
	if c.v4 {
		total := uint16(size - c.ip)
		be.PutUint16(ip[2:], total)
		be.PutUint16(ip[4:], c.id)
		be.PutUint16(ip[10:], ^Fold(c.ipSum+uint32(total)+uint32(c.id)))
		c.id++
	} else {
		be.PutUint16(ip[4:], uint16(length))
	}
	flags := c.flags
	c.flags &^= CWR
	if c.segs > 1 {
		flags &^= FIN | PSH
	}
	tcp := (*[TCPLen]byte)(dst[c.l4:])
	be.PutUint32(tcp[4:], c.seq)
	tcp[13] = flags
	sum += c.tcpSum + uint32(length) + c.seq>>16 + c.seq&0xffff + uint32(flags)
	be.PutUint16(tcp[16:], ^Fold(sum))

	c.seq += uint32(n)
	c.left -= n
	c.segs--
	if c.segs == 0 {
		c.header, c.parts = nil, nil
	}
	return size
}

// gather fills dst with the payload that comes next and returns its sum, folded.
func (c *Cutter) gather(dst []byte) uint32 {
	var sum uint32
	odd := false
	for len(dst) > 0 {
		p := c.parts[c.part][c.off:]
		if len(p) > len(dst) {
			p = p[:len(dst)]
			c.off += len(p)
		} else {
			c.part++
			c.off = 0
		}
		sum = CopySum(dst, p, sum)
		if len(p)&1 != 0 {
			sum = Swap(sum)
			odd = !odd
		}
		dst = dst[len(p):]
	}
	if odd {
		return Swap(sum)
	}
	return uint32(Fold(sum))
}

// fits tells whether a frame of size bytes can be written to dst and more.
func (c *Cutter) fits(size int, dst []byte, more [][]byte) bool {
	if len(dst) < len(c.header) {
		return false
	}
	size -= len(dst)
	for _, d := range more {
		size -= len(d)
	}
	return size <= 0
}

// Copy writes parts to dst, and what does not fit to more, one behind the other,
// and returns their bytes. If that is too short it returns 0, and what was
// written is of no use.
func Copy(dst []byte, parts [][]byte, more ...[]byte) int {
	n, before := 0, 0
	for _, p := range parts {
		for len(p) > len(dst)-n {
			if len(more) == 0 {
				return 0
			}
			p = p[copy(dst[n:], p):]
			before += len(dst)
			dst, more, n = more[0], more[1:], 0
		}
		n += copy(dst[n:], p)
	}
	return before + n
}
