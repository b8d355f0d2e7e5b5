package stack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/packet"
)

// An event is one thing that netstack did because of a packet. Every field is
// compared.
type event struct {
	label
	network, transport, data []byte // headers and what follows them
}

// label is what an event has besides bytes.
type label struct {
	what string // "queued", "handled", "error", "sent"
	who  string // the endpoint
	id   gstack.TransportEndpointID

	net                              tcpip.NetworkProtocolNumber
	proto                            tcpip.TransportProtocolNumber
	nic, input                       tcpip.NICID
	kind                             tcpip.PacketType
	validated, verified              bool
	broadcast, temporary             bool
	errKind                          gstack.TransportErrorKind
	errOrigin, errType, errCode, mtu uint32
}

func (e *event) equal(o *event) bool {
	return e.label == o.label && bytes.Equal(e.network, o.network) && bytes.Equal(e.transport, o.transport) && bytes.Equal(e.data, o.data)
}

func (e *event) String() string {
	data := fmt.Sprintf("%x", e.data)
	if len(data) > 120 {
		data = data[:120] + "..."
	}
	return fmt.Sprintf("%+v\n      network %x\n      transport %x\n      %d bytes %s", e.label, e.network, e.transport, len(e.data), data)
}

// A delta is by how much a counter has grown.
type delta struct {
	counter int
	by      uint64
}

// An outcome is what came of a frame.
type outcome struct {
	refused bool // by the port: too long
	dropped bool // by the device
	size    int  // bytes of the frame that the device took for the packet
	deltas  []delta
	events  []event
}

func (o *outcome) equal(p *outcome) bool {
	return o.refused == p.refused && o.dropped == p.dropped && o.size == p.size && slices.Equal(o.deltas, p.deltas) &&
		slices.EqualFunc(o.events, p.events, func(a, b event) bool { return a.equal(&b) })
}

func (o *outcome) describe(names []string) string {
	var b strings.Builder
	switch {
	case o.refused:
		b.WriteString("refused by the port")
	case o.dropped:
		b.WriteString("dropped by the device")
	default:
		fmt.Fprintf(&b, "a packet of %d bytes:", o.size)
	}
	for _, d := range o.deltas {
		fmt.Fprintf(&b, " %s+%d", names[d.counter], d.by)
	}
	for i := range o.events {
		fmt.Fprintf(&b, "\n    %s", &o.events[i])
	}
	return b.String()
}

// A parcel is a packet as the device handed it up, and what came of it.
type parcel struct {
	raw    []byte // from the Ethernet header on
	deltas []delta
	events []event
}

// attribute tells what came of each frame of a burst: the parcels are matched
// with the frames they were made of. Frames in no parcel were dropped. If merged
// is false, each parcel has to be one frame; otherwise GRO may have merged, by
// its rules only: what it made of several frames is taken apart again, and each
// frame gets what would have come of it alone. If superseded is true, a pure ACK may
// stand for others in the same way.
func attribute(frames [][]byte, refused []bool, parcels []parcel, merged, superseded bool) ([]outcome, error) {
	all := make([]outcome, len(frames))
	for i := range all {
		all[i].refused, all[i].dropped = refused[i], !refused[i]
	}
	infos := make([]packet.Info, len(frames))
	good := make([]bool, len(frames))
	for i, f := range frames {
		good[i] = packet.Parse(f, &infos[i]) == packet.OK
	}
	place := make([]int, len(frames)) // of a frame that was not dropped, in the order of delivery
	head, n := -1, 0
	for k := range parcels {
		p := &parcels[k]
		for head++; head < len(frames); head++ {
			if all[head].dropped && bytes.HasPrefix(frames[head], p.raw) {
				n++
				place[head] = n
				all[head] = outcome{size: len(p.raw), deltas: p.deltas, events: p.events}
				break
			}
			if !merged || !all[head].dropped || !good[head] {
				continue
			}
			members := ungroup(frames, infos, good, all, head, p.raw)
			if members == nil && superseded {
				members = supersede(frames, infos, good, all, head, p.raw)
			}
			if members != nil {
				offset := 0
				for _, m := range members {
					n++
					place[m] = n
					all[m] = p.share(frames[m], &infos[m], offset)
					offset += infos[m].PayloadLen()
				}
				break
			}
		}
		if head == len(frames) {
			return nil, fmt.Errorf("packet %d, made of no frames that were left: %x", k, p.raw)
		}
	}
	// GRO may move a segment ahead of other flows' frames only.
	last := make(map[uint32]int)
	for i := range frames {
		if place[i] == 0 || !infos[i].Kind.IsTCP() && !infos[i].Kind.IsUDP() {
			continue
		}
		h := infos[i].Hash
		if place[i] < last[h] {
			return nil, fmt.Errorf("frame %d overtook one of its flow", i)
		}
		last[h] = place[i]
	}
	return all, nil
}

