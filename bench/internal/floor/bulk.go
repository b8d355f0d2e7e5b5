package floor

import (
	"encoding/binary"
	"time"

	"github.com/afxnet/afxnet/internal/packet"
)

// flows is how many bulk connections a queue keeps; the oldest makes room for
// another. The bench has one at a time.
const flows = 8

// patience is how long a sender waits for an acknowledgement before it sends
// again. The kernel delays one by 40 ms at most.
const patience = 100 * time.Millisecond

// flow is one bulk connection. The client's bytes are counted and dropped; what
// is sent to it is zeros. Offsets count the bytes that are sent, from 0.
type flow struct {
	hash   uint32 // and the ports: of the segments from the client
	client uint16
	server uint16 // 0 is an unused flow
	scale  uint8  // of the client's window
	first  uint32 // our first sequence number, the client's too
	mss    int    // bytes, what the client takes and the link carries

	expect   uint32 // the client's next sequence number
	ahead    spans  // what has arrived behind a gap at expect
	ended    bool   // the client's FIN has arrived
	finAt    uint32 // its sequence number
	received uint64 // bytes of data without a gap
	waiting  int    // segments received and not acknowledged
	ask      [askLen]byte

	frame   []byte // the frame to send, of mss bytes of data; nil unless a source has been asked
	l3, l4  int    // in it
	sum     uint32 // of its transport part with pseudo-header, without sequence number
	acked   uint64 // offset up to which the client has everything
	sent    uint64 // offset of what is to be sent next
	top     uint64 // the highest that sent was
	recover uint64 // duplicate ACKs below say nothing new: they follow from sending again
	end     uint64 // offset at which the stream ends; the FIN counts one more
	window  uint64 // bytes from acked on
	repeats int    // ACKs of the same offset
	probe   bool   // ask for the window
	heard   time.Time
}

// bulk answers a segment to the sink or to the source. Of a conversation it
// knows more than the stateless rest of this package has to: what is lost is
// sent again from there on.
func (a *answerer) bulk(buf []byte) int {
	info := &a.info
	switch info.Flags & (packet.SYN | packet.RST | packet.FIN | packet.ACK) {
	case packet.SYN:
		a.newFlow(buf)
		return a.accept(buf)
	case packet.ACK, packet.ACK | packet.FIN:
	case packet.RST, packet.RST | packet.ACK:
		a.count[tcpResets]++
		if f := a.flowOf(); f != nil {
			*f = flow{}
		}
		return 0
	default:
		a.count[badFrames]++
		return 0
	}
	f := a.flowOf()
	if f == nil {
		a.count[otherFrames]++
		return 0
	}
	if f.frame != nil {
		f.acknowledge(info)
	}
	return a.receive(buf, f)
}

// newFlow makes a flow of the SYN in hand.
func (a *answerer) newFlow(buf []byte) {
	info := &a.info
	f := a.flowOf() // a SYN that is sent again
	if f == nil {
		f = &a.flows[a.turn%flows]
		a.turn++
	}
	family := 0
	if info.Kind == packet.TCP6 {
		family = 1
	}
	*f = flow{
		hash: info.Hash, client: info.SrcPort, server: info.DstPort,
		first: info.Seq + 1, expect: info.Seq + 1, mss: int(a.mss[family]),
	}
	opts := buf[int(info.L4)+packet.TCPLen : info.Payload]
	if b, ok := option(opts, optionMSS); ok && len(b) == 2 {
		f.mss = min(f.mss, int(binary.BigEndian.Uint16(b)))
	}
	if b, ok := option(opts, optionScale); ok && len(b) == 1 {
		f.scale = min(b[0], 14) // RFC 7323, 2.3
	}
}

// flowOf finds the flow of the segment in hand. Two with the same hash and ports
// are taken for one.
func (a *answerer) flowOf() *flow {
	for i := range a.flows {
		f := &a.flows[i]
		if f.hash == a.info.Hash && f.client == a.info.SrcPort && f.server == a.info.DstPort {
			return f
		}
	}
	return nil
}

// sequence returns the sequence number of an offset.
func (f *flow) sequence(offset uint64) uint32 { return f.first + uint32(offset) }

