package netdev

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
)

// checkFrame fails unless a frame is correct and within the MTU.
func checkFrame(tb testing.TB, f []byte, mtu int) (info packet.Info) {
	tb.Helper()
	if r := packet.Parse(f, &info); r != packet.OK {
		tb.Fatalf("frame does not parse: %v: %x", r, f)
	}
	if r := packet.Verify(f, &info, 0); r != packet.OK {
		tb.Fatalf("frame is not correct: %v", r)
	}
	if len(f) > mtu+ethernetLen || int(info.End) != len(f) {
		tb.Fatalf("frame of %d bytes, IP packet ends at %d, MTU %d", len(f), info.End, mtu)
	}
	return info
}

// advance lets virtual time pass, and everybody who is due do his work.
func advance(d time.Duration) {
	<-time.NewTimer(d).C
	synctest.Wait()
}

// TestCut hands over segments of up to 64 KB and checks every frame.
func TestCut(t *testing.T) {
	for _, mtu := range []int{576, 1280, 1500, 3000, 9000} {
		for _, v6 := range []bool{false, true} {
			for _, size := range []int{0, 1, 535, 1460, 1461, 20000, 65000} {
				t.Run(fmt.Sprintf("mtu=%d/v6=%v/bytes=%d", mtu, v6, size), func(t *testing.T) {
					r := newRig(t, rigConfig{mtu: mtu, idle: true})
					mss := mtu - 20 - len(timestamp) - 20
					if v6 {
						mss -= 20
					}
					data := pattern(9, size)
					var released atomic.Int32
					r.write(segment{
						v6: v6, hash: 1, seq: 1 << 31, ack: 77, window: 5, opts: timestamp, payload: data, mss: mss,
						flags: packet.ACK | packet.PSH | packet.FIN | packet.CWR, released: &released,
					}.packet())
					frames := r.out()
					if want := max(1, (size+mss-1)/mss); len(frames) != want {
						t.Fatalf("%d frames, want %d", len(frames), want)
					}
					var got []byte
					for i, f := range frames {
						info := checkFrame(t, f, mtu)
						want := uint8(packet.ACK)
						if i == 0 {
							want |= packet.CWR
						}
						if i == len(frames)-1 {
							want |= packet.PSH | packet.FIN
						}
						if info.Flags != want || info.Ack != 77 || info.Seq != 1<<31+uint32(i*mss) {
							t.Errorf("frame %d: flags %#x, want %#x; sequence number %d", i, info.Flags, want, info.Seq)
						}
						got = append(got, f[info.Payload:]...)
					}
					if !bytes.Equal(got, data) {
						t.Error("payload differs")
					}
					if st := r.stats(); st.TXPackets != 1 || int(st.TXFrames) != len(frames) || released.Load() != 1 {
						t.Errorf("%+v; released %d times", st, released.Load())
					}
				})
			}
		}
	}
}

// TestNetstackFrames looks at everything that two netstacks send.
func TestNetstackFrames(t *testing.T) {
	for _, mtu := range []int{576, 1500, 3000, 9000} {
		t.Run(fmt.Sprintf("mtu=%d", mtu), func(t *testing.T) {
			look := func(_ wire.Dir, f []byte) wire.Verdict {
				var info packet.Info
				if r := packet.Parse(f, &info); r != packet.OK {
					t.Errorf("frame does not parse: %v", r)
				} else if r := packet.Verify(f, &info, 0); r != packet.OK {
					t.Errorf("frame is not correct: %v", r)
				}
				if len(f) > mtu+ethernetLen {
					t.Errorf("frame of %d bytes", len(f))
				}
				return wire.Pass
			}
			l := newLink(t, linkConfig{mtu: mtu, rings: 1024, wire: wire.Config{Faults: [2]wire.Faults{{Filter: look}, {Filter: look}}}})
			c, s := l.connect(1)
			transfer(t, c[0], s[0], 1, 1<<20)
			c[0].Close()
			s[0].Close()
			a, err := gonet.DialUDP(l.s[0], udpAddr(0, 9), udpAddr(1, 9), ipv4.ProtocolNumber)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			b, err := gonet.DialUDP(l.s[1], udpAddr(1, 9), nil, ipv4.ProtocolNumber)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			buf := make([]byte, 1<<16)
			for _, n := range []int{0, 1, mtu - 28, mtu - 27, 9000, 65507} {
				data := pattern(uint32(n), n)
				b.SetReadDeadline(time.Now().Add(10 * time.Second))
				if err := writeUDP(a, data); err != nil {
					t.Fatal(err)
				}
				if got, err := b.Read(buf); err != nil || !bytes.Equal(buf[:got], data) {
					t.Errorf("datagram of %d bytes: %d bytes, %v", n, got, err)
				}
			}
			// A port that nobody has: ICMP comes back.
			b.Close()
			for err = nil; err == nil; err = writeUDP(a, buf[:10]) {
				runtime.Gosched()
			}
		})
	}
}