// ungroup returns the frames that raw was merged of, the first of which is head;
// nil if it was not.
func ungroup(frames [][]byte, infos []packet.Info, good []bool, all []outcome, head int, raw []byte) (members []int) {
	var whole packet.Info
	if packet.Parse(raw, &whole) != packet.OK || !whole.Kind.IsTCP() || packet.Verify(raw, &whole, 0) != packet.OK {
		return nil
	}
	seq, rest, pushed := whole.Seq, raw[whole.Payload:whole.End], false
	var step uint16 // of the IPv4 ID
	for i := head; i < len(frames) && len(rest) > 0; i++ {
		info := &infos[i]
		if !good[i] || !all[i].dropped || info.Kind != whole.Kind || info.Payload != whole.Payload || info.Seq != seq {
			if i == head {
				return nil
			}
			continue
		}
		data := frames[i][info.Payload:info.End]
		if pushed || len(data) == 0 || !bytes.HasPrefix(rest, data) || !alike(frames[i], raw, info, i == head) {
			if i == head {
				return nil
			}
			continue
		}
		if n := len(members); n > 0 {
			s := info.ID - infos[members[n-1]].ID
			if n == 1 {
				step = s
			}
			if s != step || s > 1 || s == 0 && info.Marks&packet.DontFragment == 0 {
				return nil
			}
		}
		pushed = info.Flags&packet.PSH != 0
		members, seq, rest = append(members, i), seq+uint32(len(data)), rest[len(data):]
	}
	if len(rest) != 0 || len(members) < 2 || pushed != (whole.Flags&packet.PSH != 0) || int(whole.End) != len(raw) {
		return nil
	}
	return members
}

// supersede returns the pure ACKs that raw stands for, the first of which is head;
// the last is raw itself. It returns nil if raw may not: each has to acknowledge
// more than the one before it, of its flow, and to be like it in all else but the
// window. The first must not repeat what the flow's frame before acknowledges.
func supersede(frames [][]byte, infos []packet.Info, good []bool, all []outcome, head int, raw []byte) (members []int) {
	flow := &infos[head]
	if !plainACK(frames[head], flow) {
		return nil
	}
	same := func(i int) bool { return good[i] && infos[i].Kind == flow.Kind && infos[i].Hash == flow.Hash }
	for i := head - 1; i >= 0; i-- {
		if same(i) && !all[i].dropped {
			if plainACK(frames[i], &infos[i]) && infos[i].Ack == flow.Ack {
				return nil
			}
			break
		}
	}
	for i := head; i < len(frames); i++ {
		if !same(i) || !all[i].dropped || packet.Verify(frames[i], &infos[i], 0) != packet.OK {
			continue
		}
		if n := len(members); n > 0 {
			if d := infos[i].Ack - infos[members[n-1]].Ack; d == 0 || d >= 1<<31 || !plainACK(frames[i], &infos[i]) ||
				!bytes.Equal(unsaid(frames[i], &infos[i]), unsaid(frames[head], flow)) {
				return nil
			}
		}
		if members = append(members, i); bytes.Equal(frames[i][:infos[i].End], raw) {
			return members
		}
	}
	return nil
}

