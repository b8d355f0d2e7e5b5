package packet

import (
	"encoding/binary"
	"math/bits"
)

// MaxBatch is the most frames that one GRO plans for.
const MaxBatch = 256

// A table of 64 sets of 4: a batch of 64 flows that all can merge has about one
// flow in 200 evicted, and nobody can aim at a set without the hash's secret.
const (
	groSets = 64
	groWays = 4
)

// maxMerged is the most bytes of IP packet that a group may grow to.
const maxMerged = 1<<16 - 1

// GRO plans which TCP segments of one receive batch become one packet. It looks
// at headers only and copies nothing. Reset starts a batch, Add takes its frames
// in order of arrival, and then every frame is in exactly one group: a list that
// starts at one of Heads and goes on with Next.
//
// A group is data, in order, or pure ACKs of which each acknowledges more than
// the one before, the newest first: that one is the packet, and the others are
// needless. Their kinds do not mix.
//
// The groups are to be delivered in the order of Heads, which is that of
// arrival of their first frames. That keeps the order within every flow: a
// segment moves ahead only of the frames between it and its group's head, and
// none of those is of its flow, since any frame of a flow that does not extend
// the flow's open group closes it. So closing a group is always safe, and so is
// forgetting one: the table may evict what it likes, and takes two flows with
// one hash for the same flow. A frame whose ports are not known (a fragment, a
// VLAN tag) is of no flow and closes nothing; it cannot be a segment that
// belongs between two others, for those would not be contiguous.
//
// The zero GRO is ready for use.
type GRO struct {
	// KeepACKs leaves every pure ACK a group of its own. Set it before Add.
	KeepACKs bool

	gen   uint16 // of the slots that count
	heads int
	acks  int
	order [MaxBatch]uint16 // the first heads of them: what Heads returns
	next  [MaxBatch]int16
	group [MaxBatch]group // by head
	slots [groSets][groWays]groSlot
}

// groSlot names the open group of a flow.
type groSlot struct {
	hash uint32
	gen  uint16
	head uint16 // plus 1; 0 is a free slot
}

// group is a merged packet in the making.
type group struct {
	header []byte // of the head, Ethernet to TCP options
	seq    uint32 // that a segment must have to be next
	sum    uint32 // of the payloads behind the first one
	bytes  int    // of all payloads
	segs   int
	tail   int
	segLen int    // payload bytes of every segment but the last
	id     uint16 // of the last segment
	idStep uint16 // from one segment to the next; known from the second on
	marks  Mark
	flags  uint8 // of the last segment

	pure    bool   // of pure ACKs; of the others only header, seq, segs and marks are set
	repeats bool   // acknowledges what the flow's frame before it does
	ack     uint32 // of the newest, which is the head
	place   int    // in order
}

// Reset forgets all frames. It does not reach into their headers, but until
// their places in the batch are taken again the garbage collector sees them.
func (g *GRO) Reset() {
	g.heads, g.acks = 0, 0
	g.gen++
	if g.gen == 0 {
		g.slots = [groSets][groWays]groSlot{}
	}
}

// Add takes frame i of the batch and reports whether it joined a group that was
// there before. Indices ascend, with gaps where frames were dropped, and are
// less than MaxBatch. The frame has been found OK by Parse, and by Verify or a
// network card; it must not change before Reset.
func (g *GRO) Add(i int, frame []byte, info *Info) bool {
	if !info.Kind.IsTCP() {
		g.Single(i)
		return false
	}
	slot := g.find(info.Hash)
	if !mergeable(frame, info) {
		if !g.KeepACKs && pureACK(frame, info) {
			return g.addACK(i, frame, info, slot)
		}
		if slot != nil {
			slot.head = 0
		}
		g.Single(i)
		return false
	}
	if slot != nil {
		gr := &g.group[slot.head-1]
		if gr.accepts(frame, info) {
			g.next[gr.tail], g.next[i] = int16(i), -1
			if gr.extend(i, info) {
				slot.head = 0
			}
			return true
		}
	}
	g.open(i, frame, info, slot)
	return false
}

// Heads returns the heads of all groups, in the order of delivery. Valid
// until the next Add or Reset.
func (g *GRO) Heads() []uint16 { return g.order[:g.heads] }

// Next returns the frame that follows i in its group, or -1.
func (g *GRO) Next(i int) int { return int(g.next[i]) }

// ACKs returns how many pure ACKs a newer one made needless.
func (g *GRO) ACKs() int { return g.acks }

// Segments returns the number of frames in the group of head.
func (g *GRO) Segments(head int) int { return g.group[head].segs }

