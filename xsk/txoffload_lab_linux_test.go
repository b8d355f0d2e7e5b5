//go:build linux && (amd64 || arm64)

package xsk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
)

// mustOffload is mustOpen for what needs a kernel with TX metadata.
func mustOffload(t *testing.T, l *lab.Lab, cfg Config) *Socket {
	t.Helper()
	if release := kernelRelease(); !releaseAtLeast(release, 6, 8) {
		t.Skipf("Linux %s has no TX metadata", release)
	}
	return mustOpen(t, l, cfg)
}

// sum16 adds up the big-endian words of b, the last one padded, and folds.
func sum16(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for i := range b {
			sum += uint32(b[i]) << (8 * (1 - i&1))
		}
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum>>16 + sum)
}

// datagram is a UDP frame to the peer's port, its checksum left to somebody, and
// the sum of its pseudo-header.
type datagram struct {
	frame  []byte
	l4     int
	pseudo uint16
}

func datagramTo(t *testing.T, l *lab.Lab, v6 bool, port uint16, payload []byte) (d datagram) {
	t.Helper()
	host, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Peer.Interface()
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	length := uint16(8 + len(payload))
	f := append(append([]byte(nil), peer.MAC...), host.MAC...)
	var src, dst netip.Addr
	if v6 {
		src, dst = l.StackV6.Addr(), l.Peer.V6.Addr()
		f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0)
		f = append(be.AppendUint16(f, length), unix.IPPROTO_UDP, 64)
		f = append(append(f, src.AsSlice()...), dst.AsSlice()...)
	} else {
		src, dst = l.StackV4.Addr(), l.Peer.V4.Addr()
		f = append(f, 8, 0, 0x45, 0)
		f = append(be.AppendUint16(f, 20+length), 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
		f = append(append(f, src.AsSlice()...), dst.AsSlice()...)
		be.PutUint16(f[24:], ^sum16(f[14:]))
	}
	d.l4 = len(f)
	d.pseudo = sum16(src.AsSlice(), dst.AsSlice(), []byte{0, unix.IPPROTO_UDP}, be.AppendUint16(nil, length))
	f = be.AppendUint16(be.AppendUint16(f, 1111), port)
	f = be.AppendUint16(be.AppendUint16(f, length), d.pseudo)
	d.frame = append(f, payload...)
	return d
}

// request asks for the checksum.
func (d datagram) request() TXRequest {
	return TXRequest{Do: TXChecksum, ChecksumStart: uint16(d.l4), ChecksumOffset: 6}
}

// sendRequest sends a packet from as many frames as it needs.
func sendRequest(t *testing.T, s *Socket, packet []byte, r TXRequest) {
	t.Helper()
	tx, room := s.TX(), s.Region().MaxTXFrame()
	n := (len(packet) + room - 1) / room
	var parts []umem.Desc
	for end := time.Now().Add(limit); tx.Free(n) < n; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("no room to send")
		}
	}
	for range n {
		a, chunk, _ := tx.Frame()
		k := copy(chunk, packet)
		packet = packet[k:]
		parts = append(parts, umem.Desc{Addr: a, Len: uint32(k)})
	}
	if !tx.QueueRequest(r, parts...) {
		t.Fatalf("a packet of %d descriptors was refused: %v", n, tx.CheckRequest(r, parts[0]))
	}
	if left := tx.Flush(); left != 0 {
		t.Fatalf("Flush left %d, Err %v", left, tx.Err())
	}
}

// settle waits for everything that was sent, and wants no complaint.
func settle(t *testing.T, s *Socket) Statistics {
	t.Helper()
	for end := time.Now().Add(limit); s.TX().Lent() > 0 && time.Now().Before(end); runtime.Gosched() {
		s.TX().Reclaim()
	}
	st := statistics(t, s)
	if a := s.Region().Audit(); a.Held != 0 || a.TX != 0 || st.TXStrays+st.TXDeviceDrops+st.TXStalls+st.TXWakeupErrors+st.Kernel.TXInvalidDescs != 0 || s.TX().Err() != nil {
		t.Errorf("%+v, %+v, Err %v", a, st, s.TX().Err())
	}
	return st
}

