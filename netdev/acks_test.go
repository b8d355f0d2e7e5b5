package netdev

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
)

// ack is a pure ACK of flow 1 that may be held, if it is not the first.
func ack(n uint32) segment { return segment{hash: 1, flags: packet.ACK, ack: n, window: 100} }

// acksOut returns the ACK numbers of the frames sent since the last call.
func (r *rig) acksOut() (acks []uint32) {
	for _, f := range r.out() {
		info := checkFrame(r.tb, f, 1500)
		acks = append(acks, info.Ack)
	}
	return acks
}

func wantACKs(tb testing.TB, r *rig, when string, want ...uint32) {
	tb.Helper()
	got := r.acksOut()
	ok := len(got) == len(want)
	for i := range want {
		ok = ok && got[i] == want[i]
	}
	if !ok {
		tb.Errorf("%s: ACKs %v, want %v", when, got, want)
	}
}

// TestACKRules writes one ACK after a first one (1000, window 100) and sees
// whether it goes at once.
func TestACKRules(t *testing.T) {
	sack := append([]byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 10}, make([]byte, 8)...)
	const full = 1500 - 40 - 60 // with all the options there can be
	with := func(f func(s *segment)) segment {
		s := ack(1100)
		f(&s)
		return s
	}
	for _, c := range []struct {
		name string
		seg  segment
		held bool
		cfg  Config
	}{
		{"advances", ack(1100), true, Config{}},
		{"timestamp", with(func(s *segment) { s.opts = timestamp }), true, Config{}},
		{"window shrinks", with(func(s *segment) { s.window = 99 }), true, Config{}},
		{"just below two segments", ack(1000 + 2*full - 1), true, Config{}},
		{"IPv6", with(func(s *segment) { s.v6 = true }), true, Config{}},
		{"NoACKHold", ack(1100), false, Config{NoACKHold: true}},
		{"two full segments", ack(1000 + 2*full), false, Config{}},
		{"duplicate", ack(1000), false, Config{}},
		{"older", ack(900), false, Config{}},
		{"keepalive", with(func(s *segment) { s.ack, s.seq = 1000, ^uint32(0) }), false, Config{}},
		{"window grows", with(func(s *segment) { s.window = 101 }), false, Config{}},
		{"window probe", with(func(s *segment) { s.payload = []byte{1} }), false, Config{}},
		{"SACK", with(func(s *segment) { s.opts = sack }), false, Config{}},
		{"SACK only", with(func(s *segment) { s.opts = append([]byte{1, 1, 5, 10}, make([]byte, 8)...) }), false, Config{}},
		{"data", with(func(s *segment) { s.payload = pattern(0, 10) }), false, Config{}},
		{"FIN", with(func(s *segment) { s.flags |= packet.FIN }), false, Config{}},
		{"SYN", with(func(s *segment) { s.flags |= packet.SYN }), false, Config{}},
		{"RST", with(func(s *segment) { s.flags |= packet.RST }), false, Config{}},
		{"PSH", with(func(s *segment) { s.flags |= packet.PSH }), false, Config{}},
		{"URG", with(func(s *segment) { s.flags |= packet.URG }), false, Config{}},
		{"ECE", with(func(s *segment) { s.flags |= packet.ECE }), false, Config{}},
		{"another flow's first", with(func(s *segment) { s.hash = 2 }), false, Config{}},
		{"other ports", with(func(s *segment) { s.sport = 81 }), false, Config{}},
		{"no hash", with(func(s *segment) { s.hash = 0 }), false, Config{}},
		{"checksum not ours", with(func(s *segment) { s.plain = true }), false, Config{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				r := newRig(t, rigConfig{chosen: true, idle: true, cfg: c.cfg})
				var released atomic.Int32
				r.write(ack(1000).packet())
				wantACKs(t, r, "the first", 1000)
				c.seg.released = &released
				r.write(c.seg.packet())
				if !c.held {
					wantACKs(t, r, "at once", c.seg.ack)
					return
				}
				wantACKs(t, r, "at once")
				advance(ackPeriod)
				wantACKs(t, r, "after one period")
				advance(ackPeriod)
				wantACKs(t, r, "after two", c.seg.ack)
				if st := r.stats(); st.TXACKsLate != 1 || st.TXACKsSpared != 0 || released.Load() != 1 {
					t.Errorf("%+v, released %d", st, released.Load())
				}
				advance(time.Second)
				wantACKs(t, r, "later")
			})
		})
	}
}

