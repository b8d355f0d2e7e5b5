//go:build linux && (amd64 || arm64)

package xsk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
)

// limit bounds every wait for something that should happen at once.
const limit = 10 * time.Second

// small is a socket of 64 descriptors per ring on the lab's host side.
func small(cfg Config) Config {
	cfg.Interface = lab.HostDevice
	cfg.Rings = RingSizes{RX: 64, TX: 64}
	return cfg
}

// openIn opens a socket in the lab, which the caller closes.
func openIn(l *lab.Lab, cfg Config) (s *Socket, err error) {
	err = l.Host.Do(func() error {
		s, err = Open(cfg)
		return err
	})
	return s, err
}

// mustOpen opens a socket in the lab, which is closed with the test.
func mustOpen(tb testing.TB, l *lab.Lab, cfg Config) *Socket {
	tb.Helper()
	lab.Require(tb, lab.XDP)
	s, err := openIn(l, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// packetSocket opens an AF_PACKET socket on the peer's interface.
func packetSocket(tb testing.TB, l *lab.Lab) (fd int) {
	tb.Helper()
	err := l.Peer.Do(func() (err error) {
		ifc, err := net.InterfaceByName(l.Peer.Device)
		if err != nil {
			return err
		}
		// In network byte order.
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		tb.Cleanup(func() { unix.Close(fd) })
		wait := unix.NsecToTimeval(int64(limit))
		return errors.Join(
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifc.Index}))
	})
	if err != nil {
		tb.Fatal(err)
	}
	return fd
}

