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

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
)

// TestVethJumbo exchanges packets of 1 to 9000 bytes with the peer's kernel, both
// ways, byte for byte, in native and in generic mode.
func TestVethJumbo(t *testing.T) {
	for _, mode := range []AttachMode{AttachNative, AttachGeneric} {
		for _, chunk := range []int{2048, 4096} {
			t.Run(fmt.Sprintf("%v/chunk=%d", mode, chunk), func(t *testing.T) {
				l := lab.New(t, lab.Config{MTU: 9000})
				p := attachInLab(t, l, mode)
				s := mustOpen(t, l, small(Config{UMEM: umem.Config{ChunkSize: chunk, Headroom: 64}}))
				if !s.MultiBuffer() || s.MaxMTU() < 9000 {
					t.Fatalf("multi-buffer %v, MTU up to %d", s.MultiBuffer(), s.MaxMTU())
				}
				s.RX().Refill()
				if err := p.AddSocket(0, s.FD()); err != nil {
					t.Fatal(err)
				}
				testVethJumbo(t, l, s)
			})
		}
	}
}

func testVethJumbo(t *testing.T, l *lab.Lab, s *Socket) {
	fd := packetSocket(t, l)
	rng := seeded(t)
	chunk, part := s.Region().ChunkSize(), s.Region().MaxPacket()
	// Payloads behind 42 bytes of headers; those around the ends of chunks, and
	// others, several times around the rings.
	sizes := []int{9000 - 28}
	for k := 1; k*part < 9014; k++ {
		for d := -1; d <= 1; d++ {
			sizes = append(sizes, k*part-42+d)
			if n := k*chunk - 42 + d; n <= 9000-28 {
				sizes = append(sizes, n)
			}
		}
	}
	for range 150 {
		sizes = append(sizes, 8+rng.IntN(9000-28-8+1))
	}
	frames, more := uint64(0), uint64(0)
	for i, size := range sizes {
		payload := make([]byte, size)
		for j := range payload {
			payload[j] = byte(rng.Uint32())
		}
		binary.BigEndian.PutUint64(payload, uint64(i))
		want := udpFrame(t, l, payload)
		if _, err := unix.Write(fd, want); err != nil {
			t.Fatal(err)
		}
		got, parts := receivePacket(t, s, func(b []byte) bool { return len(b) > 42 && bytes.HasPrefix(b[42:], payload[:8]) })
		if !bytes.Equal(got, want) {
			t.Fatalf("frame %d: received %d bytes, %d sent, or others", i, len(got), len(want))
		}
		if least := (len(want) + part - 1) / part; parts != least {
			t.Errorf("%d bytes in %d descriptors, want %d", len(want), parts, least)
		}
		// The other way, in a frame that no kernel wants.
		want = append(append(append([]byte(nil), want[6:12]...), want[:6]...), 0x88, 0xb5)
		want = append(want, payload...)
		sendPacket(t, s, want)
		if got := readFrame(t, fd, 0x88b5); !bytes.Equal(got, want) {
			t.Fatalf("frame %d: the peer got %d bytes of %d, or others", i, len(got), len(want))
		}
		frames++
		more += uint64((len(want) - 1) / chunk)
	}
	for end := time.Now().Add(limit); s.TX().Lent() > 0 && time.Now().Before(end); runtime.Gosched() {
		s.TX().Reclaim()
	}
	if a := s.Region().Audit(); a.Held != 0 || a.TX != 0 || a.Chunks() != s.Region().Chunks() {
		t.Errorf("after the traffic: %+v", a)
	}
	st := statistics(t, s)
	if st.TXFrames != frames || st.TXMore != more || st.TXCompletions != frames+more || st.RXFrames < frames ||
		st.TXStrays+st.RXBadDescs+st.RXContinued+st.TXDeviceDrops+st.TXStalls != 0 ||
		st.Kernel.RXDropped+st.Kernel.TXInvalidDescs+st.Kernel.RXInvalidDescs != 0 {
		t.Errorf("%d frames, %d more descriptors: %+v", frames, more, st)
	}
}

// receivePacket waits for a packet for which match says so, and returns its bytes
// and the number of its descriptors.
func receivePacket(tb testing.TB, s *Socket, match func([]byte) bool) (found []byte, parts int) {
	tb.Helper()
	dst := make([]umem.Desc, 64)
	for end := time.Now().Add(limit); time.Now().Before(end); {
		n := s.RX().Receive(dst)
		for p := range umem.Packets(dst[:n]) {
			if b := join(s, p); found == nil && match(b) {
				found, parts = b, len(p)
			}
		}
		s.RX().Recycle(dst[:n])
		s.RX().Refill()
		if found != nil {
			return found, parts
		}
		if n == 0 && s.RX().Empty() {
			if err := s.Wait(false, limit); err != nil {
				tb.Fatal(err)
			}
		}
	}
	tb.Fatal("no packet")
	return nil, 0
}

