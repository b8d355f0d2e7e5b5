package wire

import (
	"bytes"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// longPort is a port whose frames lie in up to seven frames of 2048 - 256 - 64
// bytes, received, and five of 2048, sent.
var longPort = PortConfig{MTU: 9000, MultiBuffer: true}

// queueLong is queue for packets over several frames; it returns what fits.
func queueLong(s *xsk.Socket, packets ...[]byte) (n int) {
	for _, p := range packets {
		k := (len(p) + 2047) / 2048
		if s.TX().Free(k) < k {
			return n
		}
		var parts []umem.Desc
		for range k {
			a, chunk, _ := s.TX().Frame()
			c := copy(chunk, p)
			p = p[c:]
			parts = append(parts, umem.Desc{Addr: a, Len: uint32(c)})
		}
		if !s.TX().QueueParts(parts) {
			panic("refused after Free")
		}
		n++
	}
	return n
}

// receiveLong is receive for packets over several frames.
func receiveLong(s *xsk.Socket) (packets [][]byte) {
	var d [16]umem.Desc
	for {
		n := s.RX().Receive(d[:])
		if n == 0 && s.RX().Empty() {
			return packets
		}
		for p := range umem.Packets(d[:n]) {
			var b []byte
			for _, d := range p {
				b = append(b, s.Region().Bytes(d)...)
			}
			packets = append(packets, b)
		}
		s.RX().Recycle(d[:n])
		s.RX().Refill()
	}
}

// TestLongDelivery sends packets of all lengths through small rings, with a
// budget that ends within packets, and compares every byte and the order.
func TestLongDelivery(t *testing.T) {
	w, s := pair(t, Config{Ports: [2]PortConfig{longPort, longPort}, TXBudget: 7}, 16)
	rng := rand.New(rand.NewPCG(w.Seed(), 0))
	var sent, got [][]byte
	for i := uint64(0); i < 2000; i++ {
		p := numbered(i, 14+rng.IntN(9001))
		for queueLong(s[0], p) == 0 {
			s[0].TX().Flush()
			got = append(got, receiveLong(s[1])...)
		}
		sent = append(sent, p)
		if rng.IntN(3) == 0 {
			s[0].TX().Flush()
		}
		if rng.IntN(3) == 0 {
			got = append(got, receiveLong(s[1])...)
		}
	}
	for s[0].TX().Flush() > 0 {
	}
	got = append(got, receiveLong(s[1])...)
	// What found no frame in time is lost: the others keep their order.
	next := 0
	for _, g := range got {
		for next < len(sent) && number(sent[next]) != number(g) {
			next++
		}
		if next == len(sent) || !bytes.Equal(g, sent[next]) {
			t.Fatalf("packet %d of %d bytes: others, or out of order", number(g), len(g))
		}
		next++
	}
	st := checkStats(t, w)[From0]
	if st.Sent != uint64(len(sent)) || st.Delivered != uint64(len(got)) || len(got) < len(sent)/2 || st.Dropped() != st.NoFrame {
		t.Errorf("%d sent, %d received: %+v", len(sent), len(got), st)
	}
	audit(t, s[0])
	audit(t, s[1])
}

// TestLongTX plays a user side that sends parts in all the wrong ways.
func TestLongTX(t *testing.T) {
	const more = umem.OptionContinues
	w := newWire(t, Config{Ports: [2]PortConfig{longPort, longPort}, TXBudget: 4})
	var lengths []int
	w.Port(1).OnReceive(func(f []byte) { lengths = append(lengths, len(f)) })
	r := openRaw(t, w.Port(0), xsk.RingSizes{Fill: 2, RX: 2, TX: 32, Completion: 32})
	part := func(options uint32) umem.Desc { return umem.Desc{Addr: 2048, Len: 100, Options: options} }
	r.send(part(more), part(more), part(0), part(more))
	r.want(t, 0, 0, 3) // the last one waits for more, the ring does not
	r.send(part(0), part(0))
	r.want(t, 0, 0, 6)
	r.send(part(0), part(0), part(more), part(more), part(more), part(0))
	r.want(t, syscall.EAGAIN, 2, 8) // the budget ends within a packet
	r.want(t, 0, 0, 12)
	r.send(part(more), part(more), umem.Desc{Addr: 1 << 40, Len: 60}, part(0))
	r.want(t, 0, 4, 12) // the packet is gone with its frames; the index stays behind
	r.want(t, 0, 0, 13)
	for range 17 {
		r.send(part(more))
	}
	r.send(part(0))
	for range 6 {
		r.WakeTX()
	}
	r.want(t, 0, 0, 14) // of 18 parts, 17 are too many; the last is a packet
	want := []int{300, 200, 100, 100, 100, 400, 100, 100}
	if len(lengths) != len(want) {
		t.Fatalf("packets of %v bytes, want %v", lengths, want)
	}
	for i := range want {
		if lengths[i] != want[i] {
			t.Errorf("packets of %v bytes, want %v", lengths, want)
		}
	}
	if st, _ := r.Statistics(); st.TXInvalidDescs != 2+1+17 {
		t.Errorf("%+v", st)
	}
}

// TestLongReceive has a packet that needs three frames find two, then room for
// two descriptors, and then enough of both: none of it is lost meanwhile.
func TestLongReceive(t *testing.T) {
	w := newWire(t, Config{Ports: [2]PortConfig{longPort}})
	p := w.Port(0)
	r := openRaw(t, p, xsk.RingSizes{Fill: 8, RX: 4, TX: 2})
	const part = 2048 - 256 - 64
	long, short := numbered(1, 3*part), numbered(2, 60)
	r.lend(0, 2048)
	if p.Inject(long) {
		t.Error("a packet of three frames found two")
	}
	r.lend(4096, 3*2048)
	if !p.Inject(short) || !p.Inject(long) {
		t.Error("not received")
	}
	first, n := r.rx.Peek(4)
	if n != 4 {
		t.Fatalf("%d descriptors, want 1 and 3", n)
	}
	var b []byte
	for i := range uint32(3) {
		d := r.rx.Get(first + 1 + i)
		if d.Continues() != (i < 2) || d.Len != part || d.Addr%2048 != 256+64 {
			t.Errorf("part %d: %+v", i, d)
		}
		b = append(b, r.r.Bytes(d)...)
	}
	if !bytes.Equal(b, long) {
		t.Error("other bytes")
	}
	r.rx.Cancel(2)
	r.rx.Release()
	r.lend(4*2048, 5*2048, 6*2048)
	if p.Inject(long) || !p.Inject(short) {
		t.Error("three descriptors found room for two, or one found none")
	}
	if st, _ := r.Statistics(); st.RXDropped != 1 || st.RXRingFull != 1 || st.FillRingEmpty != 1 {
		t.Errorf("%+v", st)
	}
	checkStats(t, w)
}
