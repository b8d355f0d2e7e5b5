//go:build linux && (amd64 || arm64)

package xsk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
)

// sharing is a lab with sockets on one region.
type sharing struct {
	*lab.Lab
	t      *testing.T
	sh     *Shared
	packet int // a packet socket of the peer
	serial uint64
}

func newSharing(t *testing.T) *sharing {
	t.Helper()
	l := lab.New(t, lab.Config{Queues: 2, PeerQueues: 1}) // the peer's frames arrive on queue 0
	lab.Require(t, lab.XDP)
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: 512})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := region.Close(); err != nil {
			t.Error(err)
		}
	})
	return &sharing{Lab: l, t: t, sh: NewShared(region), packet: packetSocket(t, l)}
}

// open opens a socket on a queue of one end, which the test closes.
func (sh *sharing) open(n *lab.Namespace, queue uint32) *Socket {
	sh.t.Helper()
	s, err := sh.tryOpen(n, Config{Queue: queue})
	if err != nil {
		sh.t.Fatal(err)
	}
	return s
}

func (sh *sharing) tryOpen(n *lab.Namespace, cfg Config) (s *Socket, err error) {
	cfg.Interface, cfg.Rings, cfg.Shared = n.Device, RingSizes{RX: 64, TX: 64}, sh.sh
	err = n.Do(func() error {
		s, err = Open(cfg)
		return err
	})
	return s, err
}

// fromPeer has the peer send a packet that s must get, and returns its descriptor.
func (sh *sharing) fromPeer(s *Socket) umem.Desc {
	sh.t.Helper()
	sh.serial++
	payload := binary.BigEndian.AppendUint64(nil, sh.serial)
	frame := udpFrame(sh.t, sh.Lab, payload)
	s.RX().Refill() // before it is there
	if _, err := unix.Write(sh.packet, frame); err != nil {
		sh.t.Fatal(err)
	}
	dst := make([]umem.Desc, 1)
	for end := time.Now().Add(limit); time.Now().Before(end); {
		s.RX().Refill()
		if s.RX().Receive(dst) == 1 {
			if bytes.Equal(s.Region().Bytes(dst[0]), frame) {
				return dst[0]
			}
			s.RX().Recycle(dst)
		} else if err := s.Wait(false, limit); err != nil {
			sh.t.Fatal(err)
		}
	}
	sh.t.Fatalf("packet %d did not arrive: %+v", sh.serial, statistics(sh.t, s))
	return umem.Desc{}
}

// etherTypeSent is that of the frames which the tests send.
const etherTypeSent = 0x88b5

// send makes the frame of a packet one that no kernel wants, sends it through s,
// and sees the peer get it.
func (sh *sharing) send(s *Socket, d umem.Desc) {
	sh.t.Helper()
	b := s.Region().Bytes(d)
	binary.BigEndian.PutUint16(b[12:], etherTypeSent)
	want := bytes.Clone(b)
	s.TX().Reclaim()
	if !s.TX().Queue(d.Addr, len(b)) {
		sh.t.Fatal("Queue refused")
	}
	if left := s.TX().Flush(); left != 0 {
		sh.t.Fatalf("Flush left %d, Err %v", left, s.TX().Err())
	}
	if got := readFrame(sh.t, sh.packet, etherTypeSent); !bytes.Equal(got, want) {
		sh.t.Fatalf("the peer got %x, want %x", got, want)
	}
}

// settle waits until the frames that s has sent are back, whoever reads them.
func (sh *sharing) settle(s, reader *Socket) {
	sh.t.Helper()
	for end := time.Now().Add(limit); s.TX().Lent() > 0; runtime.Gosched() {
		if time.Now().After(end) {
			sh.t.Fatalf("%d frames of %s queue %d are not back", s.TX().Lent(), s.Device(), s.Queue())
		}
		reader.TX().Reclaim()
		if reader != s {
			s.TX().lent -= s.share.back.Swap(0) // as Reclaim, but without reading the ring
		}
	}
}

// switchTo has the program redirect queue 0 to another socket.
func (sh *sharing) switchTo(p *Program, s *Socket) {
	sh.t.Helper()
	if err := errors.Join(p.RemoveSocket(0), p.AddSocket(0, s.FD())); err != nil {
		sh.t.Fatal(err)
	}
}

