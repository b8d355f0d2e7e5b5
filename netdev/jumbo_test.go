package netdev

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/umem"
)

// TestReceiveJumbo sends one long frame of each kind, in six chunks of 2048
// bytes and in three of 4096: netstack gets the same as from one chunk.
func TestReceiveJumbo(t *testing.T) {
	frag6 := []byte{packet.ProtoUDP, 0, 0, 1, 0, 0, 0, 7}
	vlan := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0}, pattern(3, 9000)...)
	arp := append(append(bytes.Clone(broadcast), 2, 0, 0, 0, 0, 2, 8, 6), pattern(4, 5000)...)
	for _, c := range []struct {
		name     string
		frame    []byte
		head     int // bytes of IP packet in the first view; 0: what the chunk has
		pad      int
		verified bool
	}{
		{"tcp4", frame{flags: packet.ACK, opts: timestamp, payload: pattern(1, 8948)}.bytes(), 52, 0, true},
		{"tcp4, an odd byte less", frame{flags: packet.ACK, payload: pattern(1, 8947)}.bytes(), 40, 0, true},
		{"tcp6", frame{v6: true, flags: packet.ACK, payload: pattern(1, 8940)}.bytes(), 60, 0, true},
		{"udp4", frame{proto: packet.ProtoUDP, payload: pattern(1, 8972)}.bytes(), 28, 0, true},
		{"udp4, padded", frame{proto: packet.ProtoUDP, payload: pattern(1, 6000), pad: 1000}.bytes(), 28, 1000, true},
		{"udp4, padded by chunks", frame{proto: packet.ProtoUDP, payload: pattern(1, 100), pad: 8000}.bytes(), 28, 8000, true},
		{"udp4 without checksum", frame{proto: packet.ProtoUDP, payload: pattern(1, 8972), noSum: true}.bytes(), 28, 0, true},
		{"udp6", frame{v6: true, proto: packet.ProtoUDP, payload: pattern(1, 8952)}.bytes(), 48, 0, true},
		{"icmp4", frame{proto: 1, payload: pattern(1, 8980)}.bytes(), 20, 0, false},
		{"fragment4", frame{proto: packet.ProtoUDP, payload: pattern(1, 8968), frag: 0x2000, bad: true}.bytes(), 20, 0, false},
		{"fragment6", frame{v6: true, proto: packet.ProtoUDP, payload: pattern(1, 8936), ext: frag6, extFirst: 44, bad: true}.bytes(), 40, 0, false},
		{"another protocol", frame{proto: 132, payload: pattern(1, 8980)}.bytes(), 20, 0, false},
		{"vlan", vlan, 0, 0, false},
		{"arp", arp, 0, 0, false},
	} {
		for _, chunk := range []int{2048, 4096} {
			t.Run(fmt.Sprintf("%s/chunk=%d", c.name, chunk), func(t *testing.T) {
				r := newRig(t, rigConfig{idle: true, mtu: 9000, chunk: chunk})
				got := r.inject(1, c.frame)
				if len(got) != 1 {
					t.Fatalf("%d packets delivered, want 1; %v", len(got), r.stats().Drops)
				}
				p := got[0]
				if want := c.frame[14 : len(c.frame)-c.pad]; !bytes.Equal(p.data, want) || !bytes.Equal(p.link, c.frame[:14]) {
					t.Errorf("%d bytes delivered, want %d, or others", len(p.data), len(want))
				}
				head := c.head
				if head == 0 {
					head = chunk - umem.KernelHeadroom - 14
				}
				if p.head != head || p.views != 2 || p.verified != c.verified {
					t.Errorf("%d views, %d bytes in the first, verified %v; want 2, %d, %v", p.views, p.head, p.verified, head, c.verified)
				}
				if st := r.stats(); st.RXDelivered != 1 || st.RXPackets != 1 || st.Socket.RXFrames != 1 {
					t.Errorf("%+v", st)
				}
			})
		}
	}
}

