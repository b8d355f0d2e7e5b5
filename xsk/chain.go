package xsk

import "github.com/afxnet/afxnet/umem"

// # Packets over several frames
//
// A packet longer than a chunk lies in several frames, one descriptor each, all
// but the last with umem.OptionContinues (XDP_USE_SG, Linux 6.6). Both sides put
// the descriptors of a packet into a ring next to each other and publish them
// together, so that a reader finds all of them or none.

// maxTXParts is the most descriptors that one sent packet may take:
// MAX_SKB_FRAGS of Linux include/linux/skbuff.h, in its smallest configuration.
// In copy mode most devices take one more (net/xdp/xsk.c, xsk_build_skb); those
// with IFF_TX_SKB_NO_LINEAR do not. A longer packet would be dropped, and its
// frames with it: the kernel does not complete them.
const maxTXParts = 17

// rxParts is how many descriptors Receive must have room for to take every
// packet up to Socket.MaxMTU.
const rxParts = 64

// chain is what Receive knows of a packet over several frames.
type chain struct {
	inside bool // the next descriptor belongs to a packet that has begun
	drop   bool // of which the rest is dropped
	parts  int  // descriptors of it that are in dst already

	// Of the complete ones since Receive began.
	more  int    // descriptors beyond the first of each
	bytes uint64 // all of it
}

// holdBack looks for a packet at the end of the n peeked descriptors of which
// the rest is not there. What precedes it is taken now, and it next time, as a
// whole. It returns how many to take. If there is only its beginning, Receive
// has to make room by dropping it.
func (r *RX) holdBack(first, n uint32) uint32 {
	whole := n
	for whole > 0 && r.rx.Get(first+whole-1).Continues() {
		whole--
	}
	if whole == 0 {
		return n
	}
	r.rx.Cancel(n - whole)
	return whole
}

// part takes a good descriptor of a packet over several frames into dst, behind
// the got that are there, and returns how many there are then.
func (r *RX) part(dst []umem.Desc, got int, d umem.Desc) int {
	c := &r.chain
	if !c.inside && !r.several {
		r.spoil(nil)
	}
	c.inside = d.Continues()
	if c.drop {
		c.drop = c.inside
		r.cache.Put(d.Addr)
		return got
	}
	dst[got] = d
	got++
	c.parts++
	if !c.inside {
		for _, p := range dst[got-c.parts : got] {
			c.bytes += uint64(p.Len)
		}
		c.more += c.parts - 1
		c.parts = 0
	}
	return got
}

// spoil drops the packet that has begun, or begins now: the frames at the end
// of dst that it has, and what is still to come. It returns how many descriptors
// of other packets dst holds.
func (r *RX) spoil(dst []umem.Desc) int {
	c := &r.chain
	if !c.drop {
		c.drop = true
		r.st.continuedDrops.Add(1)
	}
	got := len(dst) - c.parts
	r.Recycle(dst[got:])
	c.parts = 0
	return got
}

// spoilBad is spoil for a packet of which d, a descriptor that was refused, is
// a part.
func (r *RX) spoilBad(dst []umem.Desc, d umem.Desc) int {
	got := r.spoil(dst)
	r.chain.inside = d.Continues()
	r.chain.drop = r.chain.inside
	return got
}

// maxPacket returns the longest packet in bytes that the half can receive,
// Ethernet header included.
func (r *RX) maxPacket() int {
	if !r.several {
		return r.region.MaxPacket()
	}
	return min(rxParts, int(r.fill.Len())) * r.region.MaxPacket()
}

// QueueParts puts one packet into the TX ring that lies in several frames, in
// the order of parts; their options are ignored. Flush publishes it. With one
// part it is Queue. It refuses what Queue does, for any of the parts, and a
// packet of more parts than MaxPacket has chunks; all frames then stay with the
// caller.
func (t *TX) QueueParts(parts []umem.Desc) bool { return t.queueParts(parts, nil) }

// queueParts queues a packet with a request, or none.
func (t *TX) queueParts(parts []umem.Desc, r *TXRequest) bool {
	n := uint32(len(parts))
	if n == 0 || n > t.parts || n > t.tx.Len()-t.lent {
		return false
	}
	bytes := uint64(0)
	for _, d := range parts {
		if !t.region.Check(d) || t.metadata && !t.region.CheckTX(d) {
			return false
		}
		bytes += uint64(d.Len)
	}
	slot, ok := t.tx.Reserve(n)
	if !ok {
		return false
	}
	for i, d := range parts {
		if !t.region.Move(d.Addr, umem.Held, umem.TX) {
			for _, d := range parts[:i] {
				t.region.Move(d.Addr, umem.TX, umem.Held)
			}
			t.tx.Cancel(n)
			return false
		}
		if t.share != nil {
			t.share.own(d.Addr)
		}
		d.Options = umem.OptionContinues
		if i == len(parts)-1 {
			d.Options = 0
		}
		if t.metadata && i == 0 {
			d.Options |= t.ask(r, d.Addr)
		} else if t.metadata {
			t.ask(nil, d.Addr)
		}
		t.tx.Set(slot+uint32(i), d)
	}
	if r != nil && r.Do != 0 {
		t.st.queuedRequests++
	}
	t.lent += n
	t.st.queued++
	t.st.queuedMore += uint64(n - 1)
	t.st.queuedBytes += bytes
	return true
}

// MaxPacket returns the longest packet in bytes that can be sent, Ethernet
// header included: a chunk, or as many as QueueParts takes.
func (t *TX) MaxPacket() int { return int(t.parts) * t.region.MaxTXFrame() }

// MaxMTU returns the largest MTU in bytes at which every packet, with one VLAN
// tag, can be received and sent.
func (s *Socket) MaxMTU() int {
	return min(s.rx.maxPacket(), s.tx.MaxPacket()) - ethernetOverhead
}

// MultiBuffer tells whether packets may lie in several frames (XDP_USE_SG).
func (s *Socket) MultiBuffer() bool { return s.rx.several }

// ethernetOverhead is the Ethernet header and one VLAN tag, in bytes.
const ethernetOverhead = 14 + 4
