package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

func newWire(tb testing.TB, cfg Config) *Wire {
	tb.Helper()
	w, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Logf("wire seed %d", w.Seed())
	tb.Cleanup(func() {
		if err := w.Close(); err != nil {
			tb.Error(err)
		}
	})
	return w
}

func newRegion(tb testing.TB, chunks int) *umem.Region {
	tb.Helper()
	r, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: chunks, Headroom: 64, OnHeap: true})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// open makes a socket on p with rings of n descriptors and frames lent.
func open(tb testing.TB, p *Port, queue int, n uint32) *xsk.Socket {
	tb.Helper()
	s, err := p.Open(queue, newRegion(tb, max(4*int(n), 512)), xsk.RingSizes{Fill: n, Completion: n, RX: n, TX: n})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	s.RX().Refill()
	return s
}

// pair is a wire with a socket on queue 0 of each port.
func pair(tb testing.TB, cfg Config, n uint32) (*Wire, [2]*xsk.Socket) {
	w := newWire(tb, cfg)
	return w, [2]*xsk.Socket{open(tb, w.Port(0), 0, n), open(tb, w.Port(1), 0, n)}
}

// queue puts as many of the frames into the TX ring as fit, without a wakeup.
func queue(s *xsk.Socket, frames ...[]byte) (n int) {
	for n = 0; n < len(frames) && s.TX().Free(1) > 0; n++ {
		a, chunk, ok := s.TX().Frame()
		if !ok || !s.TX().Queue(a, copy(chunk, frames[n])) {
			panic("no frame after Free said 1")
		}
	}
	return n
}

// receive returns copies of what is in the RX ring and refills.
func receive(s *xsk.Socket) (frames [][]byte) {
	var d [16]umem.Desc
	for {
		n := s.RX().Receive(d[:])
		if n == 0 && s.RX().Empty() {
			return frames
		}
		for _, d := range d[:n] {
			frames = append(frames, bytes.Clone(s.Region().Bytes(d)))
		}
		s.RX().Recycle(d[:n])
		s.RX().Refill()
	}
}

// numbered is a frame of n bytes, at least 8, with a number and a body that
// follows from it.
func numbered(i uint64, n int) []byte {
	f := make([]byte, n)
	binary.BigEndian.PutUint64(f, i)
	for j := 8; j < n; j++ {
		f[j] = byte(i + uint64(j)*7)
	}
	return f
}

func number(f []byte) uint64 { return binary.BigEndian.Uint64(f) }

func audit(tb testing.TB, s *xsk.Socket) {
	tb.Helper()
	s.TX().Reclaim()
	if a := s.Region().Audit(); a.Held != 0 || a.TX != 0 || a.Chunks() != s.Region().Chunks() {
		tb.Errorf("%s queue %d: frames %+v", s.Device(), s.Queue(), a)
	}
}

func checkStats(tb testing.TB, w *Wire) Stats {
	tb.Helper()
	st := w.Stats()
	for dir, s := range st {
		if err := s.Check(); err != nil {
			tb.Errorf("direction %d: %v", dir, err)
		}
	}
	return st
}