// TestReceiveJumboBad has long frames that are damaged, in the last chunk too,
// between good ones.
func TestReceiveJumboBad(t *testing.T) {
	good := frame{flags: packet.ACK, opts: timestamp, payload: pattern(1, 8948)}.bytes()
	short := frame{flags: packet.ACK, payload: pattern(1, 10)}.bytes()
	for _, at := range []int{0, 1000, len(good) - 53} {
		bad := bytes.Clone(good)
		bad[len(bad)-1-at] ^= 1
		r := newRig(t, rigConfig{chosen: true, idle: true, mtu: 9000, cfg: Config{NoGRO: true}})
		if got := r.inject(64, good, bad, short, bad, good); len(got) != 3 {
			t.Errorf("byte %d from the end: %d packets delivered, want 3", at, len(got))
		}
		if st := r.stats(); st.RXDelivered != 3 || st.Drops["rx bad TCP checksum"] != 2 {
			t.Errorf("byte %d from the end: %+v", at, st)
		}
	}
	r := newRig(t, rigConfig{idle: true, mtu: 9000})
	r.d.dispatcher.Store(nil)
	r.inject(64, good, short, good)
	if st := r.stats(); st.Drops["rx not attached"] != 3 {
		t.Errorf("%+v", st)
	}
}

// TestReceiveJumboMerge merges long segments: 65535 bytes at most, with sums that
// are right.
func TestReceiveJumboMerge(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, chunk := range []int{2048, 4096} {
			t.Run(fmt.Sprintf("v6=%v/chunk=%d", v6, chunk), func(t *testing.T) {
				r := newRig(t, rigConfig{chosen: true, idle: true, mtu: 9000, chunk: chunk})
				const size, n = 8927, 10 // odd, so that sums have to be swapped
				var frames [][]byte
				for i := range n {
					frames = append(frames, frame{
						v6: v6, flags: packet.ACK, seq: uint32(i * size), id: uint16(i), opts: timestamp, window: 100, payload: pattern(uint32(i*size), size),
					}.bytes())
				}
				// A batch is 64 descriptors: ten frames of 60 of 2048, or of 30.
				got := r.inject(n, frames...)
				if len(got) != 2 {
					t.Fatalf("%d packets, want 7 and 3 segments in 2", len(got))
				}
				var data []byte
				for _, p := range got {
					info, f := p.info(t), p.frame()
					if len(f) > 14+65535 || !p.verified || p.views != 2 {
						t.Errorf("%d bytes, verified %v, %d views", len(f), p.verified, p.views)
					}
					if r := packet.Verify(f, &info, 0); r != packet.OK {
						t.Error(r)
					}
					data = append(data, f[info.Payload:info.End]...)
				}
				if !bytes.Equal(data, pattern(0, n*size)) {
					t.Error("payload differs")
				}
				if st := r.stats(); st.RXDelivered != n || st.RXPackets != 2 || st.Socket.RXFrames != n {
					t.Errorf("%+v", st)
				}
			})
		}
	}
}

// TestReceiveJumboHostile has the kernel's side deliver packets in parts as no
// kernel would: headers over two frames, a frame not lent, no end.
func TestReceiveJumboHostile(t *testing.T) {
	good := frame{flags: packet.ACK, opts: timestamp, payload: pattern(1, 3000)}.bytes()
	r := newRig(t, rigConfig{chosen: true, idle: true, mtu: 9000, rings: 16, cfg: Config{NoGRO: true}})
	// The frames that the good ones come in come back: take their addresses
	// from what the socket has lent.
	var lent []umem.Addr
	fill := r.queue().Rings().Fill
	for i := fill.Cons.Load(); i != fill.Prod.Load(); i++ {
		lent = append(lent, fill.Slots[i%uint32(len(fill.Slots))])
	}
	fill.Cons.Store(fill.Prod.Load()) // they are ours
	used := 0
	push := func(last bool, b []byte, cuts ...int) {
		for i := range len(cuts) + 1 {
			end := len(b)
			if i < len(cuts) {
				end = cuts[i]
			}
			start := 0
			if i > 0 {
				start = cuts[i-1]
			}
			d := umem.Desc{Addr: lent[used] + 256, Len: uint32(end - start)}
			used++
			copy(r.sock.Region().Bytes(d), b[start:end])
			if i < len(cuts) || !last {
				d.Options = umem.OptionContinues
			}
			if !r.queue().PushRX(d) {
				t.Fatal("no room")
			}
		}
	}
	push(true, good, 20, 1700) // the IP header is cut
	push(true, good, 40, 1700) // the TCP header is
	push(true, good, 66, 1800) // none is: this one is good
	push(true, good, 1500)     // so is this
	push(false, good[:60], 30) // has no end
	r.poll()
	if got := r.rec.take(); len(got) != 2 || !bytes.Equal(got[0].frame(), good) || !bytes.Equal(got[1].frame(), good) {
		t.Errorf("%d packets delivered, want the 2 good ones", len(got))
	}
	st := r.stats()
	if st.RXDelivered != 2 || st.Drops["rx too short"] != 2 || st.Drops["rx over several frames"] != 1 {
		t.Errorf("%+v", st)
	}
}

