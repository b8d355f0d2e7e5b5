package netdev

import (
	"fmt"
	"sync"
	"testing"

	"github.com/afxnet/afxnet/internal/packet"
)

// TestGather has each batch answered with several segments: they leave together,
// in their order, with one wakeup for each 32 frames.
func TestGather(t *testing.T) {
	for _, off := range []bool{false, true} {
		t.Run(fmt.Sprintf("off=%v", off), func(t *testing.T) {
			r := newRig(t, rigConfig{chosen: true, idle: true, cfg: Config{NoGather: off}})
			const segments, each = 20, 3
			seq := uint32(0)
			r.d.AfterBatch(func(int) {
				for range segments {
					r.write(segment{hash: 1, flags: packet.ACK, seq: seq, payload: pattern(seq, each*1000), mss: 1000}.packet())
					seq += each * 1000
				}
				if n := len(r.out()); (n == 0) == off {
					t.Errorf("%d frames are out before the batch is done", n)
				}
			})
			before := r.stats().Socket.TXWakeups
			r.inject(1, frame{flags: packet.ACK, window: 5}.bytes())
			n := int(r.stats().Socket.TXWakeups - before)
			if off && n != segments || !off && n != (segments*each+31)/32 {
				t.Errorf("%d wakeups for %d segments of %d frames", n, segments, each)
			}
			if off {
				return
			}
			for i, f := range r.out() {
				if info := checkFrame(t, f, 1500); info.Seq != uint32(1000*i) {
					t.Fatalf("frame %d has the sequence number %d", i, info.Seq)
				}
			}
			// What is written at any other time leaves at once.
			r.write(segment{hash: 1, flags: packet.ACK, seq: seq, payload: pattern(seq, 10), mss: 1000}.packet())
			if n := len(r.out()); n != 1 {
				t.Errorf("%d frames after the batch, want 1", n)
			}
		})
	}
}

// TestGatherOthers has other goroutines write while batches are processed: no
// packet is left behind when all have returned.
func TestGatherOthers(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	const writers, packets = 4, 300
	r.d.AfterBatch(func(int) {
		r.write(segment{hash: 100, flags: packet.ACK, payload: pattern(0, 10), mss: 1000}.packet())
	})
	var wg sync.WaitGroup
	for i := range uint32(writers) {
		wg.Go(func() {
			for range packets {
				r.write(segment{hash: i + 1, flags: packet.ACK, payload: pattern(i, 10), mss: 1000}.packet())
			}
		})
	}
	batches := 0
	for done := make(chan struct{}); ; batches++ {
		r.inject(1, frame{flags: packet.ACK, window: 5}.bytes())
		if batches == 0 {
			go func() { wg.Wait(); close(done) }()
		}
		select {
		case <-done:
		default:
			continue
		}
		break
	}
	// A writer leaves its packets to another one after a few rounds (drainRounds),
	// and that to the poller, which is idle here.
	r.d.queues[0].tx.resume()
	if n, want := len(r.out()), writers*packets+batches+1; n != want {
		t.Errorf("%d frames, want %d", n, want)
	}
}