// TestDelivery sends both ways at once and compares every byte and the order.
func TestDelivery(t *testing.T) {
	for _, n := range []uint32{2, 4, 16, 256} {
		t.Run(fmt.Sprintf("ring=%d", n), func(t *testing.T) {
			w, s := pair(t, Config{TXBudget: 3}, n)
			const frames = 2000
			var wg sync.WaitGroup
			for i := range s {
				rng := rand.New(rand.NewPCG(w.Seed(), uint64(i)))
				sizes := make([]int, frames)
				for j := range sizes {
					sizes[j] = 8 + rng.IntN(1500)
				}
				// One credit per frame that the receiver has lent: a wire has
				// no flow control, and nothing is to be lost here.
				credit := make(chan struct{}, n)
				for range n {
					credit <- struct{}{}
				}
				wg.Go(func() {
					for j := range frames {
						<-credit
						f := numbered(uint64(j), sizes[j])
						for queue(s[i], f) == 0 {
							s[i].TX().Flush()
						}
						s[i].TX().Flush()
					}
				})
				wg.Go(func() {
					for next := 0; next < frames; {
						if err := s[1-i].Wait(false, 0); err != nil {
							t.Error(err)
							return
						}
						for _, f := range receive(s[1-i]) {
							if want := numbered(uint64(next), sizes[next]); !bytes.Equal(f, want) {
								t.Errorf("frame %d: got number %d, %d bytes of %d", next, number(f), len(f), len(want))
								return
							}
							next++
							credit <- struct{}{}
						}
					}
				})
			}
			wg.Wait()
			for dir, st := range checkStats(t, w) {
				if st.Delivered != frames || st.Sent != frames {
					t.Errorf("direction %d: %+v", dir, st)
				}
			}
			audit(t, s[0])
			audit(t, s[1])
		})
	}
}

// TestConservation drives random faults with random traffic over several
// queues and accounts for every frame on both sides.
func TestConservation(t *testing.T) {
	const queues = 3
	cfg := Config{TXBudget: 4}
	for i := range cfg.Ports {
		cfg.Ports[i] = PortConfig{Queues: queues, RSS: func(f []byte) int { return int(f[8]) % (queues + 1) }}
	}
	w := newWire(t, cfg)
	var socks [2][queues]*xsk.Socket
	for i := range socks {
		for q := range socks[i] {
			socks[i][q] = open(t, w.Port(i), q, 4<<q)
		}
	}
	var wg sync.WaitGroup
	var got [2][queues]uint64
	var bad sync.Map
	for i := range socks {
		for q, s := range socks[i] {
			rng := rand.New(rand.NewPCG(w.Seed(), uint64(i*queues+q)))
			wg.Go(func() {
				for n := range 1500 {
					f := numbered(uint64(n), 9+rng.IntN(1700)) // some too long
					f[8] = byte(rng.UintN(256))
					queue(s, f)
					if rng.IntN(3) == 0 {
						s.TX().Flush()
					}
					if rng.IntN(5) == 0 {
						got[i][q] += uint64(len(receive(s)))
					}
					if rng.IntN(200) == 0 {
						w.Port(i).Inject(f)
					}
					if rng.IntN(300) == 0 {
						if err := w.SetFaults(Dir(i), randomFaults(rng)); err != nil {
							bad.Store(err, true)
						}
					}
					if q == 0 && rng.IntN(400) == 0 {
						w.Port(i).SetDown(true)
						w.Port(i).SetDown(false)
					}
				}
			})
		}
	}
	wg.Wait()
	bad.Range(func(err, _ any) bool { t.Error(err); return true })
	var sent, delivered [2]uint64
	for pass := range 2 {
		if err := w.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range socks {
			for q, s := range socks[i] {
				for pass == 0 && s.TX().Flush() > 0 {
				}
				got[i][q] += uint64(len(receive(s)))
			}
		}
	}
	for i := range socks {
		for q, s := range socks[i] {
			audit(t, s)
			st, err := s.Statistics()
			if err != nil || st.RXBadDescs+st.TXStrays != 0 || st.RXFrames != got[i][q] || st.TXFrames != st.TXCompletions {
				t.Errorf("port %d queue %d: received %d: %+v, %v", i, q, got[i][q], st, err)
			}
			sent[i] += st.TXFrames
			delivered[1-i] += st.RXFrames
		}
	}
	for dir, st := range checkStats(t, w) {
		if st.Sent != sent[dir] || st.Delivered+st.DeliveredCorrupt != delivered[dir] || st.InFlight != 0 {
			t.Errorf("direction %d: sockets sent %d, got %d: %+v", dir, sent[dir], delivered[dir], st)
		}
	}
}