// Single takes frame i as a group of its own, without a look at it. Indices are
// as for Add.
func (g *GRO) Single(i int) {
	g.next[i] = -1
	g.order[g.heads] = uint16(i)
	g.heads++
	g.group[i].segs = 1
}

// open makes frame i the head of a new group in place of the flow's old one,
// whose slot may be nil.
func (g *GRO) open(i int, frame []byte, info *Info, slot *groSlot) {
	g.Single(i)
	if info.Flags&PSH != 0 {
		if slot != nil {
			slot.head = 0
		}
		return
	}
	if slot == nil {
		slot = g.vacate(info.Hash)
	}
	*slot = groSlot{hash: info.Hash, gen: g.gen, head: uint16(i) + 1}
	n := info.PayloadLen()
	g.group[i] = group{
		header: frame[:info.Payload:info.Payload],
		seq:    info.Seq + uint32(n),
		bytes:  n,
		segs:   1,
		tail:   i,
		segLen: n,
		id:     info.ID,
		marks:  info.Marks,
		flags:  info.Flags,
	}
}

// find returns the slot of the flow's open group, or nil.
func (g *GRO) find(hash uint32) *groSlot {
	set := &g.slots[hash%groSets]
	for i := range set {
		if s := &set[i]; s.hash == hash && s.gen == g.gen && s.head != 0 {
			return s
		}
	}
	return nil
}

// vacate returns a free slot of the hash's set, if need be one whose group is
// thereby closed.
func (g *GRO) vacate(hash uint32) *groSlot {
	set := &g.slots[hash%groSets]
	for i := range set {
		if s := &set[i]; s.gen != g.gen || s.head == 0 {
			return s
		}
	}
	return &set[hash>>8%groWays]
}

// extend appends frame i, which has been accepted, and reports whether it is
// the last that the group may take.
func (gr *group) extend(i int, info *Info) (full bool) {
	n := info.PayloadLen()
	sum := info.PayloadSum
	if gr.bytes&1 != 0 {
		sum = bits.ReverseBytes16(sum)
	}
	gr.sum += uint32(sum)
	gr.idStep = info.ID - gr.id
	gr.id = info.ID
	gr.seq += uint32(n)
	gr.bytes += n
	gr.segs++
	gr.tail = i
	gr.flags = info.Flags
	return n < gr.segLen || info.Flags&PSH != 0
}

// Patch makes header, a copy of the frame of head up to its payload, that of the
// merged packet: length, IPv4 checksum, PSH as on the last segment, and a TCP
// checksum that is right for all the payloads behind each other, without
// another look at them. If they were not summed (Partial, or verified by a
// network card), the field gets the pseudo-header's sum, as where a card is to
// complete it. A group of one frame, or of ACKs, is left as it is. info is that
// of head.
func (g *GRO) Patch(head int, header []byte, info *Info) {
	gr := &g.group[head]
	if gr.segs <= 1 || gr.pure {
		return
	}
	be := binary.BigEndian
	l3, l4 := int(info.L3), int(info.L4)
	ip, tcp := header[l3:l4], header[l4:info.Payload]
	oldLen, newLen := int(info.End)-l4, len(tcp)+gr.bytes

	// Both sums are updated for what changes (RFC 1624): m' enters, ^m leaves.
	if info.Kind == TCP4 {
		oldTotal, newTotal := be.Uint16(ip[2:]), uint16(len(ip)+newLen)
		be.PutUint16(ip[2:], newTotal)
		sum := uint32(^be.Uint16(ip[10:])) + uint32(^oldTotal) + uint32(newTotal)
		be.PutUint16(ip[10:], ^Fold(sum))
	} else {
		be.PutUint16(ip[4:], uint16(newLen))
	}
	oldFlags := tcp[13]
	tcp[13] = gr.flags
	if gr.marks&Summed != 0 {
		sum := uint32(^be.Uint16(tcp[16:])) + gr.sum +
			uint32(^uint16(oldLen)) + uint32(uint16(newLen)) +
			uint32(^uint16(oldFlags)) + uint32(gr.flags)
		be.PutUint16(tcp[16:], ^Fold(sum))
		return
	}
	var pseudo uint32
	if info.Kind == TCP4 {
		pseudo = PseudoHeader4((*[8]byte)(ip[12:]), ProtoTCP, newLen)
	} else {
		pseudo = PseudoHeader6((*[32]byte)(ip[8:]), ProtoTCP, newLen)
	}
	be.PutUint16(tcp[16:], Fold(pseudo))
}