// TestACKAfterSYN holds the first ACK of a flow if a SYN-ACK has gone before it
// whose window lets the peer go on.
func TestACKAfterSYN(t *testing.T) {
	const enough = 2 * 1500
	syn := segment{hash: 1, flags: packet.SYN | packet.ACK, ack: 1000, window: enough, plain: true}
	with := func(f func(s *segment)) segment {
		s := syn
		f(&s)
		return s
	}
	for _, c := range []struct {
		name  string
		first segment
		held  bool
		cfg   Config
	}{
		{"SYN-ACK", syn, true, Config{}},
		{"over IPv6", with(func(s *segment) { s.v6 = true }), true, Config{}},
		{"NoACKHold", syn, false, Config{NoACKHold: true}},
		{"small window", with(func(s *segment) { s.window = enough - 1 }), false, Config{}},
		{"our own SYN", with(func(s *segment) { s.flags = packet.SYN }), false, Config{}},
		{"a reset", with(func(s *segment) { s.flags = packet.RST | packet.ACK }), false, Config{}},
		{"of another flow", with(func(s *segment) { s.sport = 81 }), false, Config{}},
		{"no hash", with(func(s *segment) { s.hash = 0 }), false, Config{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				r := newRig(t, rigConfig{chosen: true, idle: true, cfg: c.cfg})
				r.write(c.first.packet())
				r.out()
				next := ack(1100)
				next.v6, next.window = c.first.v6, 2*enough
				r.write(next.packet())
				if !c.held {
					wantACKs(t, r, "at once", 1100)
					return
				}
				wantACKs(t, r, "at once")
				advance(2 * ackPeriod)
				wantACKs(t, r, "timer", 1100)
				next = ack(1200)
				next.v6, next.window = c.first.v6, 2*enough+1
				r.write(next.packet())
				wantACKs(t, r, "the window grows", 1200)
			})
		})
	}
}

// TestACKOutlived makes a new connection, of which netstack draws another hash,
// while an ACK is held: one between the same ends drops it.
func TestACKOutlived(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, c := range []struct {
			name string
			next segment
			held bool
		}{
			{"SYN-ACK", segment{flags: packet.SYN | packet.ACK}, false},
			{"SYN", segment{flags: packet.SYN}, false},
			{"other port", segment{flags: packet.SYN, sport: 81}, true},
			{"other family", segment{flags: packet.SYN, v6: true}, true},
			{"no SYN", segment{flags: packet.RST}, true},
		} {
			t.Run(fmt.Sprintf("%s, v6 %v", c.name, v6), func(t *testing.T) {
				raced.Bubble(t, func(t *testing.T) {
					r := newRig(t, rigConfig{chosen: true, idle: true})
					old := segment{v6: v6, hash: 1, flags: packet.ACK, ack: 1000, window: 100}
					r.write(old.packet())
					old.ack = 1100
					r.write(old.packet())
					wantACKs(t, r, "the first", 1000)
					next := c.next
					next.hash, next.plain, next.window = 2, true, 64000
					next.v6 = next.v6 != v6
					r.write(next.packet())
					r.out()
					advance(2 * ackPeriod)
					if c.held {
						wantACKs(t, r, "timer", 1100)
					} else {
						wantACKs(t, r, "timer")
					}
				})
			})
		}
	}
}