// plainACK tells whether a frame only acknowledges, with a timestamp at most.
func plainACK(frame []byte, info *packet.Info) bool {
	if !info.Kind.IsTCP() || info.Flags != packet.ACK || info.PayloadLen() != 0 || info.Marks&packet.Extended != 0 || frame[info.L4+12]&15 != 0 {
		return false
	}
	options := frame[info.L4+packet.TCPLen : info.Payload]
	return len(options) == 0 || len(options) == 12 && bytes.HasPrefix(options, []byte{1, 1, 8, 10})
}

// unsaid is what pure ACKs have in common of which one supersedes another.
func unsaid(frame []byte, info *packet.Info) []byte {
	h := blank(bytes.Clone(frame[:info.Payload]), info, true)
	tcp := h[info.L4:]
	copy(tcp[4:8], frame[info.L4+4:]) // the sequence number counts
	clear(tcp[8:12])
	clear(tcp[14:16])
	return h
}

// alike tells whether two headers may be those of one merged packet: all is
// equal but lengths, checksums, sequence number and PSH, and the IPv4 ID unless
// it is the first frame's.
func alike(frame, whole []byte, info *packet.Info, first bool) bool {
	var h [2][]byte
	for i, f := range [][]byte{frame, whole} {
		h[i] = blank(bytes.Clone(f[:info.Payload]), info, !first)
	}
	return bytes.Equal(h[0], h[1])
}

// blank clears what alike does not look at.
func blank(h []byte, info *packet.Info, id bool) []byte {
	ip, tcp := h[info.L3:], h[info.L4:]
	if info.Kind == packet.TCP4 {
		clear(ip[2:4])
		clear(ip[10:12])
		if id {
			clear(ip[4:6])
		}
	} else {
		clear(ip[4:6])
	}
	clear(tcp[4:8])
	clear(tcp[16:18])
	tcp[13] &^= packet.PSH
	return h
}

// share is what would have come of one frame of a merged packet, whose data
// starts at offset: what was delivered, with the fields that GRO changes set
// back and the rest left as it was.
func (p *parcel) share(frame []byte, info *packet.Info, offset int) outcome {
	o := outcome{size: int(info.End), deltas: p.deltas}
	for _, e := range p.events {
		if e.what != "sent" && len(e.network) == int(info.L4-info.L3) && len(e.transport) == int(info.Payload-info.L4) && len(e.data) >= offset+info.PayloadLen() {
			e.network, e.transport = bytes.Clone(e.network), bytes.Clone(e.transport)
			ip, tcp := frame[info.L3:], frame[info.L4:]
			if info.Kind == packet.TCP4 {
				copy(e.network[2:6], ip[2:6])
				copy(e.network[10:12], ip[10:12])
			} else {
				copy(e.network[4:6], ip[4:6])
			}
			seq := binary.BigEndian.Uint32(e.transport[4:]) + uint32(offset)
			binary.BigEndian.PutUint32(e.transport[4:], seq)
			if info.PayloadLen() == 0 { // superseded
				copy(e.transport[8:12], tcp[8:12])
				copy(e.transport[14:16], tcp[14:16])
			}
			copy(e.transport[16:18], tcp[16:18])
			e.transport[13] = e.transport[13]&^packet.PSH | tcp[13]&packet.PSH
			e.data = e.data[offset : offset+info.PayloadLen()]
		}
		if e.what == "sent" && info.PayloadLen() == 0 {
			e.data = resetTo(e.data, info.Ack)
		}
		o.events = append(o.events, e)
	}
	return o
}

// resetTo is the reset that answers an acknowledgement of ack, made from one that
// answers another: it has that number (RFC 9293, 3.10.7.1). What is no reset stays
// as it is.
func resetTo(frame []byte, ack uint32) []byte {
	var info packet.Info
	if packet.Parse(frame, &info) != packet.OK || !info.Kind.IsTCP() || info.Flags&packet.RST == 0 {
		return frame
	}
	be, old := binary.BigEndian, info.Seq
	frame = bytes.Clone(frame)
	tcp := frame[info.L4:]
	sum := uint32(^be.Uint16(tcp[16:])) + ^old>>16 + ^old&0xffff + ack>>16 + ack&0xffff
	be.PutUint32(tcp[4:], ack)
	be.PutUint16(tcp[16:], ^packet.Fold(sum))
	return frame
}