// TestSendJumbo sends datagrams around the limits of chunks, and through a ring
// that holds one frame at a time. Where chunks have room for TX metadata, they
// hold less.
func TestSendJumbo(t *testing.T) {
	for _, c := range []struct{ size, metadata int }{{2048, 0}, {4096, 0}, {2048, 248}} {
		for _, rings := range []uint32{8, 64} {
			chunk := c.size - c.metadata
			t.Run(fmt.Sprintf("chunk=%d/rings=%d", chunk, rings), func(t *testing.T) {
				r := newRig(t, rigConfig{idle: true, mtu: 9000, chunk: c.size, rings: rings, metadata: c.metadata})
				var released atomic.Int32
				sizes := []int{1, 8972}
				for k := chunk; k < 9014; k += chunk {
					sizes = append(sizes, k-42-1, k-42, k-42+1)
				}
				for _, n := range sizes {
					r.write(datagram(1, n, &released))
				}
				frames := r.out()
				if len(frames) != len(sizes) || int(released.Load()) != len(sizes) {
					t.Fatalf("%d frames, %d released, want %d", len(frames), released.Load(), len(sizes))
				}
				chunks := 0
				for i, f := range frames {
					if len(f) != sizes[i]+34 {
						t.Errorf("frame %d has %d bytes, want %d", i, len(f), sizes[i]+34)
					}
					chunks += (len(f) + chunk - 1) / chunk
				}
				st := r.stats()
				if int(st.TXFrames) != len(sizes) || int(st.Socket.TXFrames+st.Socket.TXMore) != chunks || len(st.Drops) != 0 {
					t.Errorf("%d chunks: %+v", chunks, st)
				}
				// A large segment, cut to frames of up to five chunks.
				data := pattern(5, 65000)
				r.write(segment{hash: 1, flags: packet.ACK, payload: data, mss: 8960, released: &released}.packet())
				for range 2 {
					r.d.queues[0].tx.resume() // as the poller would
				}
				var got []byte
				for _, f := range r.out() {
					info := checkFrame(t, f, 9000)
					got = append(got, f[info.Payload:]...)
				}
				if !bytes.Equal(got, data) {
					t.Errorf("%d bytes of %d, or others", len(got), len(data))
				}
				before := r.stats().Drops["tx too long"]
				r.write(datagram(1, r.sock.TX().MaxPacket()-33, &released))
				if st := r.stats(); st.Drops["tx too long"] != before+1 || len(r.out()) != 0 {
					t.Errorf("a datagram of a byte too much: %+v", st)
				}
			})
		}
	}
}

// TestJumboWakeups counts system calls: a frame of five chunks is not left in
// the middle, so there are six frames to a budget of 32.
func TestJumboWakeups(t *testing.T) {
	r := newRig(t, rigConfig{idle: true, mtu: 9000})
	for _, frames := range []int{1, 6, 7} {
		before := r.stats().Socket
		r.write(segment{hash: 1, flags: packet.ACK, payload: pattern(0, frames*8960), mss: 8960}.packet())
		after := r.stats().Socket
		if n := len(r.out()); n != frames {
			t.Errorf("%d frames, want %d", n, frames)
		}
		if n := int(after.TXWakeups - before.TXWakeups); n > (frames+5)/6 {
			t.Errorf("%d wakeups for %d frames", n, frames)
		}
	}
}