func TestTooLong(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	var released atomic.Int32
	r.write(
		segment{hash: 1, flags: packet.ACK, payload: pattern(0, 9000), released: &released}.packet(),
		datagram(1, 2100, &released),
		datagram(1, 1480, &released),
	)
	if n := len(r.out()); n != 1 {
		t.Errorf("%d frames, want the one that fits", n)
	}
	if st := r.stats(); st.Drops["tx too long"] != 2 || released.Load() != 3 {
		t.Errorf("%v, %d released", st.Drops, released.Load())
	}
}

// TestWakeups counts system calls: one for each 32 packets of a burst, and one
// more for each that the device drops.
func TestWakeups(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	for _, frames := range []int{1, 31, 32, 33, 46} {
		before := r.stats().Socket
		r.write(segment{hash: 1, flags: packet.ACK, payload: pattern(0, frames*1400), mss: 1400}.packet())
		after := r.stats().Socket
		if n := len(r.out()); n != frames {
			t.Errorf("%d frames, want %d", n, frames)
		}
		if n := int(after.TXWakeups - before.TXWakeups); n > (frames+31)/32 {
			t.Errorf("%d wakeups for %d frames", n, frames)
		}
	}
	r.w.Port(1).SetDown(true)
	before := r.stats()
	r.write(segment{hash: 1, flags: packet.ACK, payload: pattern(0, 46*1400), mss: 1400}.packet())
	st := r.stats()
	if n := st.Drops["tx device"] - before.Drops["tx device"]; n != 46 {
		t.Errorf("%d drops by the device, want 46", n)
	}
	if n := st.Socket.TXWakeups - before.Socket.TXWakeups; n > 2+46 {
		t.Errorf("%d wakeups for 46 drops", n)
	}
}

// TestStuckRing fills a ring of which no frame comes back: the poller neither
// spins nor forgets it.
func TestStuckRing(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r := newRig(t, rigConfig{rings: 4})
		r.queue().HoldCompletions(true)
		var released atomic.Int32
		for i := range 40 {
			r.write(segment{hash: uint32(1 + i%3), flags: packet.ACK | packet.PSH, seq: uint32(i), payload: []byte{byte(i)}, released: &released}.packet())
		}
		synctest.Wait()
		if n := len(r.out()); n != 4 || released.Load() != 4 {
			t.Errorf("%d frames out, %d packets released.Load(), want 4", n, released.Load())
		}
		before := r.stats()
		advance(100 * time.Millisecond)
		if n := r.stats().Sleeps - before.Sleeps; n > uint64(100*time.Millisecond/txRetry)+2 {
			t.Errorf("the poller woke %d times in 100 ms", n)
		}
		r.queue().HoldCompletions(false)
		advance(2 * txRetry)
		var next [3]int
		for _, f := range r.out() {
			info := checkFrame(t, f, 1500)
			i := int(info.Seq)
			if i < next[i%3] {
				t.Errorf("packet %d after %d", i, next[i%3])
			}
			next[i%3] = i
		}
		if st := r.stats(); released.Load() != 40 || st.TXFrames != 40 || len(st.Drops) != 0 {
			t.Errorf("%d released.Load(), %+v", released.Load(), st)
		}
		advance(time.Millisecond)
		before = r.stats()
		advance(time.Second)
		if n := r.stats().Sleeps - before.Sleeps; n != 0 {
			t.Errorf("the poller woke %d times with nothing to do", n)
		}
	})
}

