package stack

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// writeLong sends a UDP datagram that takes several fragments, with most bytes each.
//
// Netstack forbids fragmenting by default, gives such packets the ID 0, which is
// right for what is never in fragments (RFC 6864, 4.1), and then cuts datagrams
// that are too long all the same: the fragments of two at a time would be put
// together to one. If it is not forbidden the IDs are random, and one in 65536
// meets each datagram that the receiver still waits to complete, for 30 s if a
// fragment was lost. So those that are too long get their header here, as Linux
// would give it: fragments allowed, and an ID that counts.
func (e *ipv4Endpoint) writeLong(r *gstack.Route, params *gstack.NetworkHeaderParams, pkt *gstack.PacketBuffer, most int) tcpip.Error {
	size := header.IPv4MinimumSize + pkt.Size()
	if size > math.MaxUint16 {
		return &tcpip.ErrMessageTooLong{}
	}
	fields := header.IPv4Fields{
		TotalLength: uint16(size),
		ID:          e.ids.next(r.RemoteAddress()),
		TTL:         params.TTL,
		TOS:         params.TOS,
		Protocol:    uint8(params.Protocol),
		SrcAddr:     r.LocalAddress(),
		DstAddr:     r.RemoteAddress(),
	}
	if e.fast.cuts(r, params) {
		return e.fast.writeFragments(e.nic, r, pkt, most, header.IPv4MinimumSize, func(h []byte, offset, n int, more bool) {
			fields.TotalLength, fields.FragmentOffset = uint16(len(h)+n), uint16(offset)
			if fields.Flags = 0; more {
				fields.Flags = header.IPv4FlagMoreFragments
			}
			header.IPv4(h).Encode(&fields)
			header.IPv4(h).SetChecksum(^header.IPv4(h).CalculateChecksum())
		})
	}
	h := header.IPv4(make([]byte, header.IPv4MinimumSize))
	h.Encode(&fields)
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

// writeLong does for IPv6 what that of IPv4 does, but for the IDs: they have 32 bits,
// and netstack's are random too.
func (e *ipv6Endpoint) writeLong(r *gstack.Route, params *gstack.NetworkHeaderParams, pkt *gstack.PacketBuffer, most int) tcpip.Error {
	id := rand.Uint32()
	return e.fast.writeFragments(e.nic, r, pkt, most-header.IPv6FragmentHeaderSize, header.IPv6MinimumSize+header.IPv6FragmentHeaderSize, func(h []byte, offset, n int, more bool) {
		header.IPv6(h).Encode(&header.IPv6Fields{
			PayloadLength:     uint16(len(h) - header.IPv6MinimumSize + n),
			TransportProtocol: header.IPv6FragmentHeader,
			HopLimit:          params.TTL,
			TrafficClass:      params.TOS,
			SrcAddr:           r.LocalAddress(),
			DstAddr:           r.RemoteAddress(),
		})
		f := h[header.IPv6MinimumSize:]
		f[0], f[1] = uint8(params.Protocol), 0
		if more {
			offset |= 1 // it is a multiple of 8
		}
		binary.BigEndian.PutUint16(f[2:], uint16(offset))
		binary.BigEndian.PutUint32(f[4:], id)
	})
}

// cuts tells whether a packet may be cut to fragments here: it goes to the link only,
// past no packet filter.
func (f *fastIP) cuts(r *gstack.Route, params *gstack.NetworkHeaderParams) bool {
	return !f.retired.Load() && params.ExperimentOptionValue == 0 && r.Loop() == gstack.PacketOut && r.NICID() == nicID
}

// writeFragments sends a packet that has no IP header yet in fragments, with most
// bytes of it each. head makes the header of one, of room bytes, before n bytes of the
// packet from an offset on.
//
// The fragments keep the packet, and with it the writer's charge (sendBuffer), until
// the last of them is written or lost, and belong to its flow. Netstack's own would do
// neither: writers would not wait for the link, and what they send would push out
// all that has no flow, such as ARP.
func (f *fastIP) writeFragments(nic gstack.NetworkInterface, r *gstack.Route, pkt *gstack.PacketBuffer, most, room int, head func(h []byte, offset, n int, more bool)) tcpip.Error {
	if most &^= 7; most <= 0 {
		return &tcpip.ErrMessageTooLong{}
	}
	all := f.netstackCounts(r.NetProto())
	whole := pkt.ToBuffer()
	defer whole.Release()
	for offset, size := 0, int(whole.Size()); offset < size; offset += most {
		n := min(most, size-offset)
		part := whole.Clone()
		part.TrimFront(int64(offset))
		part.Truncate(int64(n))
		pkt.IncRef()
		frag := gstack.NewPacketBuffer(gstack.PacketBufferOptions{
			ReserveHeaderBytes: int(nic.MaxHeaderLength()) + room,
			Payload:            part,
			OnRelease:          pkt.DecRef,
		})
		head(frag.NetworkHeader().Push(room), offset, n, offset+n < size)
		frag.NetworkProtocolNumber = r.NetProto()
		frag.Hash = pkt.Hash
		err := nic.WritePacket(r, frag)
		frag.DecRef()
		for _, c := range all {
			if err != nil {
				c.OutgoingPacketErrors.Increment()
			} else {
				c.PacketsSent.Increment()
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
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