// TestACKSpared has segments that carry an equal or later ACK number, or an
// earlier one.
func TestACKSpared(t *testing.T) {
	for _, c := range []struct {
		name   string
		ack    uint32
		spared bool
	}{{"equal", 1100, true}, {"later", 1101, true}, {"earlier", 1099, false}} {
		t.Run(c.name, func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				r := newRig(t, rigConfig{chosen: true, idle: true})
				var released atomic.Int32
				held := ack(1100)
				held.released = &released
				r.write(ack(1000).packet(), held.packet())
				r.acksOut()
				data := ack(c.ack)
				data.payload = pattern(0, 5)
				r.write(data.packet())
				wantACKs(t, r, "at once", c.ack)
				if (released.Load() == 1) != c.spared || (r.stats().TXACKsSpared == 1) != c.spared {
					t.Errorf("spared %d, want %v", r.stats().TXACKsSpared, c.spared)
				}
				advance(time.Second)
				if c.spared {
					wantACKs(t, r, "later")
				} else {
					wantACKs(t, r, "later", 1100)
				}
			})
		})
	}
}

// TestACKSparedInRing keeps a held ACK until the segment that covers it has
// been written to the ring.
func TestACKSparedInRing(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r := newRig(t, rigConfig{chosen: true, idle: true, rings: 2})
		var released atomic.Int32
		held := ack(1100)
		held.released = &released
		r.queue().HoldCompletions(true)
		r.write(ack(1000).packet(), held.packet(), datagram(7, 10, nil), datagram(7, 10, nil))
		data := ack(1100)
		data.payload = pattern(0, 5)
		r.write(data.packet())
		if released.Load() != 0 || len(r.out()) != 2 {
			t.Error("spared by a segment that waits")
		}
		r.queue().HoldCompletions(false)
		r.d.queues[0].tx.resume()
		if released.Load() != 1 || len(r.out()) != 2 || r.stats().TXACKsSpared != 1 {
			t.Errorf("not spared: %+v", r.stats())
		}
		advance(time.Second)
		if n := len(r.out()); n != 0 {
			t.Errorf("%d frames later", n)
		}
	})
}

// TestACKBehindSegment has an ACK come while a segment of its flow waits for room
// in the ring. What the peer is going to learn from that one it has not learnt yet:
// compared with what has been sent, the ACK seems to say something new and to be
// needless as soon as the segment is out.
func TestACKBehindSegment(t *testing.T) {
	window := func(n uint32, wnd uint16) segment {
		s := ack(n)
		s.window = wnd
		return s
	}
	for _, c := range []struct {
		name   string
		behind []segment // of data that acknowledges 1100 and closes the window
	}{
		{"window opens", []segment{window(1100, 50)}},
		{"duplicates", []segment{window(1100, 0), window(1100, 0), window(1100, 0)}},
		{"advances", []segment{window(1200, 0)}},
	} {
		for _, cut := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/cut=%v", c.name, cut), func(t *testing.T) {
				raced.Bubble(t, func(t *testing.T) {
					r := newRig(t, rigConfig{chosen: true, idle: true, rings: 2})
					r.write(ack(1000).packet())
					wantACKs(t, r, "the first", 1000)
					r.queue().HoldCompletions(true)
					// Two frames; the ring has room for a datagram and, if that is
					// to be cut, the first of them.
					data := window(1100, 0)
					data.payload, data.mss = pattern(0, 10), 5
					r.write(datagram(7, 10, nil))
					if !cut {
						r.write(datagram(7, 10, nil), datagram(7, 10, nil))
					}
					r.write(data.packet())
					for _, s := range c.behind {
						r.write(s.packet())
					}
					r.queue().HoldCompletions(false)
					r.d.queues[0].tx.resume()
					advance(time.Second)
					want := append([]segment{data, data}, c.behind...)
					var got []packet.Info
					for _, f := range r.out() {
						if info := checkFrame(t, f, 1500); info.Kind.IsTCP() {
							got = append(got, info)
						}
					}
					if len(got) != len(want) {
						t.Fatalf("%d segments are out, want %d", len(got), len(want))
					}
					for i, info := range got {
						if info.Ack != want[i].ack || info.Window != want[i].window {
							t.Errorf("segment %d: ACK %d, window %d; want %d, %d", i, info.Ack, info.Window, want[i].ack, want[i].window)
						}
					}
				})
			})
		}
	}
}

