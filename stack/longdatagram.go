package stack

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"sync"

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
	line := e.fast.long.take(r.RemoteAddress())
	fields := header.IPv4Fields{
		TotalLength: uint16(size),
		ID:          line.id(),
		TTL:         params.TTL,
		TOS:         params.TOS,
		Protocol:    uint8(params.Protocol),
		SrcAddr:     r.LocalAddress(),
		DstAddr:     r.RemoteAddress(),
	}
	if e.fast.cuts(r, params) {
		defer line.mu.Unlock()
		return e.fast.writeFragments(e.nic, r, pkt, line, most, header.IPv4MinimumSize, func(h []byte, offset, n int, more bool) {
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
	long.Hash = line.flow
	if r.Loop()&gstack.PacketLoop == 0 {
		defer line.mu.Unlock()
	} else {
		line.mu.Unlock() // who receives it here may answer at once
	}
	return e.WriteHeaderIncludedPacket(r, long) // fills in the checksum
}

// writeLong does for IPv6 what that of IPv4 does, but for the IDs: they have 32 bits,
// and netstack's are random too.
func (e *ipv6Endpoint) writeLong(r *gstack.Route, params *gstack.NetworkHeaderParams, pkt *gstack.PacketBuffer, most int) tcpip.Error {
	line := e.fast.long.take(r.RemoteAddress())
	defer line.mu.Unlock()
	id := rand.Uint32()
	return e.fast.writeFragments(e.nic, r, pkt, line, most-header.IPv6FragmentHeaderSize, header.IPv6MinimumSize+header.IPv6FragmentHeaderSize, func(h []byte, offset, n int, more bool) {
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
// packet from an offset on. Precondition: line, the destination's, is locked.
//
// The fragments keep the packet, and with it the writer's charge (sendBuffer), until
// the last of them is written or lost, and belong to the line's flow. Netstack's own
// would do neither: writers would not wait for the link, and what they send would push
// out all that has no flow, such as ARP.
func (f *fastIP) writeFragments(nic gstack.NetworkInterface, r *gstack.Route, pkt *gstack.PacketBuffer, line *longLine, most, room int, head func(h []byte, offset, n int, more bool)) tcpip.Error {
	if most &^= 7; most <= 0 {
		return &tcpip.ErrMessageTooLong{}
	}
	if b := f.long.burster; b != nil {
		b.BeginBurst()
		defer b.EndBurst()
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
		frag.Hash = line.flow
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

// longLines are where those wait who send UDP datagrams in fragments: one destination's
// leave one after the other, each as one burst, by one queue of the device and one flow of
// that. It is not the flow of the sockets' short ones, which may overtake them where the
// link is full. What waits for a neighbour's address is not kept together.
//
// Linux gives an incomplete datagram up when more than 64 other fragments of its source
// have come since its last one (ipfrag_max_dist in Documentation/networking/ip-sysctl.rst,
// ip_frag_too_far in net/ipv4/ip_fragment.c, 6.18). That many come at once when a writer
// loses its processor between two fragments, or when flows of long datagrams take turns
// at a full link.
//
// Destinations share a line at random, so that nobody learns from its own datagrams' IDs
// what another one is sent.
type longLines struct {
	seed    maphash.Seed
	lines   *[256]longLine
	burster burster // the device, if it can
}

// A burster is a device that sends what is written between the two calls as one burst.
// The caller must not wait in between. He may hold any lock.
type burster interface {
	BeginBurst()
	EndBurst()
}

// A longLine is held by one writer at a time. Who holds it does not wait.
type longLine struct {
	mu   sync.Mutex
	last uint16 // ID
	flow uint32 // the hash of its packets
}

func newLongLines(device idler) longLines {
	l := longLines{seed: maphash.MakeSeed(), lines: new([256]longLine)}
	l.burster, _ = device.(burster)
	for i := range l.lines {
		random := maphash.Comparable(l.seed, i)
		l.lines[i].last, l.lines[i].flow = uint16(random), max(1, uint32(random>>32)) // 0 would be no flow
	}
	return l
}

// take returns the line of a destination, locked.
func (l *longLines) take(to tcpip.Address) *longLine {
	line := &l.lines[maphash.Comparable(l.seed, to)%uint64(len(l.lines))]
	line.mu.Lock()
	return line
}

// id returns the ID for the next datagram: not 0, which would mean none. Precondition:
// the line is locked.
func (l *longLine) id() uint16 {
	if l.last++; l.last == 0 {
		l.last++
	}
	return l.last
}
