package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// TestRawEnd answers every frame from inside the sender's own wakeup.
func TestRawEnd(t *testing.T) {
	w := newWire(t, Config{})
	s := open(t, w.Port(0), 0, 64)
	var seen int
	w.Port(1).OnReceive(func(f []byte) {
		seen++
		if cap(f) != len(f) {
			t.Error("the frame's capacity reaches beyond it")
		}
		w.Port(1).Send(f)
		w.Port(0).Inject(f)
		w.Stats()
		if _, err := s.Statistics(); err != nil {
			t.Error(err)
		}
		s.Interrupt()
		if err := w.SetFaults(From1, Faults{}); err != nil {
			t.Error(err)
		}
	})
	queue(s, numbered(1, 60), numbered(2, 61))
	s.TX().Flush()
	got := receive(s)
	if seen != 2 || len(got) != 4 || !bytes.Equal(got[0], got[1]) || !bytes.Equal(got[3], numbered(2, 61)) {
		t.Errorf("saw %d, got %d", seen, len(got))
	}
	w.Port(1).OnReceive(nil)
	queue(s, numbered(3, 60))
	s.TX().Flush()
	st := checkStats(t, w)
	if st[From0] != (DirStats{Sent: 3, Delivered: 2, NoSocket: 1}) || st[From1] != (DirStats{Sent: 2, Injected: 2, Delivered: 4}) {
		t.Errorf("%+v", st)
	}
	audit(t, s)
}

// packet4 and packet6 are Ethernet frames with the fields that Hash reads.
func packet4(src, dst uint32, proto byte, sport, dport, frag uint16) []byte {
	f := make([]byte, 14+20+8)
	be := binary.BigEndian
	be.PutUint16(f[12:], 0x0800)
	f[14] = 0x45
	be.PutUint16(f[20:], frag)
	f[23] = proto
	be.PutUint32(f[26:], src)
	be.PutUint32(f[30:], dst)
	be.PutUint16(f[34:], sport)
	be.PutUint16(f[36:], dport)
	return f
}

func packet6(src, dst uint64, proto byte, sport, dport uint16) []byte {
	f := make([]byte, 14+40+8)
	be := binary.BigEndian
	be.PutUint16(f[12:], 0x86dd)
	f[14], f[20] = 0x60, proto
	be.PutUint64(f[22:], 0xfe80<<48)
	be.PutUint64(f[30:], src)
	be.PutUint64(f[38:], 0xfe80<<48)
	be.PutUint64(f[46:], dst)
	be.PutUint16(f[54:], sport)
	be.PutUint16(f[56:], dport)
	return f
}

func TestHash(t *testing.T) {
	hash := func(f []byte) uint32 {
		h, ok := Hash(f)
		if !ok {
			t.Errorf("no hash for %x", f)
		}
		return h
	}
	const a, b = 0x0a000001, 0x0a000002
	for _, proto := range []byte{6, 17} {
		if hash(packet4(a, b, proto, 1000, 80, 0)) != hash(packet4(b, a, proto, 80, 1000, 0x4000)) ||
			hash(packet6(a, b, proto, 1000, 80)) != hash(packet6(b, a, proto, 80, 1000)) {
			t.Error("the two directions of a flow differ")
		}
		if hash(packet4(a, b, proto, 1000, 80, 0)) == hash(packet4(a, b, proto, 1001, 80, 0)) ||
			hash(packet6(a, b, proto, 1000, 80)) == hash(packet6(a, b, proto, 1001, 80)) {
			t.Error("the ports do not matter")
		}
		if hash(packet4(a, b, proto, 1000, 80, 0x2000)) != hash(packet4(a, b, proto, 7, 7, 185)) {
			t.Error("two fragments differ")
		}
	}
	if hash(packet4(a, b, 1, 1, 2, 0)) != hash(packet4(a, b, 1, 3, 4, 0)) || hash(packet6(a, b, 44, 1, 2)) != hash(packet6(a, b, 44, 3, 4)) {
		t.Error("ports of packets that have none")
	}
	arp := make([]byte, 60)
	binary.BigEndian.PutUint16(arp[12:], 0x0806)
	for _, f := range [][]byte{nil, arp, packet4(a, b, 6, 1, 2, 0)[:33], packet6(a, b, 6, 1, 2)[:53]} {
		if _, ok := Hash(f); ok {
			t.Errorf("hash of %x", f)
		}
	}
	var n4, n6 [4]int
	for port := range uint16(4000) {
		n4[hash(packet4(a, b, 6, 32768+port, 80, 0))%4]++
		n6[hash(packet6(a, b, 6, 32768+port, 80))%4]++
	}
	for i := range n4 {
		if !within(uint64(n4[i]), 4000, 0.25) || !within(uint64(n6[i]), 4000, 0.25) {
			t.Errorf("uneven: %v, %v", n4, n6)
		}
	}
}

func FuzzHash(f *testing.F) {
	f.Add(packet4(1, 2, 6, 3, 4, 0))
	f.Add(packet6(1, 2, 17, 3, 4))
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, ok := Hash(frame)
		if h2, ok2 := Hash(frame); h2 != h || ok2 != ok {
			t.Error("no function")
		}
	})
}

func TestRSS(t *testing.T) {
	w := newWire(t, Config{Ports: [2]PortConfig{{}, {Queues: 4}}})
	for q := range 3 { // queue 3 has no socket
		open(t, w.Port(1), q, 512)
	}
	var want [4]uint64
	rng := rand.New(rand.NewPCG(w.Seed(), 9))
	for range 400 {
		f := packet4(rng.Uint32(), rng.Uint32(), 17, 1, 2, 0)
		h, _ := Hash(f)
		want[h%4]++
		w.Port(0).Send(f)
	}
	w.Port(0).Send(make([]byte, 60)) // no IP
	want[0]++
	for q := range 3 {
		m := w.Port(1).Queue(q).Rings().RX
		if n := uint64(m.Prod.Load()); n != want[q] {
			t.Errorf("queue %d: %d frames, want %d", q, n, want[q])
		}
	}
	if st := checkStats(t, w)[From0]; st.NoSocket != want[3] {
		t.Errorf("%+v, want %v", st, want)
	}
}

func BenchmarkWire(b *testing.B) {
	for _, size := range []int{64, 1514} {
		for _, n := range []int{1, 32} {
			b.Run(fmt.Sprintf("batch=%d/len=%d", n, size), func(b *testing.B) {
				_, s := pair(b, Config{}, 256)
				d, f := make([]umem.Desc, n), numbered(1, size)
				b.ReportAllocs()
				for b.Loop() {
					burst(b, s[0].TX(), s[1].RX(), f, d)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/packet")
			})
		}
	}
}

// burst sends a frame len(d) times and receives all of them.
func burst(tb testing.TB, tx *xsk.TX, rx *xsk.RX, f []byte, d []umem.Desc) {
	if tx.Free(len(d)) < len(d) {
		tb.Fatal("no room")
	}
	for range d {
		a, chunk, _ := tx.Frame()
		tx.Queue(a, copy(chunk, f))
	}
	if tx.Flush() != 0 || rx.Receive(d) != len(d) {
		tb.Fatal("not all arrived")
	}
	rx.Recycle(d)
	rx.Refill()
}
