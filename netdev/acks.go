package netdev

import (
	"bytes"
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/packet"
)

// ackSlots is the number of flows whose last acknowledgement is known. Two flows
// in one slot push each other out, and their ACKs then go at once, which is only
// slower.
const ackSlots = 1 << 14

// ackTable holds pure ACKs back. netstack acknowledges every batch of segments
// before the application has seen them, so that a request and its answer would
// cost two packets each way instead of one. A held ACK is dropped when a segment
// of its flow that acknowledges as much is in the TX ring, and sent when the
// timer has seen it twice.
//
// Held is only an ACK whose absence harms nobody for that long (RFC 9293,
// 3.8.6.3, allows 500 ms, but not with two full segments outstanding): its flags
// are exactly ACK, it has no data and no SACK block, its number advances by less
// than two full segments, and the window does not grow. So a duplicate ACK, a
// keepalive, a window probe and a challenge ACK are never held: none of them
// advances the number. Nor is one held behind a segment of its flow that waits for
// room: that has yet to say what the ACK is compared with.
type ackTable struct {
	t     *txQueue
	off   bool
	slots []ackSlot
	held  []heldACK
	timer *time.Timer
	armed bool
	pace  ACKPace
	tick  uint32
}

// An ackSlot has no pointer: there are many, and the garbage collector need not look
// at any.
type ackSlot struct {
	key  uint64 // hash and ports of the flow; 0 is none
	ack  uint32 // as last written to the TX ring
	hack uint32 // ACK number of the held packet
	tick uint32 // when that, or the first one it took the place of, was held
	wnd  uint16
	at   uint16 // index of the held packet in ackTable.held, and one; 0 is none
}

// A heldACK is a packet that a slot holds.
type heldACK struct {
	pkt  *gstack.PacketBuffer
	slot uint16
}

func (a *ackTable) init(t *txQueue) {
	a.t, a.off = t, t.d.cfg.NoACKHold
	if a.off {
		return
	}
	a.slots = make([]ackSlot, ackSlots)
	a.timer = time.AfterFunc(time.Hour, a.fire)
	a.timer.Stop()
}

// slot returns the slot of a TCP header's flow, and the flow's key.
func (a *ackTable) slot(hash uint32, tcp []byte) (*ackSlot, uint64, uint16) {
	key := uint64(hash)<<32 | uint64(binary.BigEndian.Uint32(tcp))
	i := uint16(hash % ackSlots)
	return &a.slots[i], key, i
}

// hold keeps pkt if it may be held. Precondition: the transmit lock is held.
func (a *ackTable) hold(pkt *gstack.PacketBuffer) bool {
	if a.off || pkt.Hash == 0 || !pkt.GSOOptions.NeedsCsum || pkt.Data().Size() != 0 {
		return false
	}
	h := tcpHeader(pkt)
	if h == nil || h.Flags() != header.TCPFlagAck {
		return false
	}
	s, key, i := a.slot(pkt.Hash, h)
	if s.key != key {
		return false // the first one of its flow: sent makes it known
	}
	ack := h.AckNumber()
	if s.at != 0 && int32(ack-s.hack) <= 0 {
		// It says nothing new: it has a meaning of its own, and so has the
		// one before it.
		a.release(s)
		return false
	}
	if a.t.waits(pkt.Hash) {
		return false // s is not what the peer will know when this one reaches it
	}
	if adv := ack - s.ack; adv == 0 || adv >= uint32(a.t.d.ACKHold()) || h.WindowSize() > s.wnd || !packet.PlainOptions(h[header.TCPMinimumSize:]) {
		return false
	}
	if s.at != 0 {
		held := &a.held[s.at-1]
		held.pkt.DecRef()
		held.pkt = pkt
		a.t.st.acksSpared.Add(1)
	} else {
		a.held = append(a.held, heldACK{pkt: pkt, slot: i})
		s.at = uint16(len(a.held)) // ackSlots at most
		s.tick = a.tick            // of the oldest: newer ones do not make it wait longer
	}
	s.hack = ack
	if !a.armed {
		a.armed = true
		a.timer.Reset(a.pace.Period(len(a.held)))
	}
	return true
}

// sent notes a segment that is in the TX ring; a held ACK that it covers is
// spared.
func (a *ackTable) sent(j *job) {
	if a.off || j.pkt.Hash == 0 {
		return
	}
	tcp := header.TCP(j.header[ethernetLen+int(j.pkt.GSOOptions.L3HdrLen):])
	if tcp.Flags()&header.TCPFlagAck == 0 {
		return
	}
	s, key, _ := a.slot(j.pkt.Hash, tcp)
	ack := tcp.AckNumber()
	if s.at != 0 {
		if s.key != key {
			return // the slot is taken; its flow keeps it until its ACK is out
		}
		if int32(ack-s.hack) >= 0 {
			a.spare(s)
		}
	}
	s.key, s.ack, s.wnd = key, ack, tcp.WindowSize()
}