// begin starts to send as many bytes as f.ask says. buf holds a segment to the
// client, without data and options.
func (f *flow) begin(buf []byte, l3, l4, window int) {
	f.l3, f.l4 = l3, l4
	f.frame = make([]byte, l4+packet.TCPLen+f.mss)
	copy(f.frame, buf[:l4+packet.TCPLen])
	f.end = binary.BigEndian.Uint64(f.ask[:])
	f.window = uint64(window)
	setLength(f.frame, l3, l4, packet.TCPLen+f.mss)
	t := f.frame[l4:]
	t[tcpOffset+1] = packet.ACK
	clear(t[tcpSeq:tcpAck])
	clear(t[tcpChecksum : tcpChecksum+2])
	f.sum = packet.Sum(t, pseudoHeader(f.frame, packet.ProtoTCP, len(t)))
	f.heard = time.Now()
}

// acknowledge takes what a segment from the client says about what was sent.
func (f *flow) acknowledge(info *packet.Info) {
	ahead := uint64(info.Ack - f.sequence(f.acked))
	window := uint64(info.Window) << f.scale
	switch {
	case ahead > f.top-f.acked:
		return
	case ahead == 0:
		if window == f.window && f.top > f.acked && f.acked >= f.recover {
			if f.repeats++; f.repeats == 3 { // RFC 5681, 3.2
				f.again()
			}
		}
	default:
		f.acked += ahead
		f.sent = max(f.sent, f.acked)
		f.repeats = 0
		f.heard = time.Time{} // whoever reads the clock next sets it
	}
	f.window = window
}

// again sends everything from the first gap on once more.
func (f *flow) again() {
	f.sent, f.recover, f.repeats = f.acked, f.top, 0
}

// ready tells whether there is a frame to send.
func (f *flow) ready() bool {
	if f.frame == nil {
		return false
	}
	n := min(uint64(f.mss), f.end-min(f.sent, f.end))
	return f.probe || f.sent <= f.end && f.sent+n <= f.acked+f.window
}

// next writes the frame that is to be sent to dst, and what does not fit to more,
// and returns its length.
//
// Preconditions: ready, and there is room for a frame of the link, and in dst for
// the headers.
func (f *flow) next(dst []byte, more ...[]byte) int {
	be := binary.BigEndian
	n, seq, flags := int(min(uint64(f.mss), f.end-min(f.sent, f.end))), f.sequence(f.sent), uint8(packet.ACK)
	if f.probe {
		// What is not expected is answered with an ACK (RFC 9293, 3.10.7.4).
		f.probe = false
		n, seq = 0, f.sequence(f.acked)-1
	} else {
		f.sent += uint64(n)
		if f.sent == f.end {
			f.sent++
			flags |= packet.PSH | packet.FIN
		}
		f.top = max(f.top, f.sent)
	}
	length := f.l4 + packet.TCPLen + n
	rest := f.frame[copy(dst, f.frame[:length]):length]
	for _, d := range more {
		rest = rest[copy(d, rest):]
	}
	t := dst[f.l4 : f.l4+packet.TCPLen]
	if n == f.mss && flags == packet.ACK {
		be.PutUint32(t[tcpSeq:], seq)
		be.PutUint16(t[tcpChecksum:], ^packet.Fold(f.sum+seq>>16+seq&0xffff))
		return length
	}
	setLength(dst, f.l3, f.l4, packet.TCPLen+n)
	be.PutUint32(t[tcpSeq:], seq)
	t[tcpOffset+1] = flags
	be.PutUint16(t[tcpChecksum:], 0)
	// The data is zeros and adds nothing.
	be.PutUint16(t[tcpChecksum:], ^packet.Fold(packet.Sum(t, pseudoHeader(dst, packet.ProtoTCP, packet.TCPLen+n))))
	return length
}

// sender returns a flow that has something to send; nil is none.
func (a *answerer) sender() *flow {
	for i := range a.flows {
		if a.flows[i].ready() {
			return &a.flows[i]
		}
	}
	return nil
}

// awaiting tells whether a sender waits for the client, and lets those that have
// waited for too long send again.
func (a *answerer) awaiting() bool {
	waiting := false
	for i := range a.flows {
		f := &a.flows[i]
		if f.frame == nil || f.acked > f.end {
			continue
		}
		waiting = true
		now := time.Now()
		switch {
		case f.heard.IsZero():
			f.heard = now
		case now.Sub(f.heard) > patience:
			f.heard = now
			f.again()
			f.probe = !f.ready()
			a.count[tcpAgain]++
		}
	}
	return waiting
}
