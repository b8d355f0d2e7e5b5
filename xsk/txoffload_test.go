package xsk

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/afxnet/afxnet/umem"
)

// newAsking makes a socket whose packets may ask for everything.
func newAsking(tb testing.TB, n uint32, chunks, parts int) (*Socket, *simKernel) {
	tb.Helper()
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: chunks, OnHeap: true, TXMetadata: 48})
	if err != nil {
		tb.Fatal(err)
	}
	s, k := newSimParts(tb, region, n, 1<<32-1, parts)
	s.tx.offer(allTXOffloads)
	return s, k
}

// metadata returns what a kernel finds before the packet of d.
func metadata(s *Socket, d umem.Desc) []byte {
	return s.Region().Memory()[d.Addr-umem.Addr(s.Region().TXMetadata()) : d.Addr]
}

// stamp is the kernel's writing of a timestamp.
func stamp(s *Socket, d umem.Desc, time uint64) {
	binary.NativeEndian.PutUint64(metadata(s, d)[8:], time)
}

// TestTXRequest looks at a request as the kernel does: at the offsets of
// struct xsk_tx_metadata.
func TestTXRequest(t *testing.T) {
	s, k := newAsking(t, 8, 32, 1)
	tx := s.TX()
	a, chunk, _ := tx.Frame()
	if len(chunk) != 2048-48 || int(a)%2048 != 48 || tx.MaxPacket() != 2048-48 {
		t.Fatalf("Frame: %d bytes at %#x, MaxPacket %d", len(chunk), uint64(a), tx.MaxPacket())
	}
	r := TXRequest{Do: allTXOffloads, ChecksumStart: 34, ChecksumOffset: 16, ID: 77, LaunchTime: 1 << 60}
	if !tx.QueueRequest(r, umem.Desc{Addr: a, Len: 60}) {
		t.Fatal("refused")
	}
	tx.Flush()
	k.takeTX(1)
	d, ne := k.sent[0], binary.NativeEndian
	m := metadata(s, d)
	if d != (umem.Desc{Addr: a, Len: 60, Options: 2}) || ne.Uint64(m) != 7 || ne.Uint16(m[8:]) != 34 || ne.Uint16(m[10:]) != 16 || ne.Uint64(m[16:]) != 1<<60 {
		t.Errorf("%+v behind % x", d, m)
	}
	// The frame's next packet asks for nothing, and a driver that looks all the
	// same finds nothing.
	k.completeAll()
	tx.Reclaim()
	if b, _, _ := tx.Frame(); b != a || !tx.Queue(b, 60) {
		t.Fatal("not the frame that came back, or refused")
	}
	tx.Flush()
	k.takeTX(1)
	if d := k.sent[0]; d.Options != 0 || ne.Uint64(metadata(s, d)) != 0 {
		t.Errorf("%+v behind % x", d, metadata(s, d))
	}
	if st := statistics(t, s); st.TXRequests != 1 || st.TXFrames != 2 {
		t.Errorf("%+v", st)
	}
}

// TestTXRequestParts has the request before the first part and nothing before the
// others, whatever their frames were used for.
func TestTXRequestParts(t *testing.T) {
	s, k := newAsking(t, 8, 32, 4)
	tx := s.TX()
	for round := range 6 {
		var parts [3]umem.Desc
		for i := range parts {
			a, _, _ := tx.Frame()
			parts[i] = umem.Desc{Addr: a, Len: 1000}
		}
		r := TXRequest{Do: TXTimestamp | TXChecksum, ChecksumStart: 34, ChecksumOffset: 6}
		if round%2 == 1 {
			r.Do = 0
		}
		if !tx.QueueRequest(r, parts[:]...) {
			t.Fatal("refused")
		}
		tx.Flush()
		k.takeTX(3)
		for i, d := range k.sent {
			options, flags := uint32(umem.OptionContinues), uint64(0)
			if i == 2 {
				options = 0
			}
			if i == 0 && r.Do != 0 {
				options, flags = options|umem.OptionTXMetadata, uint64(r.Do)
			}
			if d.Options != options || binary.NativeEndian.Uint64(metadata(s, d)) != flags {
				t.Errorf("round %d, part %d: %+v behind % x", round, i, d, metadata(s, d))
			}
		}
		k.completeAll()
		tx.Reclaim()
	}
	var got [8]TXTime
	if n := tx.Timestamps(got[:]); n != 3 {
		t.Errorf("%d timestamps of 3 packets", n)
	}
}