// opened notes a SYN that is in the TX ring. If it is a SYN-ACK, it is the first
// acknowledgement of a flow, so that those of the first request may be held. Its
// window counts for nothing later, since it is in other units; it is enough if the
// peer is not held up by it before it has sent what is acknowledged at once anyhow.
func (a *ackTable) opened(pkt *gstack.PacketBuffer) {
	if a.off || pkt.Hash == 0 {
		return
	}
	h := tcpHeader(pkt)
	if h == nil || h.Flags()&header.TCPFlagSyn == 0 {
		return
	}
	a.outlived(pkt, h)
	if h.Flags()&header.TCPFlagAck == 0 || int(h.WindowSize()) < 2*a.t.d.MTU() {
		return
	}
	if s, key, _ := a.slot(pkt.Hash, h); s.at == 0 {
		s.key, s.ack, s.wnd = key, h.AckNumber(), math.MaxUint16
	}
}

// outlived drops the held ACK of an earlier connection between the ends of a SYN:
// the peer would take it for one of the new connection. The hash does not tell,
// for netstack draws it anew for each.
func (a *ackTable) outlived(syn *gstack.PacketBuffer, h header.TCP) {
	ports := binary.BigEndian.Uint32(h)
	for _, held := range a.held {
		s := &a.slots[held.slot]
		if uint32(s.key) == ports && bytes.Equal(addresses(held.pkt), addresses(syn)) {
			a.spare(s)
			return
		}
	}
}

// addresses returns both addresses in the IP header of a packet.
func addresses(pkt *gstack.PacketBuffer) []byte {
	switch h := pkt.NetworkHeader().Slice(); {
	case pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber && len(h) >= header.IPv4MinimumSize:
		return h[12:20]
	case pkt.NetworkProtocolNumber == header.IPv6ProtocolNumber && len(h) >= header.IPv6MinimumSize:
		return h[8:40]
	}
	return nil
}

// spare drops a held ACK that need not be sent.
func (a *ackTable) spare(s *ackSlot) {
	a.forget(s).DecRef()
	a.t.st.acksSpared.Add(1)
}

// forget takes a slot off the list of those that hold a packet, and returns it.
func (a *ackTable) forget(s *ackSlot) *gstack.PacketBuffer {
	pkt := a.held[s.at-1].pkt
	end := len(a.held) - 1
	last := a.held[end]
	a.held[s.at-1] = last
	a.slots[last.slot].at = s.at
	a.held[end] = heldACK{}
	a.held = a.held[:end]
	s.at = 0 // it may be the last one itself
	return pkt
}

// release sends a held ACK.
func (a *ackTable) release(s *ackSlot) {
	a.t.enqueue(a.forget(s))
}

// SendACKs sends the pure ACKs that one of the Info().Queues holds, for whoever
// has waited for long enough before it made one of them.
func (d *Device) SendACKs(queue int) {
	t := &d.queues[queue].tx
	t.mu.Lock()
	defer t.unlock()
	if t.arrived.Load() != 0 {
		t.drainLocked() // it may be among those: somebody gathers, or had the lock
	}
	if t.dead || len(t.acks.held) == 0 {
		return
	}
	for k := len(t.acks.held) - 1; k >= 0; k-- {
		t.acks.release(&t.acks.slots[t.acks.held[k].slot])
		t.st.acksLate.Add(1)
	}
	t.send()
}

// fire sends the ACKs that the timer has seen before.
func (a *ackTable) fire() {
	t := a.t
	t.mu.Lock()
	defer t.unlock()
	if t.dead {
		return
	}
	sent := false
	for k := len(a.held) - 1; k >= 0; k-- {
		if s := &a.slots[a.held[k].slot]; s.tick != a.tick {
			a.release(s)
			t.st.acksLate.Add(1)
			sent = true
		}
	}
	a.tick++
	a.pace.Fired(sent)
	if a.armed = len(a.held) != 0; a.armed {
		a.timer.Reset(a.pace.Period(len(a.held)))
	}
	if sent {
		t.send()
	}
}

// drop forgets all held ACKs.
func (a *ackTable) drop(counter *atomic.Uint64) {
	for _, h := range a.held {
		a.t.drop(h.pkt, counter)
		a.slots[h.slot].at = 0
	}
	clear(a.held)
	a.held = a.held[:0]
}

// stop ends the timer; a fire that is waiting for the lock finds the queue dead.
func (a *ackTable) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
