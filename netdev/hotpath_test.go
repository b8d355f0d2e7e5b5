package netdev

import (
	"fmt"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/packet"
)

// sink is a dispatcher that keeps nothing.
type sink struct{ packets, bytes int }

func (s *sink) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *gstack.PacketBuffer) {
	s.packets++
	s.bytes += pkt.Size()
}

func (s *sink) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *gstack.PacketBuffer) {}

// quietRig is a rig without pollers that keeps neither packets nor frames.
func quietRig(tb testing.TB, cfg Config) (*rig, *sink, *int) {
	frames := new(int)
	r := newRig(tb, rigConfig{chosen: true, idle: true, cfg: cfg, frames: frames})
	s := &sink{}
	var nd gstack.NetworkDispatcher = s
	r.d.dispatcher.Store(&nd)
	return r, s, frames
}

// batch is 64 segments of 1448 bytes, of so many flows.
func batch(flows int) (frames [][]byte) {
	for i := range rxBatch {
		seq := i / flows * 1448
		frames = append(frames, frame{
			sport: uint16(i % flows), flags: packet.ACK, seq: uint32(seq), id: uint16(i / flows), opts: timestamp, payload: pattern(uint32(seq), 1448),
		}.bytes())
	}
	return frames
}

// step is one packet, or one batch of them, through a hot path.
type step struct {
	name  string
	bytes int // of Ethernet frames
	count int // of frames
	make  func(tb testing.TB) func()
}

var hotPaths = []step{
	{"RX/batch=64/flows=1", 64 * 1514, 64, func(tb testing.TB) func() { return receiveStep(tb, Config{}, 1) }},
	{"RX/batch=64/flows=64", 64 * 1514, 64, func(tb testing.TB) func() { return receiveStep(tb, Config{}, 64) }},
	{"RX/batch=64/NoGRO", 64 * 1514, 64, func(tb testing.TB) func() { return receiveStep(tb, Config{NoGRO: true}, 1) }},
	{"TX/segment=65160/mss=1448", 45 * 1514, 45, func(tb testing.TB) func() {
		return writeStep(tb, segment{hash: 1, flags: packet.ACK, opts: timestamp, payload: pattern(0, 45*1448), mss: 1448}.packet())
	}},
	{"TX/segment=64", 64 + 66, 1, func(tb testing.TB) func() {
		return writeStep(tb, segment{hash: 1, flags: packet.ACK | packet.PSH, opts: timestamp, payload: pattern(0, 64), mss: 1448}.packet())
	}},
	{"TX/ack", 66, 1, func(tb testing.TB) func() {
		return writeStep(tb, segment{hash: 1, flags: packet.ACK, opts: timestamp}.packet())
	}},
	{"TX/datagram=64", 64 + 34, 1, func(tb testing.TB) func() { return writeStep(tb, datagram(1, 64, nil)) }},
	{"TX/ack held and spared by segment=64", 64 + 66, 1, func(tb testing.TB) func() {
		r, _, frames := quietRig(tb, Config{})
		r.d.queues[0].tx.acks.armed = true // it believes so: no timer, which would be another goroutine
		a := segment{hash: 1, flags: packet.ACK, opts: timestamp}.packet()
		d := segment{hash: 1, flags: packet.ACK | packet.PSH, opts: timestamp, payload: pattern(0, 64), mss: 1448}.packet()
		tb.Cleanup(func() { a.DecRef(); d.DecRef() })
		ha, hd := header.TCP(a.TransportHeader().Slice()), header.TCP(d.TransportHeader().Slice())
		n := uint32(1)
		r.d.write(d) // makes the flow known
		return func() {
			n++
			ha.SetAckNumber(n)
			*frames = 0
			r.d.write(a)
			hd.SetAckNumber(n)
			r.d.write(d)
			if *frames != 1 {
				tb.Fatalf("%d frames, want 1", *frames)
			}
		}
	}},
}

// receiveStep gives one batch from the wire to a dispatcher.
func receiveStep(tb testing.TB, cfg Config, flows int) func() {
	r, s, _ := quietRig(tb, cfg)
	frames := batch(flows)
	want := rxBatch
	if flows == 1 && !cfg.NoGRO {
		want = 2 // 64 KB at most in one
	}
	return func() {
		for _, f := range frames {
			r.w.Port(0).Inject(f)
		}
		s.packets = 0
		r.poll()
		if s.packets != want {
			tb.Fatalf("%d packets, want %d", s.packets, want)
		}
	}
}

// writeStep writes one packet again and again.
func writeStep(tb testing.TB, pkt *gstack.PacketBuffer) func() {
	r, _, frames := quietRig(tb, Config{})
	tb.Cleanup(pkt.DecRef)
	return func() {
		*frames = 0
		r.d.write(pkt)
		if *frames == 0 {
			tb.Fatal("nothing sent")
		}
	}
}

// TestAllocs counts allocations of netdev, of netstack's packets and of the wire
// together: none.
func TestAllocs(t *testing.T) {
	for _, s := range append(hotPaths, jumboPaths...) {
		t.Run(s.name, func(t *testing.T) {
			f := s.make(t)
			runs := 1000
			if raceEnabled {
				runs = 10
			}
			for range runs / 5 {
				f()
			}
			if n := testing.AllocsPerRun(runs, f); n != 0 && !raceEnabled {
				t.Errorf("%v allocations, want none", n)
			}
		})
	}
}

// BenchmarkHotPath measures with the wire, which copies every frame once more.
func BenchmarkHotPath(b *testing.B) {
	for _, s := range append(hotPaths, jumboPaths...) {
		b.Run(s.name, func(b *testing.B) {
			f := s.make(b)
			for range 200 {
				f()
			}
			b.ReportAllocs()
			b.SetBytes(int64(s.bytes))
			for b.Loop() {
				f()
			}
			perFrame(b, s.count)
		})
	}
}

// BenchmarkReceive measures parse, verify, merge and deliver alone, of frames
// that lie in UMEM.
func BenchmarkReceive(b *testing.B) {
	for _, flows := range []int{1, 64} {
		b.Run(fmt.Sprintf("batch=64/flows=%d", flows), func(b *testing.B) {
			r, s, _ := quietRig(b, Config{})
			for _, f := range batch(flows) {
				r.w.Port(0).Inject(f)
			}
			q := r.d.queues[0]
			n := q.rx.Receive(q.descs[:])
			b.ReportAllocs()
			b.SetBytes(64 * 1514)
			for b.Loop() {
				q.receive(s, n)
			}
			perFrame(b, n)
			q.rx.Recycle(q.descs[:n])
		})
	}
}

func perFrame(b *testing.B, frames int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(frames), "ns/frame")
}