// TestTXRequestRefused gives requests that the kernel would choke on, or ignore:
// the frame stays with the caller.
func TestTXRequestRefused(t *testing.T) {
	checksum := func(start, offset uint16) TXRequest {
		return TXRequest{Do: TXChecksum, ChecksumStart: start, ChecksumOffset: offset}
	}
	for _, test := range []struct {
		name  string
		offer TXOffload
		r     TXRequest
		shift int // of the packet, in bytes
		is    error
	}{
		{"good", allTXOffloads, checksum(34, 16), 0, nil},
		{"at the end", allTXOffloads, checksum(34, 24), 0, nil},
		{"no checksum asked for", allTXOffloads, TXRequest{Do: TXTimestamp, ChecksumStart: 9999}, 0, nil},
		{"shifted", allTXOffloads, checksum(34, 16), 16, nil},
		{"over the end", allTXOffloads, checksum(34, 25), 0, syscall.EINVAL},
		{"start beyond", allTXOffloads, checksum(60, 0), 0, syscall.EINVAL},
		{"would wrap", allTXOffloads, checksum(0xffff, 0xffff), 0, syscall.EINVAL},
		{"offset wraps", allTXOffloads, checksum(34, 0xfff0), 0, syscall.EINVAL},
		{"not aligned", allTXOffloads, checksum(34, 16), 2, syscall.EINVAL},
		{"not offered", TXChecksum | TXTimestamp, TXRequest{Do: TXLaunchTime}, 0, errors.ErrUnsupported},
		{"not offered either", TXTimestamp, checksum(34, 16), 0, errors.ErrUnsupported},
		{"unknown", allTXOffloads, TXRequest{Do: 1 << 5}, 0, errors.ErrUnsupported},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, k := newAsking(t, 8, 32, 1)
			tx := s.TX()
			tx.offer(test.offer)
			a, _, _ := tx.Frame()
			d := umem.Desc{Addr: a + umem.Addr(test.shift), Len: 60}
			err := tx.CheckRequest(test.r, d)
			if ok := tx.QueueRequest(test.r, d); ok != (err == nil) || !errors.Is(err, test.is) {
				t.Errorf("QueueRequest: %v, CheckRequest: %v", ok, err)
			}
			if err != nil {
				tx.Cancel(a)
			}
			tx.Flush()
			if n := k.takeTX(8); (n == 0) != (err != nil) {
				t.Errorf("%d packets are in the ring", n)
			}
			if a := s.Region().Audit(); a.Held != 0 {
				t.Errorf("%+v", a)
			}
		})
	}
	s, _ := newAsking(t, 8, 32, 1)
	tx := s.TX()
	a, _, _ := tx.Frame()
	r := TXRequest{Do: TXTimestamp}
	switch {
	case tx.QueueRequest(r):
		t.Error("a packet of nothing is taken")
	case tx.Queue(a-48, 60), tx.QueueRequest(r, umem.Desc{Addr: a - 8, Len: 60}):
		t.Error("a packet without room before it is taken")
	case tx.QueueRequest(r, umem.Desc{Addr: a, Len: 2048 - 47}):
		t.Error("a packet that leaves its chunk is taken")
	}
	s, k := newAsking(t, 8, 32, 4)
	tx = s.TX()
	a, _, _ = tx.Frame()
	if d := (umem.Desc{Addr: a, Len: 60}); tx.QueueRequest(r, d, d) {
		t.Error("a packet with the same frame twice is taken")
	} else if !tx.Queue(a, 60) {
		t.Error("the frame is gone")
	}
	tx.Flush()
	k.takeTX(8)
	k.completeAll()
	tx.Reclaim()
	if st := statistics(t, s); st.TXRequests != 0 || st.TXFrames != 1 || tx.Timestamps(make([]TXTime, 8)) != 0 {
		t.Errorf("%+v", st)
	}
}

