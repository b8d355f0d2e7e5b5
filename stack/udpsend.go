package stack

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/afxnet/afxnet/internal/packet"
)

// write sends a datagram, in one piece or several, to an address, or to the peer
// if that is not valid; how may be nil. The error is ErrWouldBlock if the send
// buffer is full; room in it wakes the writer. Preconditions: sock.wr.mu is held,
// the datagram is not too long.
func (e *udpEndpoint) write(b []byte, more [][]byte, to netip.AddrPort, how *sendControl) tcpip.Error {
	r, port := e.peer, e.id.RemotePort
	set := e.options()
	switch {
	case to.IsValid() && to.Port() == 0:
		return &tcpip.ErrInvalidEndpointState{}
	case !to.IsValid() && r == nil:
		return &tcpip.ErrDestinationRequired{}
	case !to.IsValid() && (how != nil && how.source.IsValid() || set.noLoop && isMulticast(r.RemoteAddress())):
		to = netip.AddrPortFrom(e.sock.stack.addrPort(tcpip.FullAddress{Addr: r.RemoteAddress()}).Addr(), port)
	}
	if to.IsValid() {
		var cached bool
		var terr tcpip.Error
		if r, cached, terr = e.route(to.Addr(), how, set); terr != nil {
			return terr
		}
		if !cached {
			defer r.Release()
		}
		port = to.Port()
	}
	pkt := e.build(b, more, r, port)
	if pkt == nil {
		return &tcpip.ErrWouldBlock{}
	}
	defer pkt.DecRef()
	terr := r.WritePacket(set.header(r, how), pkt)
	if _, full := terr.(*tcpip.ErrNoBufferSpace); terr != nil && !full { // Linux does not tell either
		e.sock.stack.udp.PacketSendErrors.Increment()
		return terr
	}
	e.sock.stack.udp.PacketsSent.Increment()
	return nil
}

// build makes the packet of a datagram, with a copy of its pieces, or returns nil
// if the send buffer is full.
func (e *udpEndpoint) build(b []byte, more [][]byte, r *gstack.Route, port uint16) *gstack.PacketBuffer {
	reserve := int(r.MaxHeaderLength()) + header.UDPMinimumSize
	data := sizeOf(b, more)
	c := e.out.take(reserve + data)
	if c == nil {
		return nil
	}
	opts := gstack.PacketBufferOptions{ReserveHeaderBytes: reserve, OnRelease: c.release}
	var sum uint32
	if data != 0 {
		v := buffer.NewViewSize(data)
		sum = copyPieces(v.AsSlice(), b, more)
		opts.Payload = buffer.MakeWithView(v)
	}
	pkt := gstack.NewPacketBuffer(opts)
	pkt.TransportProtocolNumber = udp.ProtocolNumber
	pkt.Hash = e.hash
	size := header.UDPMinimumSize + data
	h := (*[header.UDPMinimumSize]byte)(pkt.TransportHeader().Push(header.UDPMinimumSize))
	binary.BigEndian.PutUint16(h[0:], e.id.LocalPort)
	binary.BigEndian.PutUint16(h[2:], port)
	binary.BigEndian.PutUint16(h[4:], uint16(size))
	sum += uint32(e.id.LocalPort) + uint32(port) + uint32(size) + pseudoHeader(r, size)
	check := ^packet.Fold(sum)
	if check == 0 { // which says that there is none (RFC 768)
		check = 0xffff
	}
	binary.BigEndian.PutUint16(h[6:], check)
	return pkt
}

// copyPieces copies b and what follows it to dst, which has room, and returns the
// sum of that.
func copyPieces(dst, b []byte, more [][]byte) uint32 {
	if len(more) == 0 {
		return packet.CopySum(dst, b, 0)
	}
	at := dst[copy(dst, b):]
	for _, p := range more {
		at = at[copy(at, p):]
	}
	return packet.Sum(dst, 0)
}

// pseudoHeader sums what stands for the IP header in a UDP checksum.
func pseudoHeader(r *gstack.Route, size int) uint32 {
	if r.NetProto() == ipv4.ProtocolNumber {
		var addrs [8]byte
		src, dst := r.LocalAddress().As4(), r.RemoteAddress().As4()
		copy(addrs[:], src[:])
		copy(addrs[4:], dst[:])
		return packet.PseudoHeader4(&addrs, packet.ProtoUDP, size)
	}
	var addrs [32]byte
	src, dst := r.LocalAddress().As16(), r.RemoteAddress().As16()
	copy(addrs[:], src[:])
	copy(addrs[16:], dst[:])
	return packet.PseudoHeader6(&addrs, packet.ProtoUDP, size)
}

// A sendBuffer counts the bytes of packets that are on their way to the link. A
// packet is on its way until it is released: one that waits for room in the TX
// ring is, and so writers wait with it.
type sendBuffer struct {
	writer *parker

	mu    sync.Mutex // a leaf
	bytes int
	limit int
	full  bool // somebody was refused
	spare *charge
	kept  int // number of spare ones
}

// A charge is the share that one packet has of a sendBuffer.
type charge struct {
	of      *sendBuffer
	bytes   int
	release func() // gives it back; made once, or each packet would allocate it
	next    *charge
}

// spareCharges is how many are kept for later packets: those of a burst.
const spareCharges = 64

// take charges a packet, or returns nil if there is no room at all. A packet may
// be larger than the room there is, as with Linux.
func (o *sendBuffer) take(bytes int) *charge {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes >= o.limit {
		o.full = true
		return nil
	}
	o.bytes += bytes
	c := o.spare
	if c == nil {
		c = &charge{of: o}
		c.release = c.free
	} else {
		o.spare, c.next = c.next, nil
		o.kept--
	}
	c.bytes = bytes
	return c
}

// free gives a charge back. It is called wherever the last reference of a packet
// is dropped, with any lock held.
func (c *charge) free() {
	o := c.of
	o.mu.Lock()
	o.bytes -= c.bytes
	room := o.full && o.bytes < o.limit
	if room {
		o.full = false
	}
	if o.kept < spareCharges {
		c.next, o.spare = o.spare, c
		o.kept++
	}
	o.mu.Unlock()
	if room {
		o.writer.wake()
	}
}

// setLimit changes the bound.
func (o *sendBuffer) setLimit(bytes int) {
	o.mu.Lock()
	o.limit = bytes
	o.mu.Unlock()
	o.writer.wake()
}
