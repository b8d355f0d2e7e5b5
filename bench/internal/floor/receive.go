package floor

import (
	"encoding/binary"
	"slices"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/packet"
)

// unsettled is how many segments may be received before one acknowledges them,
// if the batch has no end before.
const unsettled = 64

// askLen is the length of what a source is asked with, and of a sink's count.
const askLen = 8

// receive takes the data of the segment in hand, and answers it if it has to be
// acknowledged at once, which is so if it is not the one that was expected, or
// if it is the last of a batch.
func (a *answerer) receive(buf []byte, f *flow) int {
	info := &a.info
	n, fin := info.PayloadLen(), info.Flags&packet.FIN != 0
	known := int(int32(f.expect - info.Seq)) // bytes that it has and that are not new
	switch {
	case known == 0 && n == 0 && !fin:
		a.count[tcpSilent]++
		return 0
	case fin && known == n+1:
		a.count[tcpDuplicate]++
		return a.last(buf, f) // ours was lost
	case known < 0 && f.server != peer.SourcePort:
		f.keep(info.Seq, n, fin)
		a.count[tcpAhead]++
		return a.ackOnly(buf, f.sequence(f.sent), f.expect)
	case known < 0 || known > n || known == n && !fin:
		// A gap in a question, a segment that was sent again, or a probe.
		a.count[tcpDuplicate]++
		return a.ackOnly(buf, f.sequence(f.sent), f.expect)
	}
	if at := f.received; f.server == peer.SourcePort && at < askLen {
		// What does not lie in the first frame is no question of the bench.
		if from, end := int(info.Payload)+known, min(int(info.End), len(buf)); from < end {
			copy(f.ask[at:], buf[from:end])
		}
	}
	a.count[tcpTaken]++
	if fin {
		f.ended, f.finAt = true, info.Seq+uint32(n)
	}
	next := f.ahead.reach(info.Seq + uint32(n))
	f.received += uint64(next - f.expect)
	f.expect = next
	if f.ended && f.expect == f.finAt {
		f.expect++
		return a.last(buf, f)
	}
	if f.server == peer.SourcePort && f.received >= askLen && f.frame == nil {
		end := a.ackOnly(buf, f.first, f.expect)
		f.begin(buf, int(info.L3), int(info.L4), int(info.Window)<<f.scale)
		a.returnToSender(f.frame)
		return end
	}
	if f.waiting++; f.waiting < unsettled {
		a.later, a.patient = true, true
	} else {
		f.waiting = 0
	}
	a.count[tcpAcks]++
	return a.ackOnly(buf, f.sequence(f.sent), f.expect)
}

// keep remembers n bytes of data at seq, which lie behind a gap, and a FIN behind
// them. What lies outside of the window is dropped.
func (f *flow) keep(seq uint32, n int, fin bool) {
	end := seq + uint32(n)
	if end-f.expect > window<<windowScale {
		return
	}
	f.ahead.add(span{seq, end})
	if fin {
		f.ended, f.finAt = true, end
	}
}

// last answers a FIN. A sink says how much has arrived, and ends too.
func (a *answerer) last(buf []byte, f *flow) int {
	a.count[tcpFins]++
	n := 0
	if f.server != peer.SourcePort {
		n = askLen
		if room := int(a.info.L4) + packet.TCPLen + n; room > len(buf) {
			a.count[badFrames]++
			return 0
		}
		binary.BigEndian.PutUint64(buf[int(a.info.L4)+packet.TCPLen:], f.received)
		return a.segment(buf, f.first, f.expect, packet.ACK|packet.PSH|packet.FIN, packet.TCPLen, n)
	}
	return a.ackOnly(buf, f.sequence(f.sent), f.expect)
}

// span is sequence numbers: the first, and the one behind the last.
type span struct{ from, to uint32 }

// spans are in order and do not touch.
type spans []span

// maxSpans is how many gaps a flow has at most. What would make another is
// dropped; the client sends it again.
const maxSpans = 1024

// add adds what is new of x. All lies within 2^31 bytes.
func (s *spans) add(x span) {
	before := func(a, b uint32) bool { return int32(a-b) < 0 }
	i := len(*s) // of the first that x touches, or that lies behind it
	for i > 0 && !before((*s)[i-1].to, x.from) {
		i--
	}
	j := i
	for ; j < len(*s) && !before(x.to, (*s)[j].from); j++ {
		if before((*s)[j].from, x.from) {
			x.from = (*s)[j].from
		}
		if before(x.to, (*s)[j].to) {
			x.to = (*s)[j].to
		}
	}
	if i == j && (x.from == x.to || len(*s) == maxSpans) {
		return
	}
	*s = slices.Replace(*s, i, j, x)
}

// reach returns how far there is no gap from seq on, and forgets what lies before
// that.
func (s *spans) reach(seq uint32) uint32 {
	n := 0
	for ; n < len(*s) && int32((*s)[n].from-seq) <= 0; n++ {
		if int32((*s)[n].to-seq) > 0 {
			seq = (*s)[n].to
		}
	}
	*s = slices.Delete(*s, 0, n)
	return seq
}