// TestVethTXChecksum leaves UDP checksums to the kernel. A veth that takes it over
// hands the packet on as it is, known to the receiving kernel as good; otherwise
// the kernel completes it, which a packet socket sees. The same packet without the
// request does not arrive.
func TestVethTXChecksum(t *testing.T) {
	for _, offload := range []bool{true, false} {
		for _, mtu := range []int{1500, 9000} {
			for _, v6 := range []bool{false, true} {
				t.Run(fmt.Sprintf("offload=%v/mtu=%d/v6=%v", offload, mtu, v6), func(t *testing.T) {
					l := lab.New(t, lab.Config{Offloads: offload, MTU: mtu})
					s := mustOffload(t, l, small(Config{TXOffload: TXChecksum, UMEM: umem.Config{ChunkSize: 2048, TXMetadata: 64}}))
					testVethTXChecksum(t, l, s, v6, offload)
				})
			}
		}
	}
}

func testVethTXChecksum(t *testing.T, l *lab.Lab, s *Socket, v6, partial bool) {
	const port = 5353
	addr, most := l.Peer.V4.Addr(), l.Config.MTU-28
	if v6 {
		addr, most = l.Peer.V6.Addr(), l.Config.MTU-48
	}
	c, err := l.Peer.ListenPacket("udp", netip.AddrPortFrom(addr, port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 1<<16)
	awaitDatagrams(t, l, c, buf)
	fd := packetSocket(t, l)
	rng := seeded(t)
	for i := range 100 {
		payload := make([]byte, 9+rng.IntN(most-8))
		if i == 0 {
			payload = make([]byte, most)
		}
		for j := range payload {
			payload[j] = byte(rng.Uint32())
		}
		d := datagramTo(t, l, v6, port, payload)
		other := bytes.Clone(d.frame)
		other[d.l4+8] ^= 0xff
		if d.pseudo != ^sum16(other[d.l4:]) { // else it would be complete
			sendRequest(t, s, other, TXRequest{})
			if got := readUDP(t, fd, d.l4, port); !bytes.Equal(got, other) {
				t.Fatalf("packet %d, without a request: the peer got %d bytes of %d, or others", i, len(got), len(other))
			}
		}
		sendRequest(t, s, d.frame, d.request())
		got := readUDP(t, fd, d.l4, port)
		want := bytes.Clone(d.frame)
		if !partial {
			binary.BigEndian.PutUint16(want[d.l4+6:], ^sum16(want[d.l4:]))
			if binary.BigEndian.Uint16(want[d.l4+6:]) == 0 {
				want[d.l4+6], want[d.l4+7] = 0xff, 0xff // RFC 768
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("packet %d: the peer got checksum %#x, want %#x, or other bytes", i, got[d.l4+6:d.l4+8], want[d.l4+6:d.l4+8])
		}
		if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		n, _, err := c.ReadFrom(buf)
		for err == nil && bytes.Equal(buf[:n], ready) {
			n, _, err = c.ReadFrom(buf)
		}
		if err != nil || !bytes.Equal(buf[:n], payload) {
			t.Fatalf("packet %d: the peer's socket got %d bytes of %d, or others, %v", i, n, len(payload), err)
		}
	}
	if st := settle(t, s); st.TXRequests != 100 {
		t.Errorf("%+v", st)
	}
}

// awaitDatagrams sends from the host's kernel until the peer's socket receives: for
// some time after its link is up, IPv6 drops what comes.
func awaitDatagrams(t *testing.T, l *lab.Lab, c net.PacketConn, buf []byte) {
	t.Helper()
	out, err := l.Host.Dial(t.Context(), "udp", c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	lab.Eventually(t, limit, "the peer's socket receives", func() bool {
		_, err := out.Write(ready)
		if err == nil {
			err = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		}
		if err == nil {
			_, _, err = c.ReadFrom(buf)
		}
		return err == nil
	})
}

// ready is what awaitDatagrams sends, several times.
var ready = []byte("ready?")

// readUDP reads from a packet socket until a datagram to the port comes, but for
// those of awaitDatagrams: the last of them may be late.
func readUDP(t *testing.T, fd, l4 int, port uint16) []byte {
	t.Helper()
	etherType, proto := uint16(unix.ETH_P_IP), 14+9
	if l4 != 34 {
		etherType, proto = unix.ETH_P_IPV6, 14+6
	}
	for {
		f := readFrame(t, fd, etherType)
		if len(f) > l4+8 && f[proto] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(f[l4+2:]) == port && !bytes.Equal(f[l4+8:], ready) {
			return f
		}
	}
}

// TestVethTXTimestamp has the kernel tell when packets were sent, with a socket
// of its own region and with some that share one.
func TestVethTXTimestamp(t *testing.T) {
	for _, share := range []bool{false, true} {
		t.Run(fmt.Sprintf("share=%v", share), func(t *testing.T) {
			l := lab.New(t, lab.Config{Queues: 2, MTU: 9000})
			sockets := []*Socket{mustOffload(t, l, small(Config{TXOffload: TXTimestamp}))}
			if share {
				if err := sockets[0].Close(); err != nil {
					t.Fatal(err)
				}
				set, err := openSet(l, SetConfig{Share: true, Socket: small(Config{TXOffload: TXTimestamp | TXChecksum})})
				if err != nil {
					t.Fatal(err)
				}
				defer set.Close()
				sockets = set.Sockets()
			}
			for i, s := range sockets {
				testVethTXTimestamp(t, s, uint64(i+1)<<32)
			}
		})
	}
}

// taiClock reads the clock that the kernel's timestamps are of.
func taiClock(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_TAI, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano()
}

func testVethTXTimestamp(t *testing.T, s *Socket, first uint64) {
	// The kernel's clock for timestamps may be a little off the other.
	const slack = int64(time.Second)
	const packets = 50
	frame := append([]byte("\x02\x00\x00\x00\x00\x09\x02\x00\x00\x00\x00\x08\x88\xb5"), make([]byte, 8900)...)
	before := taiClock(t)
	for i := range uint64(packets) {
		// In one frame, or in three, and those without a request in between.
		sendRequest(t, s, frame[:100+i%2*8800], TXRequest{Do: TXTimestamp, ID: first + i})
		sendRequest(t, s, frame[:100+i/2%2*8800], TXRequest{})
	}
	for end := time.Now().Add(limit); s.TX().Lent() > 0 && time.Now().Before(end); runtime.Gosched() {
		s.TX().Reclaim()
	}
	after := taiClock(t)
	var got [2 * packets]TXTime
	if n := s.TX().Timestamps(got[:]); n != packets {
		t.Fatalf("%d timestamps of %d packets", n, packets)
	}
	seen := make(map[uint64]bool)
	for _, x := range got[:packets] {
		if at := int64(x.Time); at < before-slack || at > after+slack {
			t.Errorf("%+v: from %d to %d", x, before, after)
		}
		if x.ID < first || x.ID >= first+packets || seen[x.ID] {
			t.Errorf("%+v: not an ID of these packets, or twice", x)
		}
		seen[x.ID] = true
	}
	if st := statistics(t, s); st.TXRequests != packets || st.TXTimestampsLost+st.TXStrays != 0 || s.TX().Err() != nil {
		t.Errorf("%+v, Err %v", st, s.TX().Err())
	}
}

// TestVethTXRequests gives the kernel whatever QueueRequest takes: nothing of it
// stops the socket.
func TestVethTXRequests(t *testing.T) {
	l := lab.New(t, lab.Config{})
	s := mustOffload(t, l, small(Config{TXOffload: TXTimestamp | TXChecksum}))
	tx, rng := s.TX(), seeded(t)
	taken, sent := 0, uint64(0)
	for range 3000 {
		if tx.Free(1) < 1 {
			tx.Flush()
			continue
		}
		a, chunk, _ := tx.Frame()
		copy(chunk, "\x02\x00\x00\x00\x00\x09\x02\x00\x00\x00\x00\x08\x88\xb5")
		d := umem.Desc{Addr: a + umem.Addr(8*rng.IntN(3)), Len: uint32(14 + rng.IntN(200))}
		r := TXRequest{Do: TXOffload(rng.IntN(4)), ChecksumStart: uint16(rng.IntN(220)), ChecksumOffset: uint16(rng.IntN(40)), ID: rng.Uint64(), LaunchTime: rng.Uint64()}
		switch err := tx.CheckRequest(r, d); {
		case tx.QueueRequest(r, d):
			sent++
			taken += int(r.Do & TXChecksum >> 1)
		case err == nil:
			t.Fatalf("%+v in %d bytes: refused without a reason", r, d.Len)
		default:
			tx.Cancel(a)
		}
		if rng.IntN(10) == 0 {
			tx.Flush()
		}
	}
	tx.Flush()
	if st := settle(t, s); st.TXFrames != sent || st.TXCompletions != sent || taken < 100 {
		t.Errorf("%d sent, %d with a checksum: %+v", sent, taken, st)
	}
}

// TestTXOffloadRefused asks for what is not known to be honoured.
func TestTXOffloadRefused(t *testing.T) {
	l := lab.New(t, lab.Config{})
	mustOffload(t, l, small(Config{})).Close()
	plain, err := umem.New(umem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for _, test := range []struct {
		cfg  Config
		is   error
		says string
	}{
		{Config{TXOffload: TXLaunchTime}, errors.ErrUnsupported, "bind in zero-copy mode"},
		{Config{TXOffload: TXLaunchTime | TXChecksum}, errors.ErrUnsupported, "none is held back"},
		{Config{TXOffload: TXChecksum, Region: plain}, unix.EINVAL, "umem.Config.TXMetadata, 32 bytes"},
		{Config{TXOffload: TXChecksum, Shared: NewShared(plain)}, unix.EINVAL, "umem.Config.TXMetadata, 32 bytes"},
		{Config{TXOffload: TXChecksum, Bind: BindZeroCopy}, errors.ErrUnsupported, "veth has no zero-copy"},
	} {
		s, err := openIn(l, small(test.cfg))
		if err == nil {
			s.Close()
		}
		var op *OpError
		if !errors.Is(err, test.is) || !errors.As(err, &op) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%v: %v", test.cfg.TXOffload, err)
		}
	}
	if _, err := (Config{TXOffload: 1 << 3}).withDefaults(); err == nil || !strings.Contains(err.Error(), "Config.TXOffload") {
		t.Errorf("an unknown offload: %v", err)
	}
	// Room for requests is not leave to make them.
	s := mustOpen(t, l, small(Config{UMEM: umem.Config{TXMetadata: 32}}))
	a, _, _ := s.TX().Frame()
	if d := (umem.Desc{Addr: a, Len: 60}); s.TX().QueueRequest(TXRequest{Do: TXChecksum}, d) || s.TX().TXOffload() != 0 || !s.TX().QueueRequest(TXRequest{}, d) {
		t.Error("a request is taken that Config.TXOffload has not, or none refused")
	}
	if left := s.TX().Flush(); left != 0 {
		t.Errorf("Flush left %d, Err %v", left, s.TX().Err())
	}
	settle(t, s)
	expectFinding(t, check(t, l), SubjectMetadata, OK, "tx timestamp, tx checksum (Config.TXOffload)", "")
}

// TestTXOffloadBar asks for each in each mode of drivers that declare some.
func TestTXOffloadBar(t *testing.T) {
	declares := func(o TXOffload) hostif.XDPFeatures {
		return hostif.XDPFeatures{TXMetadata: true, ZeroCopy: true, TXTimestamp: o&TXTimestamp != 0, TXChecksum: o&TXChecksum != 0, TXLaunchTime: o&TXLaunchTime != 0}
	}
	for _, test := range []struct {
		driver, release string
		f               hostif.XDPFeatures
		asks            TXOffload
		zerocopy        bool
		says, fix       string // empty: no bar
	}{
		{driver: "mlx5_core", f: declares(TXChecksum | TXTimestamp), asks: TXChecksum | TXTimestamp, zerocopy: true},
		{driver: "igc", f: declares(allTXOffloads), asks: allTXOffloads, zerocopy: true},
		{driver: "igc", f: declares(TXTimestamp), asks: TXTimestamp | TXChecksum, zerocopy: true, says: "igc does not declare tx checksum for zero-copy", fix: "BindCopy"},
		{driver: "igb", f: declares(0), asks: TXChecksum, zerocopy: true, says: "igb does not declare tx checksum", fix: "BindCopy"},
		{driver: "mlx5_core", f: declares(TXChecksum), asks: TXLaunchTime, zerocopy: true, says: "does not declare tx launch time", fix: "a NIC and driver that declare it"},
		{driver: "igb", f: declares(0), asks: TXChecksum | TXTimestamp},
		{driver: "igc", f: declares(allTXOffloads), asks: TXLaunchTime, says: "in copy mode packets pass by", fix: "zero-copy mode"},
		{driver: "virtio_net", release: "6.17.13", f: declares(0), asks: TXChecksum, says: "virtio_net ask for before Linux 6.18", fix: "later kernel"},
		{driver: "virtio_net", release: "6.18.2+deb13-amd64", f: declares(0), asks: TXChecksum | TXTimestamp},
		{driver: "mlx5_core", release: "6.7.1", asks: TXChecksum, says: "TX metadata needs Linux 6.8", fix: "later kernel"},
		{driver: "mlx5_core", release: "6.7.1", asks: TXTimestamp, zerocopy: true, says: "TX metadata needs Linux 6.8", fix: "later kernel"},
	} {
		b := txOffloadBarOf(test.driver, test.f, test.release, test.asks, test.zerocopy)
		if (b != nil) != (test.says != "") || b != nil && (!strings.Contains(b.why, test.says) || !errors.Is(b.err(), errors.ErrUnsupported) || !strings.Contains(b.fix, test.fix)) {
			t.Errorf("%+v: %+v", test, b)
		}
	}
}