// TestShared has sockets on one queue, on another queue and on another device
// (in another namespace, where the same queue number is another queue) share a
// region: packets received by one are sent by another without a copy, and the
// rings outlive the socket that brought them.
func TestShared(t *testing.T) {
	sh := newSharing(t)
	p := attachInLab(t, sh.Lab, AttachAuto)
	a, b := sh.open(sh.Host, 0), sh.open(sh.Host, 0)
	c, d := sh.open(sh.Host, 1), sh.open(sh.Peer, 0)
	if a.share.pool != b.share.pool || a.share.pool == c.share.pool || a.share.pool == d.share.pool || c.share.pool == d.share.pool {
		t.Fatal("pools are not one per queue and device")
	}
	if err := a.ZeroCopyErr(); err == nil || strings.Contains(err.Error(), "first socket") {
		t.Errorf("ZeroCopyErr of the first: %v", err)
	}
	if err := c.ZeroCopyErr(); err == nil || !strings.Contains(err.Error(), "first socket of Config.Shared") {
		t.Errorf("ZeroCopyErr of another: %v", err)
	}
	if n := a.RX().Refill(); n != 0 || a.share.pool.lent.Load() != 64 {
		t.Fatalf("Refill = %d of a ring that Open has filled, %d lent", n, a.share.pool.lent.Load())
	}
	if n := b.RX().Refill(); n != 0 {
		t.Fatalf("Refill = %d through the other socket of a full ring", n)
	}

	// Frames that a lent, received by a, sent by the sockets of both queues.
	sh.switchTo(p, a)
	for range 100 { // around the rings
		sh.send(a, sh.fromPeer(a))
		sh.settle(a, b)
		sh.send(b, sh.fromPeer(a))
		sh.settle(b, a)
		sh.send(c, sh.fromPeer(a))
		sh.settle(c, c)
	}
	// Frames that a lent, received by b.
	sh.switchTo(p, b)
	for range 100 {
		sh.send(a, sh.fromPeer(b))
	}
	// From the other device to this one.
	for range 100 {
		f := udpFrame(t, sh.Lab, []byte("from d"))
		addr, chunk, _ := d.TX().Frame()
		if !d.TX().Queue(addr, copy(chunk, f)) || d.TX().Flush() != 0 {
			t.Fatalf("d: Queue or Flush; Err %v", d.TX().Err())
		}
		b.RX().Recycle([]umem.Desc{receiveDesc(t, b, f)})
		sh.settle(d, d)
	}

	// The first socket goes, which registered the memory and brought the rings.
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		sh.send(b, sh.fromPeer(b))
	}
	sh.settle(b, b)
	e := sh.open(sh.Host, 0)
	sh.switchTo(p, e)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		sh.send(e, sh.fromPeer(e))
		sh.send(c, sh.fromPeer(e))
	}
	if err := p.RemoveSocket(0); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Socket{d, e, c} {
		sh.settle(s, s)
		if st := statistics(t, s); st.RXBadDescs+st.TXStrays+st.TXDeviceDrops+st.Kernel.RXInvalidDescs+st.Kernel.TXInvalidDescs != 0 || st.TXFrames != st.TXCompletions {
			t.Errorf("%s queue %d: %+v", s.Device(), s.Queue(), st)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if au := sh.sh.Region().Audit(); au.Free != 512 || au.Pooled != 512 || sh.sh.Lost() != 0 || len(sh.sh.Sockets()) != 0 {
		t.Errorf("after closing: %+v, %d lost", au, sh.sh.Lost())
	}
	// The memory can be registered again.
	f := sh.open(sh.Host, 0)
	f.RX().Refill()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if au := sh.sh.Region().Audit(); au.Free != 512 {
		t.Errorf("after closing again: %+v", au)
	}
}

// receiveDesc waits for a frame and returns its descriptor.
func receiveDesc(t *testing.T, s *Socket, want []byte) umem.Desc {
	t.Helper()
	dst := make([]umem.Desc, 1)
	for end := time.Now().Add(limit); time.Now().Before(end); {
		s.RX().Refill()
		if s.RX().Receive(dst) == 1 {
			if bytes.Equal(s.Region().Bytes(dst[0]), want) {
				return dst[0]
			}
			s.RX().Recycle(dst)
		} else if err := s.Wait(false, limit); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("no packet")
	return umem.Desc{}
}

// TestSharedCloseOrder closes three sockets with packets in their rings in every
// order: nothing is lost.
func TestSharedCloseOrder(t *testing.T) {
	sh := newSharing(t)
	p := attachInLab(t, sh.Lab, AttachAuto)
	for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			s := [3]*Socket{sh.open(sh.Host, 0), sh.open(sh.Host, 0), sh.open(sh.Host, 1)}
			for i := range s {
				s[i].RX().Refill()
			}
			for _, i := range order[:2] { // packets that are not received
				if s[i].Queue() == 0 {
					sh.switchTo(p, s[i])
					sh.unread(s[i])
				}
			}
			if err := p.RemoveSocket(0); err != nil {
				t.Fatal(err)
			}
			for i := range s { // packets that are not sent
				a, _, ok := s[i].TX().Frame()
				if !ok || !s[i].TX().Queue(a, 60) {
					t.Fatal("Queue refused")
				}
				s[i].TX().tx.Submit()
			}
			for _, i := range order {
				if err := s[i].Close(); err != nil {
					t.Error(err)
				}
			}
			if au := sh.sh.Region().Audit(); au.Free != 512 || sh.sh.Lost() != 0 {
				t.Errorf("%+v, %d lost", au, sh.sh.Lost())
			}
		})
	}
}

