package stack

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// An unfinished keeps netstack from starting a timer for each datagram that comes
// in fragments. Netstack starts one whenever a datagram's first fragment finds no
// other datagram incomplete, and does not stop it when the datagram is whole
// (pkg/tcpip/network/internal/fragmentation, Process): some 200 bytes for 30 s over
// IPv4 and a minute over IPv6, as many as somebody likes to send. If a fragment is
// lost meanwhile, they all fire in one moment, each with a goroutine, and the runtime
// keeps those for good. So while fragments come there is always one datagram that
// waits for the rest: a fragment from nobody, which is renewed before netstack gives
// it up, and before so many others have come that it makes room for them. Netstack's
// counters have it among the packets that were received.
//
// Any goroutine may call its methods.
type unfinished struct {
	clock  tcpip.Clock // netstack's, by which it gives datagrams up
	start  tcpip.MonotonicTime
	due    atomic.Int64 // when it is to be renewed, after start
	since  atomic.Int64 // bytes of fragments that have come since it was
	source [8]byte      // of the fragment; nobody can guess it and send the rest
}

// unfinishedBytes is after how many bytes of fragments it is renewed. Netstack drops
// the oldest datagrams until the others take 3 MB (LowFragThreshold), and this one is
// older than all that has come since.
const unfinishedBytes = 2 << 20

func newUnfinished(clock tcpip.Clock) *unfinished {
	u := &unfinished{clock: clock, start: clock.NowMonotonic()}
	binary.NativeEndian.PutUint64(u.source[:], rand.Uint64())
	return u
}

// renew is told of a fragment by its size, in bytes as netstack counts them, and
// reports whether it is time for the next one from nobody; netstack keeps each for as
// long as timeout.
func (u *unfinished) renew(timeout time.Duration, size int) bool {
	now, due := u.clock.NowMonotonic().Sub(u.start), u.due.Load()
	if u.since.Add(int64(size)) < unfinishedBytes && int64(now) < due {
		return false
	}
	if !u.due.CompareAndSwap(due, int64(now+timeout*2/3)) {
		return false
	}
	u.since.Store(0)
	return true
}

// fragment4 tells whether an IPv4 packet that netstack has not parsed is one.
func fragment4(pkt *gstack.PacketBuffer) bool {
	b, ok := pkt.Data().PullUp(header.IPv4MinimumSize)
	return ok && (header.IPv4(b).More() || header.IPv4(b).FragmentOffset() != 0)
}

// fragment6 tells whether an IPv6 packet may be one: it has extension headers.
func fragment6(pkt *gstack.PacketBuffer) bool {
	b, ok := pkt.Data().PullUp(header.IPv6MinimumSize)
	if !ok {
		return false
	}
	switch tcpip.TransportProtocolNumber(header.IPv6(b).NextHeader()) {
	case header.TCPProtocolNumber, header.UDPProtocolNumber, header.ICMPv6ProtocolNumber:
		return false
	}
	return true
}

// keepHeader4 gives the IP header of a first fragment a view of its own. Netstack
// holds on to the header of the whole datagram while it parses the transport header
// behind it (pkg/tcpip/network/ipv4/ipv4.go, deliverPacketLocally). Where a fragment
// ends within that one, the parser joins the views that have parts of it in new
// memory, and what they were goes back to a pool: netstack would read the protocol
// and the options from memory that any goroutine may have by then, and options from
// a header that says it is shorter than 20 bytes end the process. The parser leaves
// a view alone that has none of the transport header.
func keepHeader4(pkt *gstack.PacketBuffer) {
	b, ok := pkt.Data().PullUp(header.IPv4MinimumSize)
	if !ok || header.IPv4(b).FragmentOffset() != 0 {
		return
	}
	size := int(header.IPv4(b).HeaderLength())
	if b, ok = pkt.Data().PullUp(size); !ok {
		return
	}
	head, rest := buffer.NewViewWithData(b), pkt.Data().ToBuffer()
	rest.TrimFront(int64(size))
	pkt.Data().CapLength(0)
	pkt.Data().AppendView(head)
	pkt.Data().MergeBuffer(&rest)
}