// TestACKReplaced holds ACKs one after the other: the newest is sent, and not
// later than the oldest was due.
func TestACKReplaced(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r := newRig(t, rigConfig{chosen: true, idle: true})
		var released atomic.Int32
		r.write(ack(1000).packet())
		r.acksOut()
		start := time.Now()
		n := uint32(1000)
		for {
			n++
			s := ack(n)
			s.released = &released
			r.write(s.packet())
			if got := r.acksOut(); len(got) != 0 {
				t.Fatalf("ACK %d goes at once", got)
			}
			advance(ackPeriod / 5)
			if got := r.acksOut(); len(got) != 0 {
				if got[0] != n || len(got) != 1 {
					t.Errorf("ACKs %v, want %d", got, n)
				}
				break
			}
			if time.Since(start) > 2*ackPeriod {
				t.Fatalf("no ACK after %v", time.Since(start))
			}
		}
		if int(released.Load()) != int(n-1000) {
			t.Errorf("%d released of %d", released.Load(), n-1000)
		}
	})
}

// TestACKDuplicates keeps the order of a held ACK and the duplicates behind it.
func TestACKDuplicates(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r := newRig(t, rigConfig{chosen: true, idle: true})
		r.write(ack(1000).packet(), ack(1100).packet(), ack(1100).packet(), ack(1100).packet())
		wantACKs(t, r, "at once", 1000, 1100, 1100, 1100)
		r.write(ack(1200).packet(), ack(1150).packet())
		wantACKs(t, r, "an older one", 1200, 1150)
		advance(time.Second)
		wantACKs(t, r, "later")
	})
}

// TestACKCollision has two flows in one slot.
func TestACKCollision(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r := newRig(t, rigConfig{chosen: true, idle: true})
		other := func(n uint32) segment {
			s := ack(n)
			s.hash = 1 + ackSlots
			return s
		}
		r.write(ack(1000).packet(), ack(1100).packet())
		wantACKs(t, r, "first flow", 1000)
		r.write(other(5).packet(), other(6).packet()) // not known: the slot is taken
		wantACKs(t, r, "second flow", 5, 6)
		advance(2 * ackPeriod)
		wantACKs(t, r, "timer", 1100)
		r.write(other(7).packet(), other(8).packet())
		wantACKs(t, r, "second flow takes the slot", 7)
		r.write(ack(1200).packet())
		wantACKs(t, r, "first flow", 1200)
		advance(2 * ackPeriod)
		wantACKs(t, r, "timer", 8)
	})
}

// TestACKMany holds the ACKs of many flows for as long as their applications
// need by turns.
func TestACKMany(t *testing.T) {
	for _, c := range []struct {
		flows  int
		period time.Duration
	}{{100, 100 * ackTurn}, {2000, maxAckPeriod}} {
		t.Run(fmt.Sprint(c.flows), func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				r := newRig(t, rigConfig{chosen: true, idle: true, rings: 4096})
				for n := uint32(1000); n <= 1001; n++ {
					for i := range uint32(c.flows) {
						s := ack(n)
						s.hash = i + 1
						r.write(s.packet())
					}
				}
				if n := len(r.out()); n != c.flows {
					t.Errorf("%d frames at once, want %d", n, c.flows)
				}
				// The timer was set for the first of them.
				advance(ackPeriod + c.period - ackPeriod/10)
				if n := len(r.out()); n != 0 {
					t.Errorf("%d frames before it is time", n)
				}
				advance(ackPeriod / 5)
				if n := len(r.out()); n != c.flows {
					t.Errorf("%d frames of the timer, want %d", n, c.flows)
				}
				if tm := &r.d.queues[0].tx.acks; tm.armed || len(tm.held) != 0 {
					t.Error("the timer goes on")
				}
			})
		})
	}
}