// TestRetry has the kernel refuse for a while, with the ring full and not.
func TestRetry(t *testing.T) {
	for _, e := range []syscall.Errno{syscall.EAGAIN, syscall.ENOBUFS} {
		for _, n := range []int{1, 15, 16, 17, 50} { // 16 fill the ring, and nothing waits beside it
			raced.Bubble(t, func(t *testing.T) {
				r := newRig(t, rigConfig{rings: 16})
				r.queue().FailTX(200, e)
				for i := range n {
					r.write(datagram(uint32(i), 100, nil))
				}
				advance(200 * txRetry)
				if got := len(r.out()); got != n {
					t.Errorf("%v: %d frames, want %d", e, got, n)
				}
			})
		}
	}
}

// TestWriterBlocks fills the ring: writers of datagrams wait, and go on.
func TestWriterBlocks(t *testing.T) {
	r := newRig(t, rigConfig{rings: 16})
	s := newNetstack(t, r.d, addr4[0], addr6[0])
	defer s.Destroy()
	if err := s.AddStaticNeighbor(1, ipv4.ProtocolNumber, tcpip.AddrFromSlice(addr4[1]), "\x02\x00\x00\x00\x00\x02"); err != nil {
		t.Fatal(err)
	}
	c, err := gonet.DialUDP(s, udpAddr(0, 9), udpAddr(1, 9), ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r.queue().HoldCompletions(true)
	written := 0
	c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	for {
		if _, err := c.Write(pattern(uint32(written), 1000)); err != nil {
			break
		}
		if written++; written > 10000 {
			t.Fatal("no writer waits")
		}
	}
	got := make(chan uint32, 100000)
	r.w.Port(1).OnReceive(func(f []byte) {
		if len(f) == 14+28+1000 {
			got <- uint32(f[42]) // of the pattern
		}
	})
	r.queue().HoldCompletions(false)
	first := len(r.udp())
	for range 200 {
		if err := writeUDP(c, pattern(uint32(written), 1000)); err != nil {
			t.Fatal(err)
		}
		written++
	}
	for i := first; i < written; i++ {
		if b := <-got; b != uint32(pattern(uint32(i), 1)[0]) {
			t.Fatalf("datagram %d is not in its place", i)
		}
	}
	if st := r.stats(); len(st.Drops) != 0 {
		t.Errorf("%v", st.Drops)
	}
}

// udp returns the UDP frames that have arrived at the far end.
func (r *rig) udp() (frames [][]byte) {
	for _, f := range r.out() {
		if len(f) > 23 && f[12] == 8 && f[23] == packet.ProtoUDP {
			frames = append(frames, f)
		}
	}
	return frames
}

// TestNoCarrier drops what is sent without a carrier, and counts it, but takes it.
func TestNoCarrier(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r := newRig(t, rigConfig{})
		var released atomic.Int32
		r.d.SetLink(fmt.Errorf("test: %w: %w", ErrNoCarrier, syscall.ENETDOWN))
		if err := r.d.LinkErr(); !errors.Is(err, ErrNoCarrier) || !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("LinkErr: %v", err)
		}
		pkt := datagram(1, 100, &released)
		for range 3 {
			if err := r.d.QDisc().WritePacket(pkt); err != nil {
				t.Errorf("a packet is refused: %v", err)
			}
		}
		pkt.DecRef()
		if n := r.stats().Drops["tx link down"]; n != 3 || released.Load() != 1 || len(r.out()) != 0 {
			t.Errorf("%d dropped, %d released", n, released.Load())
		}
		r.d.SetLink(nil)
		r.write(datagram(1, 100, &released))
		if n := len(r.out()); n != 1 {
			t.Errorf("%d frames after the carrier is back, want 1", n)
		}
	})
}

