package xsk

import (
	"bytes"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
)

const more = umem.OptionContinues

// newParts makes a socket whose packets may lie in several frames, and lets the
// kernel have a ring of frames.
func newParts(tb testing.TB, n uint32) (*Socket, *simKernel) {
	tb.Helper()
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: int(3*n) + 32, OnHeap: true})
	if err != nil {
		tb.Fatal(err)
	}
	s, k := newSimParts(tb, region, n, 1<<32-3, maxTXParts)
	s.RX().Refill()
	k.takeFill(n)
	return s, k
}

// TestReceiveChains delivers packets over several frames, some of them such as a
// correct kernel never would: each is returned whole or dropped whole, with its
// frames. A letter is a good descriptor, upper case if it continues; "!" and "?"
// are refused ones, of which "?" continues; "|" is where a Receive comes.
func TestReceiveChains(t *testing.T) {
	for _, test := range []struct {
		name, ring string
		room       int // of Receive; 0 means 16
		want       string
		dropped    uint64
	}{
		{"single", "abc|", 0, "abc", 0},
		{"one", "ABc|", 0, "ABc", 0},
		{"between others", "aBCdeFg|", 0, "aBCdeFg", 0},
		{"over the end of the ring", "ab|CDEFGh|", 0, "abCDEFGh", 0},

		{"no end, behind others", "aBC|d|e|", 0, "ae", 1},
		{"no end, nothing else", "AB|c|d|", 0, "d", 1},
		{"no end, ever", "AB|CD|E|F|", 0, "", 1},
		{"no end, then the next", "aBC|D|e|f|", 0, "a" + "f", 1},

		{"no room", "ABCd|e|", 3, "e", 1},
		{"no room, exactly", "ABc|d|", 3, "ABcd", 0},
		{"room next time", "aBCd|eFg|", 3, "aBCdeFg", 0},
		{"room for one", "Abcd|", 1, "cd", 1},
		{"nearly endless", "ABCDEFGHIJKLm|n|", 4, "n", 1},

		{"bad start", "?Bcd|", 0, "d", 1},
		{"bad middle", "aB?Cde|", 0, "ae", 1},
		{"bad end", "aBC!d|", 0, "ad", 1},
		{"bad twice", "aB?C?de|", 0, "ae", 1},
		{"bad alone", "a!b|", 0, "ab", 0},
		{"only bad ones", "???|a|b|", 0, "b", 1},
		{"bad over two batches", "A?|Bc|d|", 0, "d", 1},
		{"bad, then a good one", "A!Bc|", 0, "Bc", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, k := newParts(t, 16)
			if test.room == 0 {
				test.room = 16
			}
			dst := make([]umem.Desc, test.room)
			name := make(map[umem.Addr]byte)
			bad, delivered, got := uint64(0), 0, ""
			for i := range len(test.ring) {
				switch c := test.ring[i]; c {
				case '|':
					for !s.RX().Empty() {
						n := s.RX().Receive(dst)
						for _, d := range dst[:n] {
							got += string(name[s.Region().Frame(d.Addr)])
						}
						if n > 0 && dst[n-1].Continues() {
							t.Errorf("%q: the last packet is not whole", got)
						}
						s.RX().Recycle(dst[:n])
					}
				case '!', '?':
					bad++
					d := umem.Desc{Addr: 1 << 40, Len: 60}
					if c == '?' {
						d.Options = more
					}
					k.deliver(d)
				default:
					d := umem.Desc{Addr: k.frames[delivered] + 256, Len: 60}
					if c < 'a' {
						d.Options = more
					}
					name[s.Region().Frame(d.Addr)] = c
					delivered++
					k.deliver(d)
				}
			}
			if got != test.want {
				t.Errorf("received %q, want %q", got, test.want)
			}
			st := statistics(t, s)
			packets := 0
			for _, c := range test.want {
				if c >= 'a' {
					packets++
				}
			}
			if st.RXContinued != test.dropped || st.RXBadDescs != bad || st.RXFrames != uint64(packets) || st.RXBytes != uint64(60*len(test.want)) {
				t.Errorf("%+v", st)
			}
			if a := s.Region().Audit(); a.Held != 0 || a.Fill != 16-delivered {
				t.Errorf("%+v after %d descriptors", a, delivered)
			}
		})
	}
}