// laterPart is the length of the fragment's payload in bytes, and its offset.
const laterPart = 8

// packet4 returns a fragment that is not the first, to an address.
func (u *unfinished) packet4(to uint32) *gstack.PacketBuffer {
	b := make([]byte, header.IPv4MinimumSize+laterPart)
	h := header.IPv4(b)
	src, dst := [4]byte(u.source[:4]), [4]byte{}
	src[0] = 240 // reserved: RFC 1112, 4
	binary.BigEndian.PutUint32(dst[:], to)
	h.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)), ID: uint16(rand.Uint32()), TTL: 64, Protocol: uint8(header.UDPProtocolNumber),
		Flags: header.IPv4FlagMoreFragments, FragmentOffset: laterPart,
		SrcAddr: tcpip.AddrFrom4(src), DstAddr: tcpip.AddrFrom4(dst),
	})
	h.SetChecksum(^h.CalculateChecksum())
	return packetOf(b, ipv4.ProtocolNumber)
}

// packet6 returns a fragment that is not the first, to an address.
func (u *unfinished) packet6(to [16]byte) *gstack.PacketBuffer {
	b := make([]byte, header.IPv6MinimumSize+header.IPv6FragmentHeaderSize+laterPart)
	src := [16]byte{0: 1} // 100::/64: RFC 6666
	copy(src[8:], u.source[:])
	header.IPv6(b).Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(b) - header.IPv6MinimumSize), HopLimit: 64,
		SrcAddr: tcpip.AddrFrom16(src), DstAddr: tcpip.AddrFrom16(to),
	})
	b[6] = header.IPv6FragmentHeader
	f := b[header.IPv6MinimumSize:]
	f[0] = uint8(header.UDPProtocolNumber)
	binary.BigEndian.PutUint16(f[2:], laterPart|1) // more follow
	binary.BigEndian.PutUint32(f[4:], rand.Uint32())
	return packetOf(b, ipv6.ProtocolNumber)
}

func packetOf(b []byte, proto tcpip.NetworkProtocolNumber) *gstack.PacketBuffer {
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	pkt.NetworkProtocolNumber = proto
	return pkt
}

// emptyOversized takes the data off a packet of fragments that is longer than an
// IPv4 packet can be; Linux drops those. Netstack does not look, has 16 bits for the
// length, and panics when the copy that it makes of such an echo request does not
// parse. What is left is dropped for its checksum, or for the length that a datagram
// says it has.
func emptyOversized(pkt *gstack.PacketBuffer) {
	if pkt.NetworkProtocolNumber != ipv4.ProtocolNumber {
		return
	}
	headers := len(pkt.NetworkHeader().Slice()) + len(pkt.TransportHeader().Slice())
	if headers+pkt.Data().Size() > math.MaxUint16 {
		pkt.Data().CapLength(0)
	}
}

// keepUnfinished is called before netstack gets a fragment.
func (e *ipv4Endpoint) keepUnfinished(frag *gstack.PacketBuffer) {
	if o := e.fast.own.Load(); o != nil && len(o.v4) > 0 && e.unfinished.renew(ipv4.ReassembleTimeout, frag.MemSize()) {
		pkt := e.unfinished.packet4(o.v4[0])
		e.ipv4Inner.HandlePacket(pkt)
		pkt.DecRef()
	}
}

// keepUnfinished is called before netstack gets a fragment.
func (e *ipv6Endpoint) keepUnfinished(frag *gstack.PacketBuffer) {
	if o := e.fast.own.Load(); o != nil && len(o.v6) > 0 && e.unfinished.renew(ipv6.ReassembleTimeout, frag.MemSize()) {
		pkt := e.unfinished.packet6(o.v6[0])
		e.ipv6Inner.HandlePacket(pkt)
		pkt.DecRef()
	}
}