// TestNoCarrierFull has a writer that saw the link up fill the ring when it is down
// already, and a device that sends all the same: the poller, which does not, sleeps.
func TestNoCarrierFull(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r, k := newCounting(t, Config{})
		k.HoldCompletions(true)
		k.FailTX(1000, syscall.ENETDOWN)
		r.d.SetLink(fmt.Errorf("test: %w: %w", ErrNoCarrier, syscall.ENETDOWN))
		for i := range 20 { // the ring has 16
			pkt := datagram(uint32(i), 100, nil)
			r.d.queues[0].tx.write(pkt)
			pkt.DecRef()
		}
		if w := r.d.queues[0].tx.stuck(); w != waitRing {
			t.Fatalf("waits for %v, want room in the ring", w)
		}
		synctest.Wait()
		if k.armedTX.Load() {
			t.Fatal("without a carrier the poller asks to be told of room, which it would not use")
		}
		k.FailTX(0, 0)
		if e := k.WakeTX(); e != 0 { // as a driver does by itself
			t.Fatal(e)
		}
		before := k.calls.Load()
		synctest.Wait() // for ever, if the poller does not sleep
		advance(time.Second)
		if n := k.calls.Load() - before; n > 2 {
			t.Errorf("%d calls in a second without a carrier", n)
		}
		r.d.SetLink(nil)
		k.HoldCompletions(false)
		advance(time.Second)
		if st := r.stats(); st.TXFrames != 20 || len(st.Drops) != 0 {
			t.Errorf("with the carrier back: %+v", st)
		}
	})
}

// TestLinkDown discards what waits, refuses what comes, and sends again.
func TestLinkDown(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		var told []error
		r := newRig(t, rigConfig{rings: 4, cfg: Config{OnLink: func(err error) { told = append(told, err) }}})
		var released atomic.Int32
		r.w.Port(0).SetDown(true)
		r.write(
			segment{hash: 9, flags: packet.ACK, ack: 1, released: &released}.packet(),
			segment{hash: 9, flags: packet.ACK, ack: 2, released: &released}.packet(), // held
		)
		for range 10 {
			r.write(datagram(1, 100, &released))
		}
		if n := r.stats().Socket.TXWakeupErrors; n == 0 {
			t.Error("no wakeup failed")
		}
		down := fmt.Errorf("test: %w", syscall.ENETDOWN)
		r.d.SetLink(down)
		r.d.SetLink(fmt.Errorf("test: %w", syscall.ENETDOWN)) // something else has changed
		if err := r.d.LinkErr(); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("LinkErr: %v", err)
		}
		if n := r.stats().Drops["tx link down"]; n != 12-4 || released.Load() != 12 {
			t.Errorf("%d dropped, %d released; want 8, 12", n, released.Load())
		}
		pkt := datagram(1, 100, &released)
		if _, ok := r.d.QDisc().WritePacket(pkt).(*tcpip.ErrNetworkUnreachable); !ok {
			t.Error("a packet is taken while the link is down")
		}
		pkt.DecRef()
		advance(time.Millisecond)
		before := r.stats()
		advance(time.Second)
		if st := r.stats(); st.Sleeps != before.Sleeps || st.Socket.TXWakeups != before.Socket.TXWakeups {
			t.Errorf("the poller works while the link is down: %d", st.Sleeps-before.Sleeps)
		}
		r.w.Port(0).SetDown(false)
		r.d.SetLink(nil)
		synctest.Wait()
		if n := len(r.out()); n != 4 {
			t.Errorf("%d frames that were in the ring, want 4", n)
		}
		r.write(datagram(1, 100, &released))
		if n := len(r.out()); n != 1 || released.Load() != 14 {
			t.Errorf("%d frames after the link is up, want 1; %d released", n, released.Load())
		}
		if len(told) != 2 || told[0] != down || told[1] != nil {
			t.Errorf("OnLink: %v", told)
		}
	})
}