// TestJumboStuckRing fills a ring of 16 with frames of five chunks of which none
// comes back, so that one slot is free and not enough: the poller neither spins
// nor forgets what waits.
func TestJumboStuckRing(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r := newRig(t, rigConfig{rings: 16, mtu: 9000})
		r.queue().HoldCompletions(true)
		var released atomic.Int32
		for i := range 12 {
			r.write(segment{hash: uint32(1 + i%3), flags: packet.ACK | packet.PSH, seq: uint32(i), payload: pattern(uint32(i), 8960), released: &released}.packet())
		}
		synctest.Wait()
		if n := len(r.out()); n != 3 || released.Load() != 3 {
			t.Errorf("%d frames out, %d packets released, want 3", n, released.Load())
		}
		before := r.stats()
		advance(100 * time.Millisecond)
		if n := r.stats().Sleeps - before.Sleeps; n > uint64(100*time.Millisecond/txRetry)+2 {
			t.Errorf("the poller woke %d times in 100 ms", n)
		}
		r.queue().HoldCompletions(false)
		advance(4 * txRetry)
		for _, f := range r.out() {
			info := checkFrame(t, f, 9000)
			if !bytes.Equal(f[info.Payload:], pattern(info.Seq, 8960)) {
				t.Errorf("packet %d: other bytes", info.Seq)
			}
		}
		if st := r.stats(); released.Load() != 12 || st.TXFrames != 12 || len(st.Drops) != 0 {
			t.Errorf("%d released, %+v", released.Load(), st)
		}
		advance(time.Millisecond)
		before = r.stats()
		advance(time.Second)
		if n := r.stats().Sleeps - before.Sleeps; n != 0 {
			t.Errorf("the poller woke %d times with nothing to do", n)
		}
	})
}

// TestJumboHalfRing has the device refuse what is in a ring of 16, of which half is
// in use, which the kernel calls writable; the frames of another packet are not back
// yet, so there is no room for the next one. The poller does not spin.
func TestJumboHalfRing(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r := newRig(t, rigConfig{rings: 16, mtu: 9000})
		r.queue().HoldCompletions(true)
		r.write(datagram(1, 7000, nil)) // four chunks
		r.queue().FailTX(10000, syscall.EAGAIN)
		before := r.stats()
		r.write(datagram(1, 7000, nil), datagram(1, 7000, nil), datagram(1, 8900, nil))
		advance(100 * time.Millisecond)
		if n := r.stats().Sleeps - before.Sleeps; n > uint64(100*time.Millisecond/txRetry)+2 {
			t.Errorf("the poller woke %d times in 100 ms", n)
		}
		r.queue().FailTX(0, 0)
		r.queue().HoldCompletions(false)
		advance(4 * txRetry)
		if n := len(r.out()); n != 4 {
			t.Errorf("%d frames out, want 4", n)
		}
	})
}

// jumboPaths are hot paths at an MTU of 9000, in chunks of 4096.
var jumboPaths = []step{
	{"RX/jumbo/batch=21", 21 * 9014, 21, func(tb testing.TB) func() {
		r, s, _ := jumboRig(tb)
		var frames [][]byte
		for i := range 21 {
			seq := i * 8948
			frames = append(frames, frame{flags: packet.ACK, seq: uint32(seq), id: uint16(i), opts: timestamp, payload: pattern(uint32(seq), 8948)}.bytes())
		}
		return func() {
			for _, f := range frames {
				r.w.Port(0).Inject(f)
			}
			s.packets = 0
			r.poll()
			if s.packets != 3 {
				tb.Fatalf("%d packets, want 3 of 7 segments", s.packets)
			}
		}
	}},
	{"TX/jumbo/segment=62636/mss=8948", 7 * 9014, 7, func(tb testing.TB) func() {
		return jumboWrite(tb, segment{hash: 1, flags: packet.ACK, opts: timestamp, payload: pattern(0, 7*8948), mss: 8948}.packet())
	}},
	{"TX/jumbo/datagram=8972", 9014, 1, func(tb testing.TB) func() { return jumboWrite(tb, datagram(1, 8972, nil)) }},
}

func jumboRig(tb testing.TB) (*rig, *sink, *int) {
	frames := new(int)
	r := newRig(tb, rigConfig{chosen: true, idle: true, frames: frames, mtu: 9000, chunk: 4096})
	s := &sink{}
	var nd gstack.NetworkDispatcher = s
	r.d.dispatcher.Store(&nd)
	return r, s, frames
}

func jumboWrite(tb testing.TB, pkt *gstack.PacketBuffer) func() {
	r, _, frames := jumboRig(tb)
	tb.Cleanup(pkt.DecRef)
	return func() {
		*frames = 0
		r.d.write(pkt)
		if *frames == 0 {
			tb.Fatal("nothing sent")
		}
	}
}
