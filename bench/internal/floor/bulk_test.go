package floor

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/packet"
)

// bulkClient is a client of the sink or the source.
type bulkClient struct {
	tb testing.TB
	a  *answerer
	segment
}

// dialBulk opens a connection with an MSS of 1000 and a window scale of 1.
func dialBulk(tb testing.TB, family int, server uint16) *bulkClient {
	tb.Helper()
	c := &bulkClient{tb, newTestAnswerer(), segment{family: family, port: 9, server: server, seq: isn, flags: syn}}
	c.options = []byte{2, 4, 1000 >> 8, 1000 & 0xff, 1, 3, 3, 1}
	for range 2 { // the second is one that is sent again
		tcpReply(tb, c.a, c.segment, syn|ack, isn, isn+1)
	}
	c.options, c.flags, c.seq, c.ack = nil, ack, isn+1, isn+1
	silent(tb, c.a, c.frame(), tcpSilent)
	return c
}

// send sends data from an offset on and wants an ACK of another.
func (c *bulkClient) send(offset, n, acked uint32) {
	c.tb.Helper()
	s := c.segment
	s.seq += offset
	s.data = make([]byte, n)
	tcpReply(c.tb, c.a, s, ack, c.ack, c.seq+acked)
}

func TestSink(t *testing.T) {
	for family := range 2 {
		c := dialBulk(t, family, peer.SinkPort)
		c.send(0, 1000, 1000)
		if !c.a.later || !c.a.patient {
			t.Error("the ACK of the next segment may not replace this one")
		}
		c.send(2000, 1000, 1000) // a gap
		if c.a.later {
			t.Error("an ACK that tells of a gap may be replaced")
		}
		c.send(0, 1000, 1000)   // known
		c.send(500, 1500, 3000) // known in part, and what was lost
		got, atOnce := uint32(3000), 0
		for range 3 * unsettled {
			got++
			c.send(got-1, 1, got)
			if !c.a.later {
				atOnce++
			}
		}
		if atOnce != 3 {
			t.Errorf("%d of %d segments are acknowledged at once, want 3", atOnce, 3*unsettled)
		}
		// A window or keepalive probe.
		c.send(got-1, 0, got)
		// The close, and once more since the answer was lost.
		s := c.segment
		s.flags, s.seq, s.data = ack|fin, c.seq+got, []byte("end")
		for range 2 {
			data := tcpReply(t, c.a, s, ack|psh|fin, c.ack, s.seq+4)
			if len(data) != askLen || binary.BigEndian.Uint64(data) != uint64(got)+3 {
				t.Errorf("the count is % x, want %d", data, got+3)
			}
		}
		s.data, s.flags, s.seq, s.ack = nil, ack, s.seq+4, c.ack+askLen+1
		silent(t, c.a, s.frame(), tcpSilent)
		s.flags = rst | ack
		silent(t, c.a, s.frame(), tcpResets)
		s.flags = ack
		silent(t, c.a, s.frame(), otherFrames) // it is forgotten
	}
}

// TestSinkAhead has segments arrive in any order, twice, and cut in other places: the
// ACK is always of what has arrived without a gap, and the count comes when all has.
func TestSinkAhead(t *testing.T) {
	const total = 4000
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := dialBulk(t, int(seed%2), peer.SinkPort)
		var has [total + 1]bool // and the FIN
		for acked := uint32(0); acked <= total; {
			from := uint32(r.IntN(total + 1))
			n := min(uint32(r.IntN(1000)), total-from)
			s := c.segment
			s.seq, s.data = s.seq+from, make([]byte, n)
			for i := from; i < from+n; i++ {
				has[i] = true
			}
			if from+n == total && (n == 0 || r.IntN(2) == 0) {
				s.flags, has[total] = ack|fin, true
			}
			before := acked
			for acked <= total && has[acked] {
				acked++
			}
			if n == 0 && s.flags == ack && from == before {
				silent(t, c.a, s.frame(), tcpSilent)
				continue
			}
			flags := uint8(ack)
			if acked > total {
				flags |= psh | fin
			}
			data := tcpReply(t, c.a, s, flags, c.ack, c.seq+acked)
			if acked > total && (len(data) != askLen || binary.BigEndian.Uint64(data) != total) {
				t.Fatalf("seed %d: the count is % x, want %d", seed, data, total)
			}
		}
	}
}