// udpFrame is a frame from the peer to the stack's address.
func udpFrame(tb testing.TB, l *lab.Lab, payload []byte) []byte {
	tb.Helper()
	host, err := l.Host.Interface()
	if err != nil {
		tb.Fatal(err)
	}
	peer, err := l.Peer.Interface()
	if err != nil {
		tb.Fatal(err)
	}
	f := append(append([]byte(nil), host.MAC...), peer.MAC...)
	f = append(f, 8, 0) // IPv4
	f = append(f, 0x45, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(28+len(payload)))
	f = append(f, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	f = append(append(f, l.Peer.V4.Addr().AsSlice()...), l.StackV4.Addr().AsSlice()...)
	var sum uint32
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(f[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(f[24:], ^uint16(sum>>16+sum))
	f = binary.BigEndian.AppendUint16(f, 1111)
	f = binary.BigEndian.AppendUint16(f, 2222)
	f = binary.BigEndian.AppendUint16(f, uint16(8+len(payload)))
	return append(append(f, 0, 0), payload...) // UDP without a checksum
}

// receiveOne waits for a packet for which match says so, and returns a copy.
func receiveOne(tb testing.TB, s *Socket, match func([]byte) bool) []byte {
	tb.Helper()
	dst := make([]umem.Desc, 64)
	for end := time.Now().Add(limit); time.Now().Before(end); {
		n := s.RX().Receive(dst)
		var found []byte
		for _, d := range dst[:n] {
			if b := s.Region().Bytes(d); found == nil && match(b) {
				found = bytes.Clone(b)
			}
		}
		s.RX().Recycle(dst[:n])
		s.RX().Refill()
		if found != nil {
			return found
		}
		if n == 0 && s.RX().Empty() {
			if err := s.Wait(false, limit); err != nil {
				tb.Fatal(err)
			}
		}
	}
	tb.Fatal("no packet")
	return nil
}

func TestVeth(t *testing.T) {
	for _, bind := range []BindMode{BindAuto, BindCopy} {
		for _, chunk := range []int{2048, 3072, 4096} { // 3072: unaligned
			t.Run(fmt.Sprintf("%v/chunk=%d", bind, chunk), func(t *testing.T) {
				l := lab.New(t, lab.Config{})
				p := attachInLab(t, l, AttachAuto)
				s := mustOpen(t, l, small(Config{Bind: bind, UMEM: umem.Config{ChunkSize: chunk, Headroom: 64, Unaligned: chunk&(chunk-1) != 0}}))
				if err := s.ZeroCopyErr(); (bind == BindAuto) != errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("ZeroCopyErr of %v: %v", bind, err)
				}
				if s.ZeroCopy() {
					t.Error("zero-copy on veth")
				}
				if n := s.Region().Audit().Fill; n != 64 {
					t.Fatalf("%d frames are lent after Open", n)
				}
				if err := p.AddSocket(0, s.FD()); err != nil {
					t.Fatal(err)
				}
				testVeth(t, l, s)
			})
		}
	}
}

func testVeth(t *testing.T, l *lab.Lab, s *Socket) {
	fd := packetSocket(t, l)
	rng := seeded(t)
	const frames = 300 // several times around the rings
	for i := range frames {
		payload := make([]byte, 8+rng.IntN(1472-8))
		for j := range payload {
			payload[j] = byte(rng.Uint32())
		}
		binary.BigEndian.PutUint64(payload, uint64(i))
		want := udpFrame(t, l, payload)
		if _, err := unix.Write(fd, want); err != nil {
			t.Fatal(err)
		}
		got := receiveOne(t, s, func(b []byte) bool { return len(b) > 42 && bytes.HasPrefix(b[42:], payload[:8]) })
		if !bytes.Equal(got, want) {
			t.Fatalf("frame %d: received %d bytes, %d sent, or others", i, len(got), len(want))
		}
		// The other way, in a frame that no kernel wants.
		want = append(append(append([]byte(nil), want[6:12]...), want[:6]...), 0x88, 0xb5)
		want = append(want, payload...)
		if s.TX().Free(1) < 1 {
			t.Fatal("no room to send")
		}
		a, b, _ := s.TX().Frame()
		if !s.TX().Queue(a, copy(b, want)) {
			t.Fatal("Queue refused")
		}
		if left := s.TX().Flush(); left != 0 {
			t.Fatalf("Flush left %d, Err %v", left, s.TX().Err())
		}
		if got := readFrame(t, fd, 0x88b5); !bytes.Equal(got, want) {
			t.Fatalf("frame %d: the peer got %d bytes of %d, or others", i, len(got), len(want))
		}
	}
	for end := time.Now().Add(limit); s.TX().Lent() > 0 && time.Now().Before(end); runtime.Gosched() {
		s.TX().Reclaim()
	}
	if a := s.Region().Audit(); a.Held != 0 || a.TX != 0 || a.Chunks() != s.Region().Chunks() {
		t.Errorf("after the traffic: %+v", a)
	}
	st := statistics(t, s)
	if st.TXFrames != frames || st.TXCompletions != frames || st.RXFrames < frames || st.TXStrays+st.RXBadDescs+st.TXDeviceDrops+st.TXStalls != 0 || st.Kernel.RXDropped+st.Kernel.TXInvalidDescs+st.Kernel.RXInvalidDescs != 0 {
		t.Errorf("%+v", st)
	}
}

// readFrame reads from a packet socket until a frame of the type comes.
func readFrame(t *testing.T, fd int, etherType uint16) []byte {
	t.Helper()
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal("packet socket: ", err)
		}
		if n > 14 && binary.BigEndian.Uint16(buf[12:]) == etherType {
			return buf[:n]
		}
	}
}

// TestVethBurst sends full rings: with the real kernel's budget of 32 and EAGAIN,
// and with one that holds them, where it takes one.
func TestVethBurst(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	most := 64 // the ring's size
	for _, budget := range []uint32{64, 32, 0} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			s, err := openIn(l, small(Config{TXBudget: budget}))
			if errors.Is(err, errors.ErrUnsupported) && budget != 0 {
				most = 32
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			want := int(budget)
			if budget == 0 {
				want = most
			}
			if got := s.TX().Burst(); got != want {
				t.Errorf("Burst is %d, want %d", got, want)
			}
			testVethBurst(t, l, s, uint64(20*64/want))
		})
	}
}

// testVethBurst wants so many wakeups for 20 full rings.
func testVethBurst(t *testing.T, l *lab.Lab, s *Socket, wakeups uint64) {
	frame := udpFrame(t, l, make([]byte, 100))
	for round := range 20 {
		for end := time.Now().Add(limit); s.TX().Free(64) < 64; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("round %d: room for %d", round, s.TX().Free(64))
			}
		}
		for range 64 {
			a, b, _ := s.TX().Frame()
			s.TX().Queue(a, copy(b, frame))
		}
		if left := s.TX().Flush(); left != 0 {
			t.Fatalf("round %d: Flush left %d", round, left)
		}
	}
	st := statistics(t, s)
	if most := wakeups + st.TXDeviceDrops; st.TXFrames != 20*64 || st.TXWakeups > most || st.TXStalls != 0 {
		t.Errorf("%+v", st)
	}
}