// TestTXTimestamps reads timestamps back in the order of completion, with the IDs
// of their packets.
func TestTXTimestamps(t *testing.T) {
	s, k := newAsking(t, 8, 32, 1)
	tx := s.TX()
	var got [16]TXTime
	ask := func(id uint64) {
		a, _, _ := tx.Frame()
		if !tx.QueueRequest(TXRequest{Do: TXTimestamp | TXChecksum, ChecksumOffset: 6, ID: id}, umem.Desc{Addr: a, Len: 60}) {
			t.Fatal("refused")
		}
	}
	for id := range uint64(3) {
		ask(id)
		queue(t, tx, 1)
	}
	tx.Flush()
	k.takeTX(8)
	stamp(s, k.sent[4], 1002)
	stamp(s, k.sent[0], 1<<62)
	// Another order; one has got no time.
	for _, i := range []int{4, 3, 2, 1, 0, 5} {
		k.complete(k.sent[i].Addr)
	}
	k.sent = nil
	if n := tx.Timestamps(got[:]); n != 0 {
		t.Errorf("%d timestamps before Reclaim", n)
	}
	if n := tx.Reclaim(); n != 6 {
		t.Errorf("%d completions", n)
	}
	if n := tx.Timestamps(got[:2]); n != 2 || got[0] != (TXTime{2, 1002}) || got[1] != (TXTime{1, 0}) {
		t.Errorf("%v", got[:n])
	}
	if n := tx.Timestamps(got[:]); n != 1 || got[0] != (TXTime{0, 1 << 62}) {
		t.Errorf("%v", got[:n])
	}
	// Nobody takes them: the last ones are there.
	for id := range uint64(21) {
		ask(id)
		tx.Flush()
		k.takeTX(1)
		stamp(s, k.sent[0], 5000+id)
		k.completeAll()
		tx.Reclaim()
	}
	if n := tx.Timestamps(got[:]); n != 8 || got[0] != (TXTime{13, 5013}) || got[7] != (TXTime{20, 5020}) {
		t.Errorf("%v", got[:n])
	}
	if st := statistics(t, s); st.TXTimestampsLost != 13 || st.TXRequests != 24 || st.TXStrays != 0 {
		t.Errorf("%+v", st)
	}
	if a := s.Region().Audit(); a.Free != 32 {
		t.Errorf("%+v", a)
	}
}

// TestTXRequestConservation has a kernel complete anything, in any order, while
// packets with and without requests are sent: frames are conserved, and there are
// no more timestamps than packets that asked.
func TestTXRequestConservation(t *testing.T) {
	rng := seeded(t)
	for range 20 {
		s, k := newAsking(t, 8, 32, 4)
		tx := s.TX()
		var held []umem.Addr
		asked, got := 0, 0
		for range 2000 {
			switch rng.IntN(6) {
			case 0, 1:
				if a, _, ok := tx.Frame(); ok {
					held = append(held, a)
				}
			case 2:
				if len(held) == 0 {
					continue
				}
				r := TXRequest{Do: TXOffload(rng.IntN(8)), ChecksumStart: uint16(rng.IntN(70)), ID: 9}
				d := umem.Desc{Addr: held[0] + umem.Addr(rng.IntN(3)*4) - umem.Addr(rng.IntN(9)/8*16), Len: uint32(rng.IntN(70))}
				if rng.IntN(2) == 0 {
					r.Do = 0
				}
				if tx.QueueRequest(r, d) {
					held = held[1:]
					asked += int(r.Do & TXTimestamp)
				}
			case 3:
				tx.Flush()
				k.takeTX(uint32(rng.IntN(8)))
			case 4:
				if len(k.sent) != 0 {
					i := rng.IntN(len(k.sent))
					k.complete(k.sent[i].Addr)
					k.sent = append(k.sent[:i], k.sent[i+1:]...)
				} else {
					k.complete([]umem.Addr{0, 5, 100, 2048, 40 * 2048, ^umem.Addr(0), umem.Addr(rng.Uint64N(32 * 2048))}[rng.IntN(7)])
				}
				tx.Reclaim()
			case 5:
				var dst [3]TXTime
				n := tx.Timestamps(dst[:])
				got += n
				for _, x := range dst[:n] {
					if x.ID != 9 {
						t.Fatalf("%+v", x)
					}
				}
			}
			if a := s.Region().Audit(); a.Chunks() != 32 || a.Held != len(held) || a.TX > tx.Lent() {
				t.Fatalf("%+v, %d held, %d lent", a, len(held), tx.Lent())
			}
		}
		if got > asked || asked == 0 {
			t.Errorf("%d timestamps of %d packets", got, asked)
		}
	}
}