// TestSinkBounds drops what lies outside of the window, and what would make too many
// gaps: neither is acknowledged later.
func TestSinkBounds(t *testing.T) {
	c := dialBulk(t, 0, peer.SinkPort)
	c.send(window<<windowScale, 1, 0)
	c.send(1<<31-1, 1, 0)
	if f := c.a.flows[0]; len(f.ahead) != 0 {
		t.Errorf("it keeps %v", f.ahead)
	}
	for i := range uint32(maxSpans) {
		c.send(2*i+1, 1, 0)
	}
	c.send(2*maxSpans+1, 1, 0)
	for i := range uint32(maxSpans) {
		c.send(2*i, 1, 2*i+2)
	}
	c.send(2*maxSpans, 1, 2*maxSpans+1)
}

// ask has the source send so many bytes, into a window in units of two bytes.
func (c *bulkClient) ask(n uint64, window uint16) {
	c.tb.Helper()
	b := binary.BigEndian.AppendUint64(nil, n)
	c.window = window
	s := c.segment
	s.data = b[:3] // in two segments
	tcpReply(c.tb, c.a, s, ack, c.ack, c.seq+3)
	if c.a.sender() != nil {
		c.tb.Fatal("it sends before it has been asked")
	}
	s.seq, s.data = s.seq+3, b[3:]
	tcpReply(c.tb, c.a, s, ack, c.ack, c.seq+askLen)
	c.seq += askLen
}

// want takes segments: of each the offset and the bytes of data.
func (c *bulkClient) want(segments ...[2]int) (flags uint8) {
	c.tb.Helper()
	buf := make([]byte, 2048)
	for _, s := range segments {
		f := c.a.sender()
		if f == nil {
			c.tb.Fatalf("nothing to send at %d", s[0])
		}
		frame := buf[:f.next(buf)]
		var info packet.Info
		r := packet.Parse(frame, &info)
		if r == packet.OK {
			r = packet.Verify(frame, &info, 0)
		}
		if r != packet.OK || info.SrcPort != c.server || info.DstPort != c.port || [6]byte(frame) != peerMAC || [6]byte(frame[6:]) != ourMAC {
			c.tb.Fatalf("%v: % x", r, frame[:info.L4+20])
		}
		if info.Seq != isn+1+uint32(s[0]) || info.PayloadLen() != s[1] || info.Ack != c.seq || info.Flags&ack == 0 {
			c.tb.Fatalf("offset %d, %d bytes, %+v, want %v", int32(info.Seq-isn-1), info.PayloadLen(), info, s)
		}
		for _, b := range frame[info.Payload:info.End] {
			if b != 0 {
				c.tb.Fatalf("data % x", frame[info.Payload:info.End])
			}
		}
		flags = info.Flags
	}
	return flags
}

// done wants nothing to be sent.
func (c *bulkClient) done() {
	c.tb.Helper()
	if f := c.a.sender(); f != nil {
		c.tb.Fatalf("offset %d may be sent, window %d from %d on", f.sent, f.window, f.acked)
	}
}

// got acknowledges what is before an offset.
func (c *bulkClient) got(offset int) {
	c.tb.Helper()
	c.ack = isn + 1 + uint32(offset)
	silent(c.tb, c.a, c.frame(), tcpSilent)
}