// failure is a way in which Open fails.
type failure struct {
	name   string
	lab    lab.Config
	cfg    Config
	before func(*testing.T, *lab.Lab)
	is     error
	says   []string
}

func TestOpenErrors(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	closed, err := umem.New(umem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, f := range []failure{
		{name: "no interface", cfg: Config{Interface: "nope0"}, is: unix.ENODEV, says: []string{"nope0", "afx0"}},
		{name: "down", cfg: small(Config{}), is: unix.ENETDOWN, says: []string{"ip link set afx0 up"},
			before: func(t *testing.T, l *lab.Lab) {
				if err := l.SetDown(); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "no queue", lab: lab.Config{Queues: 2}, cfg: small(Config{Queue: 2}), is: unix.EINVAL, says: []string{"queue 2 of 2", "0 to 1"}},
		{name: "MTU", lab: lab.Config{MTU: 3000}, cfg: small(Config{MultiBuffer: MultiBufferOff, UMEM: umem.Config{ChunkSize: 2048}}), is: unix.EINVAL,
			says: []string{"MTU 3000", "multi-buffer is off", "2048 bytes", "MTU of 1774", "4096 byte chunks"}},
		{name: "MTU over all chunks", lab: lab.Config{MTU: 40000}, cfg: small(Config{UMEM: umem.Config{ChunkSize: 2048}}), is: unix.EINVAL,
			says: []string{"MTU 40000", "several chunks of 2048 bytes", "MTU of 34798"}},
		{name: "MTU over a ring", lab: lab.Config{MTU: 9000}, cfg: Config{Interface: lab.HostDevice, Rings: RingSizes{RX: 64, TX: 2}}, is: unix.EINVAL,
			says: []string{"MTU 9000", "MTU of 8174", "larger chunks or rings"}},
		{name: "zero-copy", cfg: small(Config{Bind: BindZeroCopy}), is: errors.ErrUnsupported, says: []string{"bind", "veth has no zero-copy", "copy mode"}},
		{name: "unaligned zero-copy", cfg: small(Config{Bind: BindZeroCopy, UMEM: umem.Config{ChunkSize: 3072, Unaligned: true}}), is: errors.ErrUnsupported,
			says: []string{"bind", "unaligned chunks", "HugePages"}},
		{name: "no NUMA node", cfg: small(Config{UMEM: umem.Config{Node: umem.OnNode(1023)}}), says: []string{"map umem", "NUMA node 1023", "/sys/devices/system/node/online"}},
		{name: "heap", cfg: small(Config{UMEM: umem.Config{OnHeap: true}}), is: unix.EINVAL, says: []string{"register umem", "Go memory", "OnHeap"}},
		{name: "closed region", cfg: small(Config{Region: closed}), is: unix.EINVAL, says: []string{"register umem", "not closed"}},
		{name: "umem", cfg: small(Config{UMEM: umem.Config{ChunkSize: 1000}}), says: []string{"Config.ChunkSize: 1000"}},
		{name: "huge pages", cfg: small(Config{UMEM: umem.Config{Chunks: 1 << 24, HugePages: umem.HugePagesRequire}}), is: unix.ENOMEM, says: []string{"map umem", "vm.nr_hugepages", "HugePagesTry"}},
		{name: "rings", cfg: Config{Interface: lab.HostDevice, Rings: RingSizes{RX: 1 << 30}}, says: []string{"map umem", "Config.Chunks", "Config.Rings"}},
		{name: "no socket", cfg: small(Config{Prepared: &Prepared{FD: 1 << 20}}), is: unix.EBADF, says: []string{"take socket", "Config.Prepared.FD"}},
		{name: "several chunks, zero-copy", cfg: small(Config{Bind: BindZeroCopy, MultiBuffer: MultiBufferOn}), is: errors.ErrUnsupported,
			says: []string{"bind", "veth has no zero-copy", "copy mode"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			l := lab.New(t, f.lab)
			if f.before != nil {
				f.before(t, l)
			}
			before := descriptors.Open(t)
			s, err := openIn(l, f.cfg)
			if err == nil {
				s.Close()
				t.Fatal("Open succeeded")
			}
			var op *OpError
			if !errors.As(err, &op) || op.Device != f.cfg.Interface || op.Queue != f.cfg.Queue {
				t.Errorf("%#v is no OpError of this queue", err)
			}
			if f.is != nil && !errors.Is(err, f.is) {
				t.Errorf("%v is not %v", err, f.is)
			}
			if op != nil && op.Remedy == "" && f.is != unix.ENODEV { // which says what there is
				t.Errorf("%v: it does not say what to do", err)
			}
			for _, want := range append(f.says, "xsk: ", f.cfg.Interface) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if left := before.New(descriptors.Open(t)); len(left) > 0 {
				t.Errorf("descriptors that are left: %v", left)
			}
			t.Log(err)
		})
	}
}

// TestOpenContext waits for a busy queue until a context ends, and does not begin with
// one that has.
func TestOpenContext(t *testing.T) {
	l := lab.New(t, lab.Config{})
	mustOpen(t, l, small(Config{}))
	before := descriptors.Open(t)
	ended, end := context.WithCancelCause(t.Context())
	end(io.ErrUnexpectedEOF)
	late, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, io.ErrUnexpectedEOF)
	defer cancel()
	for ctx, want := range map[context.Context]error{ended: context.Canceled, late: context.DeadlineExceeded} {
		err := l.Host.Do(func() error {
			s, err := OpenContext(ctx, small(Config{BusyTimeout: limit}))
			if err == nil {
				s.Close()
			}
			return err
		})
		var op *OpError
		if !errors.Is(err, want) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.EBUSY) || !errors.As(err, &op) || op.Queue != 0 {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if left := before.New(descriptors.Open(t)); len(left) > 0 {
		t.Errorf("left open: %v", left)
	}
}

func TestBusyQueue(t *testing.T) {
	l := lab.New(t, lab.Config{})
	mustOpen(t, l, small(Config{}))
	before := descriptors.Open(t)
	for _, timeout := range []time.Duration{-1, 50 * time.Millisecond} {
		start := time.Now()
		s, err := openIn(l, small(Config{BusyTimeout: timeout}))
		if err == nil {
			s.Close()
			t.Fatal("two sockets on one queue")
		}
		var op *OpError
		if !errors.Is(err, unix.EBUSY) || !errors.As(err, &op) || op.Op != "bind" || !strings.Contains(op.Remedy, "another AF_XDP socket") {
			t.Errorf("%v", err)
		}
		if d := time.Since(start); d < timeout || d > limit {
			t.Errorf("BusyTimeout %v: it took %v", timeout, d)
		}
	}
	if left := before.New(descriptors.Open(t)); len(left) > 0 {
		t.Errorf("descriptors that are left: %v", left)
	}
}

// TestReopen opens a queue again right after Close, and looks for what 100
// sockets have left behind.
func TestReopen(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	cycle := func() {
		s, err := openIn(l, small(Config{}))
		if err != nil {
			t.Fatal(err)
		}
		s.RX().Refill()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cycle() // the runtime's poller opens its own
	fds, sockets := descriptors.Open(t), mappings(t, "socket:")
	noneLeft(t, 100, "mappings", 100/2, func() int { return mappings(t, "") }, cycle)
	if left := fds.New(descriptors.Open(t)); len(left) > 0 {
		t.Errorf("descriptors that are left: %v", left)
	}
	if n := mappings(t, "socket:"); n > sockets {
		t.Errorf("%d ring mappings before, %d after", sockets, n)
	}
}

// noneLeft makes so many cycles and wants count to grow by no more than most, which is
// less than they all would leave. The heap and the runtime's threads have it grow, too,
// but not again and again: two more times are given to it.
func noneLeft(t *testing.T, cycles int, what string, most int, count func() int, cycle func()) {
	t.Helper()
	var before, after int
	for range 3 {
		before = count()
		for range cycles {
			cycle()
		}
		if after = count(); after <= before+most {
			return
		}
	}
	t.Errorf("%d %s before %d cycles, %d after", before, what, cycles, after)
}

func mappings(t *testing.T, of string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, of) {
			n++
		}
	}
	return n
}

func TestCloseOnExec(t *testing.T) {
	l := lab.New(t, lab.Config{})
	before := descriptors.Open(t)
	mustOpen(t, l, small(Config{}))
	made := before.New(descriptors.Open(t))
	for fd, target := range made {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d, %s: flags %#x, %v", fd, target, flags, err)
		}
	}
	if len(made) < 3 {
		t.Errorf("new descriptors %v: want socket, eventfd and epoll", made)
	}
}
