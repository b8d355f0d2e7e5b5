package netdev

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/packet"
)

func flows(limit int) *flowTable {
	f := new(flowTable)
	f.init(limit)
	return f
}

// TestFlowFairness puts one small packet behind megabytes of another flow.
func TestFlowFairness(t *testing.T) {
	f := flows(8 << 20)
	for range 100 {
		f.push(datagram(1, 60000, nil))
	}
	small := datagram(2, 100, nil)
	f.push(small)
	for range 300 {
		f.push(datagram(3, 1000, nil))
	}
	before, found := 0, false
	for pkt := f.pop(); pkt != nil; pkt = f.pop() {
		if pkt == small {
			found = true
		} else if !found {
			before += pkt.Size()
		}
		pkt.DecRef()
	}
	if limit := 2*flowQuantum + 60034; !found || before > limit {
		t.Errorf("%d bytes before a packet of a quiet flow, want at most %d", before, limit)
	}
}

// TestFlowShares compares what busy flows with packets of different sizes get.
func TestFlowShares(t *testing.T) {
	f := flows(64 << 20)
	sizes := map[uint32]int{1: 60, 2: 1400, 3: 9000, 4: 60000}
	for hash, size := range sizes {
		for n := 0; n < 2<<20; n += size {
			f.push(datagram(hash, size, nil))
		}
	}
	sent := map[uint32]int{}
	for range 8000 {
		pkt := f.pop()
		sent[pkt.Hash] += pkt.Size()
		pkt.DecRef()
	}
	for hash, n := range sent {
		if n < sent[1]-60000-2*flowQuantum || n > sent[1]+60000+2*flowQuantum {
			t.Errorf("packets of %d bytes got %d bytes through, those of 60 bytes %d", sizes[hash], n, sent[1])
		}
	}
	for pkt := f.pop(); pkt != nil; pkt = f.pop() {
		pkt.DecRef()
	}
}

// TestFlowModel compares the table with lists, at random.
func TestFlowModel(t *testing.T) {
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 1))
		limit := 20000 + rng.IntN(100000)
		f := flows(limit)
		model := map[uint32][]*gstack.PacketBuffer{} // by bucket
		bytes := 0
		remove := func(pkt *gstack.PacketBuffer, what string) {
			b := pkt.Hash % flowBuckets
			if len(model[b]) == 0 || model[b][0] != pkt {
				t.Fatalf("seed %d: %s is not the oldest of its flow", seed, what)
			}
			model[b] = model[b][1:]
			bytes -= pkt.Size()
			pkt.DecRef()
		}
		for range 2000 {
			if rng.IntN(5) < 3 {
				pkt := datagram(rng.Uint32N(600)*rng.Uint32N(2), 1+rng.IntN(3000), nil)
				model[pkt.Hash%flowBuckets] = append(model[pkt.Hash%flowBuckets], pkt)
				bytes += pkt.Size()
				f.push(pkt)
				for lost := f.shed(); lost != nil; lost = f.shed() {
					b := lost.Hash % flowBuckets
					sum, n := 0, len(model[b])
					for _, p := range model[b] {
						sum += p.Size()
					}
					for _, l := range model {
						other := 0
						for _, p := range l {
							other += p.Size()
						}
						if len(l) > 1 && other > sum {
							t.Fatalf("seed %d: a flow of %d bytes loses, there is one of %d", seed, sum, other)
						}
					}
					if n < 2 {
						t.Fatalf("seed %d: a lone packet is shed", seed)
					}
					remove(lost, "what is shed")
				}
			} else if pkt := f.pop(); pkt != nil {
				remove(pkt, "what is popped")
			} else if bytes != 0 {
				t.Fatalf("seed %d: nothing to pop of %d bytes", seed, bytes)
			}
			most := 0
			for _, l := range model {
				most = max(most, len(l))
			}
			if f.bytes != bytes || bytes > limit && most > 1 || f.empty() != (bytes == 0) {
				t.Fatalf("seed %d: %d bytes, model %d, limit %d", seed, f.bytes, bytes, limit)
			}
		}
		for pkt := f.pop(); pkt != nil; pkt = f.pop() {
			remove(pkt, "what is popped")
		}
	}
}

// TestQueueBytes has small packets make room for large ones: the bound holds,
// every loss is counted, and a flow with one packet keeps it.
func TestQueueBytes(t *testing.T) {
	r := newRig(t, rigConfig{idle: true, rings: 2, cfg: Config{QueueBytes: minQueueBytes}})
	r.queue().HoldCompletions(true)
	var released atomic.Int32
	written := 0
	write := func(pkt *gstack.PacketBuffer) {
		written++
		r.write(pkt)
		if n := r.d.queues[0].tx.flows.bytes; n > minQueueBytes {
			t.Fatalf("%d bytes wait, %d allowed", n, minQueueBytes)
		}
	}
	for range 3000 {
		write(datagram(1, 100, &released))
	}
	write(datagram(2, 77, &released))
	for i := range 40 {
		write(segment{hash: 3, flags: packet.ACK, seq: uint32(i * 60000), payload: pattern(0, 60000), mss: 1400, released: &released}.packet())
	}
	st := r.stats()
	lost := st.Drops["tx queue full"]
	if lost == 0 || uint64(released.Load()) != lost+st.TXPackets {
		t.Errorf("%d lost, %d sent, %d released", lost, st.TXPackets, released.Load())
	}
	r.queue().HoldCompletions(false)
	q := &r.d.queues[0].tx
	for i := 0; i < 10000 && q.stuck() != waitNothing; i++ {
		q.resume()
	}
	found := false
	for _, f := range r.out() {
		found = found || len(f) == 14+20+77
	}
	if !found {
		t.Error("the lone packet is lost")
	}
	if st = r.stats(); int(released.Load()) != written || st.TXPackets+st.Drops["tx queue full"] != uint64(written) {
		t.Errorf("%d written, %d released.Load(), %+v", written, released.Load(), st)
	}
}
