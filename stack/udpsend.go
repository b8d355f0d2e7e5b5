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

// multicastTTL is that of datagrams to groups, as with Linux: they stay on the
// link.
const multicastTTL = 1

// write sends a datagram to an address, or to the peer if that is not valid. The
// error is ErrWouldBlock if the send buffer is full; room in it wakes the writer.
// Preconditions: sock.wr.mu is held, b is not too long for a datagram.
func (e *udpEndpoint) write(b []byte, to netip.AddrPort) tcpip.Error {
	if terr := e.failure(); terr != nil {
		return terr
	}
	r, port := e.peer, e.id.RemotePort
	switch {
	case to.IsValid() && to.Port() == 0:
		return &tcpip.ErrInvalidEndpointState{}
	case to.IsValid():
		var cached bool
		var terr tcpip.Error
		if r, cached, terr = e.route(to.Addr()); terr != nil {
			return terr
		}
		if !cached {
			defer r.Release()
		}
		port = to.Port()
	case r == nil:
		return &tcpip.ErrDestinationRequired{}
	}
	pkt := e.build(b, r, port)
	if pkt == nil {
		return &tcpip.ErrWouldBlock{}
	}
	defer pkt.DecRef()
	params := gstack.NetworkHeaderParams{Protocol: udp.ProtocolNumber, TTL: r.DefaultTTL(), DF: true}
	if a := r.RemoteAddress(); header.IsV4MulticastAddress(a) || header.IsV6MulticastAddress(a) {
		params.TTL = multicastTTL
	}
	terr := r.WritePacket(params, pkt)
	if _, full := terr.(*tcpip.ErrNoBufferSpace); terr != nil && !full { // Linux does not tell either
		e.sock.stack.udp.PacketSendErrors.Increment()
		return terr
	}
	e.sock.stack.udp.PacketsSent.Increment()
	return nil
}

// build makes the packet of a datagram, with a copy of b, or returns nil if the
// send buffer is full.
func (e *udpEndpoint) build(b []byte, r *gstack.Route, port uint16) *gstack.PacketBuffer {
	reserve := int(r.MaxHeaderLength()) + header.UDPMinimumSize
	c := e.out.take(reserve + len(b))
	if c == nil {
		return nil
	}
	opts := gstack.PacketBufferOptions{ReserveHeaderBytes: reserve, OnRelease: c.release}
	var sum uint32
	if len(b) != 0 {
		v := buffer.NewViewSize(len(b))
		sum = packet.CopySum(v.AsSlice(), b, 0)
		opts.Payload = buffer.MakeWithView(v)
	}
	pkt := gstack.NewPacketBuffer(opts)
	pkt.TransportProtocolNumber = udp.ProtocolNumber
	pkt.Hash = e.hash
	size := header.UDPMinimumSize + len(b)
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