func randomFaults(rng *rand.Rand) (f Faults) {
	some := func() bool { return rng.IntN(3) == 0 }
	if some() {
		f.Loss, f.LossBurst = rng.Float64()/4, rng.IntN(4)
	}
	if some() {
		f.Duplicate = rng.Float64() / 2
	}
	if some() {
		f.Corrupt, f.CorruptBits = rng.Float64()/2, rng.IntN(9)
	}
	if some() {
		f.Delay, f.Jitter = 1000, 50_000
	}
	if some() {
		f.Rate, f.QueueBytes = 1e9, 20_000
	}
	if some() {
		f.Reorder, f.ReorderBy, f.ReorderDelay = rng.Float64()/2, rng.IntN(4), 200_000
	}
	if some() {
		f.Filter = func(_ Dir, frame []byte) Verdict { return Verdict(frame[7] & 1) }
	}
	return f
}

func TestOpenErrors(t *testing.T) {
	w := newWire(t, Config{Ports: [2]PortConfig{{Queues: 2}}})
	p, r := w.Port(0), newRegion(t, 16)
	small := xsk.RingSizes{Fill: 2, Completion: 2, RX: 2, TX: 2}
	s, err := p.Open(0, r, small)
	if err != nil {
		t.Fatal(err)
	}
	if s.Device() != "wire0" || s.Queue() != 0 || s.ZeroCopy() || s.FD() != -1 {
		t.Errorf("socket %s %d %v %d", s.Device(), s.Queue(), s.ZeroCopy(), s.FD())
	}
	check := func(name string, queue int, r *umem.Region, n xsk.RingSizes, want error) {
		t.Helper()
		var op *xsk.OpError
		_, err := p.Open(queue, r, n)
		if !errors.As(err, &op) || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	check("taken", 0, r, small, syscall.EBUSY)
	check("no such queue", 2, r, small, syscall.EINVAL)
	check("no region", 1, nil, small, nil)
	check("odd ring", 1, r, xsk.RingSizes{TX: 3}, nil)
	if err := s.Close(); err != nil || p.Queue(0) != nil {
		t.Errorf("Close: %v, %v", err, p.Queue(0))
	}
	if s, err = p.Open(0, r, small); err != nil {
		t.Errorf("again: %v", err)
	}
	s.Close()
	p.SetDown(true)
	check("down", 0, r, small, syscall.ENETDOWN)
	p.Delete()
	check("gone", 0, r, small, syscall.ENODEV)
}

func TestConfigErrors(t *testing.T) {
	for name, cfg := range map[string]Config{
		"budget":      {TXBudget: -1},
		"mac":         {Ports: [2]PortConfig{{MAC: []byte{1, 2, 3, 4, 5, 6}}}},
		"mac length":  {Ports: [2]PortConfig{{MAC: []byte{2}}}},
		"mtu":         {Ports: [2]PortConfig{{MTU: 67}}},
		"queues":      {Ports: [2]PortConfig{{}, {Queues: 257}}},
		"probability": {Faults: [2]Faults{{Loss: 1.1}}},
		"negative":    {Faults: [2]Faults{{}, {Delay: -1}}},
		"long delay":  {Faults: [2]Faults{{}, {Jitter: 1e18}}},
	} {
		if w, err := New(cfg); err == nil {
			t.Errorf("%s: no error, %+v", name, w)
		} else {
			t.Log(err)
		}
	}
	w := newWire(t, Config{})
	if err := w.SetFaults(From0, Faults{Corrupt: -1}); err == nil {
		t.Error("SetFaults took a negative probability")
	}
	if p := w.Port(1); p.Name() != "wire1" || p.MTU() != 1500 || p.Queues() != 1 || p.MAC().String() != "02:00:00:00:00:02" {
		t.Errorf("defaults: %s %d %d %v", p.Name(), p.MTU(), p.Queues(), p.MAC())
	}
}
