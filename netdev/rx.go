package netdev

import (
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/packet"
)

// receive hands the first n descriptors of the batch to netstack: parse and
// verify each frame once, plan which segments become one packet, then copy each
// packet out of UMEM into netstack's buffers. After it the frames are free: no
// view refers to UMEM memory.
func (q *queue) receive(nd dispatcher, n int) {
	var packets, dropped, partial uint64
	q.gro.Reset()
	for i, next := 0, 1; i < n; i, next = next, next+1 {
		frame, info := q.region.Bytes(q.descs[i]), &q.infos[i]
		q.frames[i] = frame
		total, more := len(frame), [][]byte(nil)
		if q.descs[i].Continues() {
			total, more = q.more(i, n)
			next += len(more)
		}
		packets++
		r := packet.ParseFirst(frame, total, info)
		if r == packet.OK {
			r = packet.Verify(frame, info, q.verify, more...)
		}
		if r != packet.OK {
			q.st.reasons[r].Add(1)
			dropped++
			continue
		}
		if info.Marks&packet.Partial != 0 {
			partial++
		}
		if q.d.cfg.NoGRO {
			q.gro.Single(i)
		} else {
			q.gro.Add(i, frame, info)
		}
	}
	heads := q.gro.Heads()
	for _, h := range heads {
		q.deliver(nd, int(h))
	}
	q.st.delivered.Add(packets - dropped)
	q.st.packets.Add(uint64(len(heads)))
	if acks := q.gro.ACKs(); acks != 0 {
		q.st.acksMerged.Add(uint64(acks))
	}
	if partial != 0 {
		q.st.partial.Add(partial)
	}
	q.st.batches.Add(1)
}

// deliver builds the packet of the group that starts at head and hands it up.
//
// It has two views, one of the headers and one of the payload. netstack reads
// headers through PullUp, which copies the whole view if it is shared, and the
// IP layer shares it: with one view every payload would be copied again
// (gVisor pkg/buffer/buffer.go, PullUp). A short TCP segment has one view all the
// same: to make, share and release a second one takes longer than such a copy, and
// fastIP of package stack has it not made.
func (q *queue) deliver(nd dispatcher, head int) {
	info, frame := &q.infos[head], q.frames[head]
	split, end := int(info.Payload), int(info.End)
	switch {
	case info.Kind == packet.ARP || info.Kind == packet.Other:
		split = min(end, len(frame))
	case info.Kind.IsTCP() && end <= min(oneView, len(frame)) && q.gro.Next(head) < 0:
		split = end
	}
	hdr := buffer.NewView(split)
	hdr.Write(frame[:split]) //nolint:errcheck // a View grows
	buf := buffer.MakeWithView(hdr)
	if body := q.payload(head, split); body != nil {
		tail := buffer.MakeWithView(body)
		buf.Merge(&tail)
		q.gro.Patch(head, hdr.AsSlice(), info)
	}
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buf})
	pkt.LinkHeader().Consume(ethernetLen)
	eth := header.Ethernet(frame)
	proto := eth.Type()
	pkt.NetworkProtocolNumber = proto
	pkt.PktType = packetType(frame)
	pkt.Hash = q.mark(info)
	nd.DeliverNetworkPacket(proto, pkt)
	pkt.DecRef()
}

// oneView is the longest frame, in bytes, whose TCP segment has one view: a size that
// netstack has memory of.
const oneView = 256

// payload copies what is behind the first split bytes of a group's packets, one
// behind the other; nil if there is none. Their headers are equally long.
func (q *queue) payload(head, split int) *buffer.View {
	size := 0
	for i := head; i >= 0; i = q.gro.Next(i) {
		size += int(q.infos[i].End) - split
	}
	if size == 0 {
		return nil
	}
	v := buffer.NewView(size)
	for i := head; i >= 0; i = q.gro.Next(i) {
		end := int(q.infos[i].End)
		if frame := q.frames[i]; end <= len(frame) {
			v.Write(frame[split:end]) //nolint:errcheck // a View grows
		} else {
			q.copyParts(v, i, split, end)
		}
	}
	return v
}

// mark returns what a received packet's Hash says to [Verified] and [Queue]: 0
// if nothing was verified, or the flow's hash with the queue in its last bits.
func (q *queue) mark(info *packet.Info) uint32 {
	if !info.Kind.IsTCP() && !info.Kind.IsUDP() {
		return 0
	}
	return info.Hash&^queueMask | (q.index + 1)
}

const queueMask = 1<<10 - 1

// Verified tells whether a packet that a Device delivered carries a TCP or UDP
// checksum that the device has verified. The NIC layer overwrites
// RXChecksumValidated before the IP layer sees the packet, so a wrapper round
// the IP endpoint sets it from here. Fragments are never verified, and what is
// made of them does not inherit it.
func Verified(pkt *gstack.PacketBuffer) bool { return pkt.Hash != 0 }

// Queue returns the index, in Info().Queues, of the queue that delivered a
// packet that is Verified.
func Queue(pkt *gstack.PacketBuffer) int { return int(pkt.Hash&queueMask) - 1 }

// packetType tells netstack whom the frame was for: ARP takes only a reply sent
// to us alone for a solicited one.
func packetType(frame []byte) tcpip.PacketType {
	if frame[0]&1 == 0 {
		return tcpip.PacketHost
	}
	if [6]byte(frame) == [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} {
		return tcpip.PacketBroadcast
	}
	return tcpip.PacketMulticast
}