// sendPacket sends one packet from as many frames as it needs.
func sendPacket(tb testing.TB, s *Socket, packet []byte) {
	tb.Helper()
	tx := s.TX()
	n := (len(packet) + s.Region().ChunkSize() - 1) / s.Region().ChunkSize()
	if tx.Free(n) < n {
		tb.Fatal("no room to send")
	}
	var parts []umem.Desc
	for range n {
		a, chunk, _ := tx.Frame()
		k := copy(chunk, packet)
		packet = packet[k:]
		parts = append(parts, umem.Desc{Addr: a, Len: uint32(k)})
	}
	if !tx.QueueParts(parts) {
		tb.Fatalf("a packet of %d descriptors was refused", n)
	}
	if left := tx.Flush(); left != 0 {
		tb.Fatalf("Flush left %d, Err %v", left, tx.Err())
	}
}

// TestVethJumboBurst sends full rings of packets of three descriptors, so that
// the kernel's budget of 32 ends within packets.
func TestVethJumboBurst(t *testing.T) {
	l := lab.New(t, lab.Config{MTU: 9000})
	s := mustOpen(t, l, small(Config{}))
	peer, err := l.Peer.Stats(lab.PeerDevice)
	if err != nil {
		t.Fatal(err)
	}
	before := peer["rx_packets"] + peer["rx_dropped"]
	const rounds, packets = 20, 21 // 63 of 64 descriptors
	for round := range rounds {
		for end := time.Now().Add(limit); s.TX().Free(64) < 64; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("round %d: room for %d", round, s.TX().Free(64))
			}
		}
		for range packets {
			var parts [3]umem.Desc
			for i := range parts {
				a, b, _ := s.TX().Frame()
				copy(b, "\x02\x00\x00\x00\x00\x09\x02\x00\x00\x00\x00\x08\x88\xb5")
				parts[i] = umem.Desc{Addr: a, Len: 3000}
			}
			if !s.TX().QueueParts(parts[:]) {
				t.Fatal("refused")
			}
		}
		if left := s.TX().Flush(); left != 0 {
			t.Fatalf("round %d: Flush left %d", round, left)
		}
	}
	for end := time.Now().Add(limit); s.TX().Lent() > 0 && time.Now().Before(end); runtime.Gosched() {
		s.TX().Reclaim()
	}
	st := statistics(t, s)
	if most := rounds*2 + st.TXDeviceDrops; st.TXFrames != rounds*packets || st.TXCompletions != 3*st.TXFrames || st.TXWakeups > most || st.TXStalls != 0 || st.Kernel.TXInvalidDescs != 0 {
		t.Errorf("%+v", st)
	}
	for end := time.Now().Add(limit); ; runtime.Gosched() {
		if peer, err = l.Peer.Stats(lab.PeerDevice); err != nil {
			t.Fatal(err)
		}
		got := peer["rx_packets"] + peer["rx_dropped"] - before
		if got >= rounds*packets-st.TXDeviceDrops {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the peer received %d packets of %d", got, rounds*packets)
		}
	}
}

// TestNoMultiBuffer looks at what Open says on a kernel before 6.6.
func TestNoMultiBuffer(t *testing.T) {
	region, err := umem.New(umem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer region.Close()
	s := &Socket{device: "eth0", queue: 1, region: region}
	err = s.explain("bind", &UnsupportedError{Feature: "XDP_USE_SG", MinKernel: "6.6"}, BindAuto, hostif.Interface{}, true)
	var op *OpError
	if !errors.As(err, &op) || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "6.6") || !strings.Contains(op.Remedy, "an MTU of 3822 or less") {
		t.Errorf("%v", err)
	}
}

// TestMultiBufferChoice opens sockets at MTUs that need multi-buffer and that do
// not.
func TestMultiBufferChoice(t *testing.T) {
	for _, test := range []struct {
		mtu  int
		cfg  MultiBuffer
		want bool
	}{
		{1500, MultiBufferAuto, false}, {1500, MultiBufferOn, true}, {1500, MultiBufferOff, false},
		{4096 - 256 - 18, MultiBufferAuto, false}, {4096 - 256 - 18 + 1, MultiBufferAuto, true},
		{9000, MultiBufferAuto, true}, {65535, MultiBufferAuto, true},
	} {
		t.Run(fmt.Sprintf("mtu=%d/%v", test.mtu, test.cfg), func(t *testing.T) {
			l := lab.New(t, lab.Config{MTU: test.mtu})
			if s := mustOpen(t, l, small(Config{MultiBuffer: test.cfg})); s.MultiBuffer() != test.want || s.MaxMTU() < test.mtu {
				t.Errorf("multi-buffer %v, MTU up to %d", s.MultiBuffer(), s.MaxMTU())
			}
		})
	}
}