// TestACKSlotsHaveNoPointers is for the garbage collector, which looks at each slot of
// each queue otherwise.
func TestACKSlotsHaveNoPointers(t *testing.T) {
	slot := reflect.TypeFor[ackSlot]()
	for i := range slot.NumField() {
		if f := slot.Field(i); f.Type.Kind() < reflect.Bool || f.Type.Kind() > reflect.Complex128 {
			t.Errorf("%s is a %v", f.Name, f.Type)
		}
	}
}

// TestACKForget takes flows off the list of held ones in any order.
func TestACKForget(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		const flows = 50
		r := newRig(t, rigConfig{chosen: true, idle: true, rings: 1024})
		flow := func(i int, n uint32) segment {
			s := ack(n)
			s.hash = uint32(i) + 1
			return s
		}
		for i := range flows {
			r.write(flow(i, 1000).packet(), flow(i, 1001).packet())
		}
		r.out()
		rng := rand.New(rand.NewPCG(1, 2))
		for k, i := range rng.Perm(flows) {
			if tm := &r.d.queues[0].tx.acks; len(tm.held) != flows-k {
				t.Fatalf("%d held, want %d", len(tm.held), flows-k)
			}
			s := flow(i, 1001)
			s.payload = pattern(0, 5)
			r.write(s.packet())
			if n := len(r.out()); n != 1 {
				t.Fatalf("%d frames for one answer", n)
			}
		}
		if st := r.stats(); st.TXACKsSpared != flows || st.TXACKsLate != 0 {
			t.Errorf("%+v", st)
		}
		advance(time.Second)
		if n := len(r.out()); n != 0 {
			t.Errorf("%d frames later", n)
		}
	})
}

// TestACKClose forgets held ACKs, and the timer does nothing afterwards.
func TestACKClose(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r := newRig(t, rigConfig{chosen: true, idle: true})
		var released atomic.Int32
		held := ack(1100)
		held.released = &released
		r.write(ack(1000).packet(), held.packet())
		if err := r.d.Close(); err != nil {
			t.Error(err)
		}
		if st := r.stats(); released.Load() != 1 || st.Drops["tx closed"] != 1 {
			t.Errorf("%d released.Load(), %v", released.Load(), st.Drops)
		}
		advance(time.Second)
	})
}

// TestACKTimerHandsOver has a writer come while the timer has the transmit
// lock: its packet is not left behind.
func TestACKTimerHandsOver(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r := newRig(t, rigConfig{chosen: true})
		q := &r.d.queues[0].tx
		for _, unlock := range []func(){q.unlock, func() { q.mu.Unlock(); q.acks.fire() }, func() { q.mu.Unlock(); r.d.Audit() }} {
			synctest.Wait() // the poller sleeps
			q.mu.Lock()
			r.write(datagram(1, 100, nil)) // finds the lock taken
			if n := len(r.out()); n != 0 {
				t.Fatal("sent without the lock")
			}
			unlock()
			if n := len(r.out()); n != 1 {
				t.Errorf("%d frames, want 1", n)
			}
		}
	})
}

// FuzzPlainOptions compares with netstack's parser: a header with a SACK block
// is never plain.
func FuzzPlainOptions(f *testing.F) {
	f.Add(timestamp)
	f.Add([]byte{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, opts []byte) {
		if len(opts) > 40 || len(opts)%4 != 0 {
			return
		}
		if packet.PlainOptions(opts) && len(header.ParseTCPOptions(opts).SACKBlocks) != 0 {
			t.Errorf("%x is plain", opts)
		}
	})
}
