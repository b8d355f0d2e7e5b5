package stack

import (
	"hash/maphash"
	"math"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// writeLong sends a UDP datagram that takes several fragments.
//
// Netstack forbids fragmenting by default, gives such packets the ID 0, which is
// right for what is never in fragments (RFC 6864, 4.1), and then cuts datagrams
// that are too long all the same: the fragments of two at a time would be put
// together to one. If it is not forbidden the IDs are random, and one in 65536
// meets each datagram that the receiver still waits to complete, for 30 s if a
// fragment was lost. So those that are too long get their header here, as Linux
// would give it: fragments allowed, and an ID that counts.
func (e *ipv4Endpoint) writeLong(r *gstack.Route, params *gstack.NetworkHeaderParams, pkt *gstack.PacketBuffer) tcpip.Error {
	size := header.IPv4MinimumSize + pkt.Size()
	if size > math.MaxUint16 {
		return &tcpip.ErrMessageTooLong{}
	}
	h := header.IPv4(make([]byte, header.IPv4MinimumSize))
	h.Encode(&header.IPv4Fields{
		TotalLength: uint16(size),
		ID:          e.ids.next(r.RemoteAddress()),
		TTL:         params.TTL,
		TOS:         params.TOS,
		Protocol:    uint8(params.Protocol),
		SrcAddr:     r.LocalAddress(),
		DstAddr:     r.RemoteAddress(),
	})
	data := buffer.MakeWithData(h)
	body := pkt.ToBuffer()
	data.Merge(&body)
	long := gstack.NewPacketBuffer(gstack.PacketBufferOptions{
		ReserveHeaderBytes: int(e.MaxHeaderLength()),
		Payload:            data,
	})
	defer long.DecRef()
	long.Hash = pkt.Hash
	return e.WriteHeaderIncludedPacket(r, long) // fills in the checksum
}

// datagramIDs counts the IDs of datagrams in fragments. Destinations share a
// counter at random, so that nobody learns from it what another one is sent.
type datagramIDs struct {
	seed     maphash.Seed
	counters *[256]atomic.Uint32
}

func newDatagramIDs() datagramIDs {
	d := datagramIDs{maphash.MakeSeed(), new([256]atomic.Uint32)}
	for i := range d.counters {
		d.counters[i].Store(uint32(maphash.Comparable(d.seed, i)))
	}
	return d
}

// next returns the ID for a datagram to a destination: not 0, which would mean
// none.
func (d *datagramIDs) next(to tcpip.Address) uint16 {
	c := &d.counters[maphash.Comparable(d.seed, to)%uint64(len(d.counters))]
	for {
		if id := uint16(c.Add(1)); id != 0 {
			return id
		}
	}
}