// TestQueueParts sends packets over several frames and looks at the ring.
func TestQueueParts(t *testing.T) {
	s, k := newParts(t, 32)
	tx := s.TX()
	if tx.MaxPacket() != 17*2048 || !s.MultiBuffer() {
		t.Errorf("MaxPacket %d, MultiBuffer %v", tx.MaxPacket(), s.MultiBuffer())
	}
	if got, want := s.MaxMTU(), 17*2048-18; got != want {
		t.Errorf("MaxMTU = %d, want %d", got, want)
	}
	for _, n := range []int{1, 3, 17} {
		if !tx.QueueParts(take(t, tx, n)) {
			t.Fatalf("%d parts refused", n)
		}
	}
	queue(t, tx, 1)
	if n := k.takeTX(32); n != 0 {
		t.Errorf("%d descriptors are there before Flush", n)
	}
	if left := tx.Flush(); left != 22 || tx.Lent() != 22 {
		t.Errorf("Flush left %d, %d lent", left, tx.Lent())
	}
	k.takeTX(32)
	var got []int
	for p := range umem.Packets(k.sent) {
		got = append(got, len(p))
	}
	if !slices.Equal(got, []int{1, 3, 17, 1}) {
		t.Errorf("packets of %v descriptors", got)
	}
	for i, d := range k.sent[:21] {
		if d.Addr%2048 != 10 || d.Len != 60 || d.Options&^more != 0 {
			t.Errorf("descriptor %d: %+v", i, d)
		}
	}
	k.completeAll()
	if n := tx.Reclaim(); n != 22 {
		t.Errorf("Reclaim = %d", n)
	}
	if st := statistics(t, s); st.TXFrames != 4 || st.TXMore != 2+16 || st.TXBytes != 22*60 || st.TXCompletions != 22 {
		t.Errorf("%+v", st)
	}
}

// take takes n frames to send 60 bytes from each.
func take(tb testing.TB, tx *TX, n int) (parts []umem.Desc) {
	tb.Helper()
	for range n {
		a, _, ok := tx.Frame()
		if !ok {
			tb.Fatal("no frame")
		}
		// Options are Queue's to set.
		parts = append(parts, umem.Desc{Addr: a + 10, Len: 60, Options: more})
	}
	return parts
}

// TestQueuePartsRefuses holds a refusal to no effect: all frames stay with the
// caller, and no part is in the ring.
func TestQueuePartsRefuses(t *testing.T) {
	s, k := newParts(t, 32)
	tx := s.TX()
	good := take(t, tx, 18)
	free, _, _ := tx.Frame()
	tx.Cancel(free)
	with := func(at int, d umem.Desc) []umem.Desc {
		p := slices.Clone(good[:3])
		p[at] = d
		return p
	}
	for _, test := range []struct {
		name  string
		parts []umem.Desc
	}{
		{"none", nil},
		{"too many", good},
		{"empty part", with(1, umem.Desc{Addr: good[1].Addr})},
		{"outside", with(2, umem.Desc{Addr: 1 << 40, Len: 60})},
		{"over two chunks", with(0, umem.Desc{Addr: good[0].Addr, Len: 2048})},
		{"a frame twice", with(2, good[0])},
		{"a free frame", with(2, umem.Desc{Addr: free, Len: 60})},
		{"the kernel's frame", with(1, umem.Desc{Addr: k.frames[0], Len: 60})},
	} {
		t.Run(test.name, func(t *testing.T) {
			if tx.QueueParts(test.parts) {
				t.Error("taken")
			}
			if a := s.Region().Audit(); a.Held != 18 || a.TX != 0 || tx.Lent() != 0 || tx.tx.Unsubmitted() != 0 {
				t.Errorf("%+v, %d lent, %d in the ring", a, tx.Lent(), tx.tx.Unsubmitted())
			}
		})
	}
	if !tx.QueueParts(good[:17]) {
		t.Error("a good packet was refused afterwards")
	}
	// 15 slots are left.
	if tx.QueueParts(take(t, tx, 16)) || !tx.QueueParts(take(t, tx, 15)) || tx.Free(1) != 0 {
		t.Error("room for 16 of 15, or not for 15")
	}
}

// TestQueuePartsSingle has a socket without multi-buffer, and one with a ring
// shorter than a packet may be.
func TestQueuePartsSingle(t *testing.T) {
	s, _ := newSim(t, 16, 64)
	if parts := take(t, s.TX(), 2); s.TX().QueueParts(parts) || !s.TX().QueueParts(parts[:1]) || s.TX().MaxPacket() != 2048 || s.MultiBuffer() || s.MaxMTU() != 2048-256-18 {
		t.Errorf("MaxPacket %d, MultiBuffer %v, MaxMTU %d", s.TX().MaxPacket(), s.MultiBuffer(), s.MaxMTU())
	}
	s, _ = newParts(t, 4)
	if parts := take(t, s.TX(), 5); s.TX().QueueParts(parts) || !s.TX().QueueParts(parts[:4]) {
		t.Error("a ring of 4 took 5, or not 4")
	}
	if got, want := s.MaxMTU(), 4*(2048-256)-18; got != want {
		t.Errorf("MaxMTU = %d, want %d: the fill ring has 4 frames", got, want)
	}
}