func TestSource(t *testing.T) {
	for family := range 2 {
		c := dialBulk(t, family, peer.SourcePort)
		c.ask(10_500, 1500) // a window of 3000 bytes
		c.want([2]int{0, 1000}, [2]int{1000, 1000}, [2]int{2000, 1000})
		c.done()
		c.got(1000)
		c.got(2000)
		c.want([2]int{3000, 1000}, [2]int{4000, 1000})
		c.done()
		// Three that say the same: everything from there on, and once only.
		c.got(2000)
		c.got(2000)
		c.done()
		c.got(2000)
		c.want([2]int{2000, 1000}, [2]int{3000, 1000}, [2]int{4000, 1000})
		for range 5 {
			c.got(2000)
		}
		c.done()
		c.got(5000)
		// A window that shuts, and opens.
		c.window = 0
		c.got(5000)
		c.done()
		c.window = 1999 // 3998 bytes
		c.got(5000)
		c.want([2]int{5000, 1000}, [2]int{6000, 1000}, [2]int{7000, 1000})
		c.got(8000 + 1) // of what was not sent
		c.done()
		c.got(8000)
		c.want([2]int{8000, 1000}, [2]int{9000, 1000})
		if flags := c.want([2]int{10_000, 500}); flags != ack|psh|fin {
			t.Errorf("the last segment has flags %#x", flags)
		}
		c.done()
		c.got(10_501)
		if c.a.awaiting() {
			t.Error("it waits for more than an ACK of the end")
		}
		s := c.segment
		s.flags = ack | fin
		tcpReply(t, c.a, s, ack, c.ack, c.seq+1)
	}
}

// TestSourceTimeout loses the last segments, and then the news of a window.
func TestSourceTimeout(t *testing.T) {
	c := dialBulk(t, 0, peer.SourcePort)
	c.ask(1<<40, 1000)
	c.want([2]int{0, 1000}, [2]int{1000, 1000})
	overdue := func() {
		t.Helper()
		if f := &c.a.flows[0]; !f.heard.IsZero() {
			f.heard = time.Now().Add(time.Minute) // however slow this machine is
		}
		if !c.a.awaiting() {
			t.Fatal("it does not wait")
		}
		c.done()
		c.a.flows[0].heard = time.Now().Add(-2 * patience)
		if !c.a.awaiting() {
			t.Fatal("it does not wait")
		}
	}
	overdue()
	c.want([2]int{0, 1000}, [2]int{1000, 1000})
	c.window = 0
	c.got(2000)
	overdue()
	c.want([2]int{1999, 0}) // is not expected, so the client says what it wants
	c.done()
	c.window = 500
	c.got(2000)
	c.want([2]int{2000, 1000})
}

// TestFlowsAreBounded opens more than there is room for: the oldest is gone.
func TestFlowsAreBounded(t *testing.T) {
	a := newTestAnswerer()
	s := segment{server: peer.SinkPort, seq: isn, flags: syn}
	for port := range uint16(flows + 1) {
		s.port = 100 + port
		tcpReply(t, a, s, syn|ack, isn, isn+1)
	}
	s.flags, s.seq, s.ack, s.data = ack, isn+1, isn+1, []byte("x")
	for port := range uint16(flows) {
		s.port = 101 + port
		tcpReply(t, a, s, ack, isn+1, isn+2)
	}
	s.port = 100
	silent(t, a, s.frame(), otherFrames)
}

// TestBulkOddSegments feeds what no client sends.
func TestBulkOddSegments(t *testing.T) {
	c := dialBulk(t, 0, peer.SourcePort)
	for _, flags := range []uint8{0, psh, fin, syn | ack, syn | fin, syn | fin | ack} {
		s := c.segment
		s.flags = flags
		silent(t, c.a, s.frame(), badFrames)
	}
	// A source that is asked for nothing ends at once.
	c.ask(0, 1000)
	if flags := c.want([2]int{0, 0}); flags != ack|psh|fin {
		t.Errorf("flags %#x", flags)
	}
	c.got(1)
	c.done()
}