// TestSharedCorruptClosed closes the socket whose mapping of a corrupt fill ring is
// in use: the other one on the queue does not look at it any more.
func TestSharedCorruptClosed(t *testing.T) {
	sh := newSharing(t)
	first := sh.open(sh.Host, 0)
	second := sh.open(sh.Host, 0)
	defer second.Close()
	fill := first.kernel.Rings().Fill
	fill.Cons.Store(fill.Prod.Load() + 1)
	if n := second.RX().Refill(); n != 0 || !errors.Is(second.RX().Err(), ring.ErrCorrupt) {
		t.Fatalf("%d frames lent, %v", n, second.RX().Err())
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if n := second.RX().Refill(); n != 0 || !errors.Is(second.RX().Err(), ring.ErrCorrupt) {
		t.Errorf("then: %d frames lent, %v", n, second.RX().Err())
	}
}

// unread has the peer send a packet that stays in the RX ring of s.
func (sh *sharing) unread(s *Socket) {
	sh.t.Helper()
	if _, err := unix.Write(sh.packet, udpFrame(sh.t, sh.Lab, []byte("unread"))); err != nil {
		sh.t.Fatal(err)
	}
	for end := time.Now().Add(limit); s.RX().Empty(); runtime.Gosched() {
		if time.Now().After(end) {
			sh.t.Fatal("no packet")
		}
	}
}

// TestSharedRefusals asks for what later sockets cannot choose.
func TestSharedRefusals(t *testing.T) {
	sh := newSharing(t)
	first, err := sh.tryOpen(sh.Host, Config{MultiBuffer: MultiBufferOff})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	for _, tc := range []struct {
		name string
		cfg  Config
		is   error
		says string
	}{
		{"zero-copy", Config{Queue: 1, Bind: BindZeroCopy}, errors.ErrUnsupported, "first socket of Config.Shared is in copy mode"},
		{"multi-buffer", Config{Queue: 1, MultiBuffer: MultiBufferOn}, errors.ErrUnsupported, "open that with MultiBufferOn"},
		{"region", Config{Queue: 1, Region: sh.sh.Region()}, nil, "Config.Region and Config.Shared"},
		{"no queue", Config{Queue: 7}, unix.EINVAL, "queue 7 of 2"},
	} {
		s, err := sh.tryOpen(sh.Host, tc.cfg)
		if err == nil {
			s.Close()
			t.Errorf("%s: no error", tc.name)
		} else if !strings.Contains(err.Error(), tc.says) || tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if n := len(sh.sh.Sockets()); n != 1 {
		t.Errorf("%d sockets", n)
	}
}