// TestSharedTimestamps has the timestamp go to the socket that asked, whoever
// reads the completion.
func TestSharedTimestamps(t *testing.T) {
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: 64, OnHeap: true, TXMetadata: 32})
	if err != nil {
		t.Fatal(err)
	}
	sh := NewShared(region)
	p := newSimPool(t, poolKey{}, 8)
	a, b := p.open(t, sh, false), p.open(t, sh, false)
	a.s.tx.offer(TXTimestamp)
	a.s.share.times = a.s.tx.times
	for id := range uint64(3) {
		for _, m := range []*simMember{a, b} {
			frame, _, _ := m.s.TX().Frame()
			if r := (TXRequest{ID: id}); m == a {
				r.Do = TXTimestamp
				m.s.TX().QueueRequest(r, umem.Desc{Addr: frame, Len: 60})
			} else {
				m.s.TX().Queue(frame, 60)
			}
			m.s.TX().Flush()
			m.k.takeTX(1)
			stamp(a.s, m.k.sent[id], 100+id)
			slot, _ := p.comp.Reserve(1)
			p.comp.Set(slot, m.k.sent[id].Addr)
			p.comp.Submit()
		}
	}
	var got [8]TXTime
	b.s.TX().Reclaim()
	if n := b.s.TX().Timestamps(got[:]); n != 0 {
		t.Errorf("another's timestamps: %v", got[:n])
	}
	if n := a.s.TX().Timestamps(got[:]); n != 3 || got[2] != (TXTime{2, 102}) {
		t.Errorf("%v", got[:n])
	}
	if n := a.s.TX().Reclaim(); n != 3 || region.Audit().TX != 0 {
		t.Errorf("%d completions, %+v", n, region.Audit())
	}
}

func TestTXRequestAllocs(t *testing.T) {
	if debugUMEM() {
		t.Skip("xskdebug keeps a stack per frame")
	}
	s, k := newAsking(t, 64, 256, 4)
	tx := s.TX()
	k.sent = make([]umem.Desc, 0, 64)
	var dst [64]TXTime
	if n := testing.AllocsPerRun(100, func() {
		for range 20 {
			a, _, _ := tx.Frame()
			b, _, _ := tx.Frame()
			r := TXRequest{Do: TXTimestamp | TXChecksum, ChecksumStart: 34, ChecksumOffset: 16, ID: rand.Uint64()}
			if !tx.QueueRequest(r, umem.Desc{Addr: a, Len: 60}, umem.Desc{Addr: b, Len: 60}) {
				t.Fatal("refused")
			}
		}
		tx.Flush()
		k.takeTX(64)
		k.completeAll()
		tx.Reclaim()
		if n := tx.Timestamps(dst[:]); n != 20 {
			t.Fatal(n)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTXOffloadString(t *testing.T) {
	if s := (TXChecksum | TXTimestamp | 1<<7).String(); s != "tx timestamp, tx checksum, transmit offload 0x80" {
		t.Error(s)
	}
}