// TestFlushParts has a kernel whose budget ends within a packet, and which then
// has to give that packet back because the device is full: it reads all of it
// again, so its consumer index falls back, which is no corruption here.
func TestFlushParts(t *testing.T) {
	s, k := newParts(t, 64)
	tx := s.TX()
	k.rings.TX.Flags.Store(ring.FlagNeedWakeup)
	cons := k.rings.TX.Cons
	begin := cons.Load()
	k.wakeTX = func() syscall.Errno {
		if len(k.sent) == 0 {
			k.takeTX(32) // ten packets of three, and two parts of another
		}
		return syscall.EAGAIN
	}
	for range 12 {
		if !tx.QueueParts(take(t, tx, 3)) {
			t.Fatal("refused")
		}
	}
	if left := tx.Flush(); left != 4 || tx.Free(64) != 28 {
		t.Fatalf("%d left, %d free", left, tx.Free(64))
	}
	cons.Store(begin + 30)
	k.tx, k.sent = ring.NewConsumer(k.rings.TX), k.sent[:30]
	if tx.Free(64) != 28 || tx.Err() != nil || tx.Pending() != 6 {
		t.Fatalf("%d free, %d pending, %v", tx.Free(64), tx.Pending(), tx.Err())
	}
	k.wakeTX = func() syscall.Errno { k.takeTX(32); return 0 }
	if left := tx.Flush(); left != 0 || len(k.sent) != 36 {
		t.Errorf("%d left, %d sent", left, len(k.sent))
	}
	k.completeAll()
	if n := tx.Reclaim(); n != 36 || tx.Lent() != 0 || tx.Err() != nil || tx.Free(64) != 64 {
		t.Errorf("%d completions, %d lent, %d free, %v", n, tx.Lent(), tx.Free(64), tx.Err())
	}
	if a := s.Region().Audit(); a.TX != 0 || a.Held != 0 {
		t.Errorf("%+v", a)
	}
}

// TestPartsAllocs holds both ways to no allocation.
func TestPartsAllocs(t *testing.T) {
	if debugUMEM() {
		t.Skip("xskdebug keeps a stack per frame")
	}
	l := newPartsLoop(t)
	if n := testing.AllocsPerRun(100, func() { l.kernelReceives(); l.receiveParts(t) }); n != 0 {
		t.Errorf("RX: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { l.sendParts(t); l.kernelSends(); l.s.TX().Reclaim() }); n != 0 {
		t.Errorf("TX: %v allocations", n)
	}
}

// partsLoop is a batch of 20 packets of 3 descriptors each way.
type partsLoop struct {
	*loop
	parts [3]umem.Desc
}

func newPartsLoop(tb testing.TB) *partsLoop {
	tb.Helper()
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: 2048*2 + spareChunks, OnHeap: true})
	if err != nil {
		tb.Fatal(err)
	}
	s, k := newSimParts(tb, region, 2048, 0, maxTXParts)
	s.RX().Refill()
	return &partsLoop{loop: &loop{s: s, k: k, dst: make([]umem.Desc, 60)}}
}

func (l *partsLoop) kernelReceives() {
	from, n := l.k.fill.Peek(60)
	to, _ := l.k.rx.Reserve(n)
	for i := range n {
		d := umem.Desc{Addr: l.k.fill.Get(from+i) + 256, Len: 60}
		if i%3 != 2 {
			d.Options = more
		}
		l.k.rx.Set(to+i, d)
	}
	l.k.fill.Release()
	l.k.rx.Submit()
}

func (l *partsLoop) receiveParts(tb testing.TB) {
	rx := l.s.RX()
	n, packets := rx.Receive(l.dst), 0
	for range umem.Packets(l.dst[:n]) {
		packets++
	}
	if packets != 20 {
		tb.Fatalf("%d packets in %d descriptors", packets, n)
	}
	rx.Recycle(l.dst[:n])
	rx.Refill()
}

func (l *partsLoop) sendParts(tb testing.TB) {
	tx := l.s.TX()
	if tx.Free(60) < 60 {
		tb.Fatal("no room")
	}
	for range 20 {
		for i := range l.parts {
			a, _, _ := tx.Frame()
			l.parts[i] = umem.Desc{Addr: a, Len: 60}
		}
		if !tx.QueueParts(l.parts[:]) {
			tb.Fatal("refused")
		}
	}
	tx.Flush()
}

// BenchmarkParts is BenchmarkOwnWork for packets of three descriptors.
func BenchmarkParts(b *testing.B) {
	for _, way := range []struct {
		name string
		f    func(l *partsLoop)
	}{
		{"RX", func(l *partsLoop) { l.kernelReceives(); l.receiveParts(b) }},
		{"TX", func(l *partsLoop) { l.sendParts(b); l.kernelSends(); l.s.TX().Reclaim() }},
	} {
		b.Run(fmt.Sprintf("%s/batch=20/parts=3", way.name), func(b *testing.B) {
			l := newPartsLoop(b)
			b.ReportAllocs()
			for b.Loop() {
				way.f(l)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/20, "ns/packet")
		})
	}
}

// join returns the bytes of a packet.
func join(s *Socket, packet []umem.Desc) []byte {
	var b bytes.Buffer
	for _, d := range packet {
		b.Write(s.Region().Bytes(d))
	}
	return b.Bytes()
}
