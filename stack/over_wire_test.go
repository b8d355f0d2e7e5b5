package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/afxnet/afxnet/internal/frames"
	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// An overWire is one or two complete stacks, down to the rings, joined by an
// in-memory wire: stack i is on port i. Without the second, the test plays the
// peer on port 1.
type overWire struct {
	w     *wire.Wire
	s     [2]*Stack
	clock *pump // of a bubble; nil outside

	forged, reused bool // as in overWireOptions
}

type overWireOptions struct {
	wire     wire.Config
	config   [2]Config // Addresses nil: addrA, addrA6 and addrB, addrB6
	chosen   bool      // config says which mechanisms are on; otherwise -afxnet.off does
	rings    xsk.RingSizes
	chunks   int                 // per queue; 0: 4096
	recovery *tcpip.TCPRecovery  // nil: the profile's
	alone    bool                // no stack on port 1
	bubble   bool                // in a synctest bubble: see pump
	forged   bool                // somebody sends segments with wrong acknowledgements
	reused   bool                // ports have a new connection right after the last
	neighbor [2]net.HardwareAddr // of the other end; nil: it is asked for
}

// newOverWire makes stacks over a wire and checks at the end that nothing is
// left of them, and that every frame is accounted for.
func newOverWire(t testing.TB, o overWireOptions) *overWire {
	t.Helper()
	for i := range o.wire.Ports {
		o.wire.Ports[i].MultiBuffer = o.wire.Ports[i].MTU > 4096-umem.KernelHeadroom-18
	}
	w, err := wire.New(o.wire)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("wire seed %d", w.Seed())
	ow := &overWire{w: w, forged: o.forged, reused: o.reused}
	addrs := [2][]string{{addrA, addrA6}, {addrB, addrB6}}
	for i := range ow.s {
		if i == 1 && o.alone {
			continue
		}
		cfg := o.config[i]
		if cfg.Addresses == nil {
			cfg.Addresses = testConfig(addrs[i]...).Addresses
		}
		if mac := o.neighbor[i]; mac != nil {
			for _, a := range addrs[1-i] {
				cfg.Neighbors = append(cfg.Neighbors, Neighbor{Addr: netip.MustParseAddr(a), HardwareAddr: mac})
			}
		}
		if o.bubble {
			// A spinning goroutine would wait for a clock that stands still
			// as long as it spins.
			cfg.Device.Poll = netdev.PollBlock
		}
		if !o.chosen {
			cfg = WithFlag(cfg)
		}
		if o.bubble && (cfg.NoInline || cfg.NoFastIP) {
			// The pump hears of a packet when it arrives, and not when the
			// minder finds it, who would leave it to a paused processor.
			cfg.Device.NoLateArm = true
		}
		ow.s[i] = openPort(t, w.Port(i), cfg, o)
	}
	overWires.Add(1)
	if o.bubble {
		ow.clock = startPump(t, ow)
	}
	t.Cleanup(func() { ow.close(t) })
	return ow
}

// WithFlag switches off what -afxnet.off names, here and in package stack_test.
func WithFlag(cfg Config) Config {
	cfg.NoFastIP = cfg.NoFastIP || mechanism.Off(mechanism.FastIP)
	cfg.NoInline = cfg.NoInline || mechanism.Off(mechanism.Inline)
	cfg.Device.NoGRO = cfg.Device.NoGRO || mechanism.Off(mechanism.GRO)
	cfg.Device.NoACKHold = cfg.Device.NoACKHold || mechanism.Off(mechanism.ACKHold)
	cfg.Device.NoACKMerge = cfg.Device.NoACKMerge || mechanism.Off(mechanism.ACKMerge)
	cfg.Device.NoGather = cfg.Device.NoGather || mechanism.Off(mechanism.Gather)
	cfg.Device.NoLateArm = cfg.Device.NoLateArm || mechanism.Off(mechanism.LateArm)
	return cfg
}

// overWires counts those in use.
var overWires atomic.Int32

func openPort(t testing.TB, p *wire.Port, cfg Config, o overWireOptions) *Stack {
	t.Helper()
	var sockets []*xsk.Socket
	for q := range p.Queues() {
		chunks := o.chunks
		if chunks == 0 {
			chunks = 4096
		}
		size := 2048
		if p.MTU() > 1500 {
			size = 4096
		}
		r, err := umem.New(umem.Config{ChunkSize: size, Chunks: chunks, OnHeap: true})
		if err != nil {
			t.Fatal(err)
		}
		rings := o.rings
		if rings == (xsk.RingSizes{}) {
			rings = xsk.RingSizes{Fill: 1024, Completion: 1024, RX: 1024, TX: 1024}
		}
		sock, err := p.Open(q, r, rings)
		if err != nil {
			t.Fatal(err)
		}
		sockets = append(sockets, sock)
	}
	d, err := netdev.NewOn(sockets, netdev.Link{Name: p.Name(), MAC: p.MAC(), MTU: p.MTU()}, cfg.Device)
	if err != nil {
		t.Fatal(err)
	}
	cfg.NoDuplicateCheck = true
	st, err := OpenOn(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	if o.recovery != nil {
		if terr := st.ns.SetTransportProtocolOption(tcp.ProtocolNumber, o.recovery); terr != nil {
			t.Fatal(terr)
		}
	}
	stop := p.Watch(func(up, gone bool) {
		switch {
		case gone:
			d.SetLink(errors.Join(syscall.ENETDOWN, syscall.ENODEV))
		case !up:
			d.SetLink(fmt.Errorf("%s is down: %w", p.Name(), syscall.ENETDOWN))
		case d.LinkErr() != nil:
			d.SetLink(nil)
		}
	})
	t.Cleanup(stop)
	return st
}

func (ow *overWire) close(t testing.TB) {
	if ow.clock != nil {
		ow.clock.stop()
	}
	for _, s := range ow.s {
		if s != nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := ow.w.Close(); err != nil {
		t.Error(err)
	}
	for _, dir := range ow.w.Stats() {
		if err := dir.Check(); err != nil {
			t.Error(err)
		}
	}
	for i, s := range ow.s {
		if s == nil {
			continue
		}
		honest := uint64(0)
		if ow.reused {
			// A FIN that was sent again may be answered after the next connection
			// has begun.
			honest = s.ns.Stats().TCP.Retransmits.Value()
		}
		if n := s.guard.forged.Load(); n > honest && !ow.forged {
			t.Errorf("stack %d has refused %d segments of an honest peer for their acknowledgements", i, n)
		}
		// What the kernel has is not ours any more; nothing may be ours.
		for _, a := range s.dev.Audit() {
			if a.Held != 0 {
				t.Errorf("stack %d is closed and holds frames: %+v", i, a)
			}
		}
	}
	if overWires.Add(-1) == 0 && ow.clock == nil {
		noGoroutines(t)
	}
}

// rest waits until no packet is under way, and then checks that each frame is
// counted in exactly one place and that nobody holds one.
func (ow *overWire) rest(t testing.TB) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); runtime.Gosched() {
		if err = ow.w.WaitIdle(context.Background()); err == nil {
			err = ow.account()
		}
		if err == nil {
			return
		}
	}
	t.Error(err)
}

// account returns an error unless every frame is accounted for just now: what
// one stack sent is what the wire took; what the wire delivered is what the
// other one took or dropped for a reason with a name.
func (ow *overWire) account() error {
	for dir, st := range ow.w.Stats() {
		if err := st.Check(); err != nil {
			return err
		}
		if from := ow.s[dir]; from != nil {
			var sent uint64
			for _, q := range deviceStats(from) {
				sent += q.TXFrames
			}
			if sent != st.Sent {
				return fmt.Errorf("stack %d has sent %d frames, the wire has seen %d", dir, sent, st.Sent)
			}
		}
		if to := ow.s[1-dir]; to != nil {
			got := received(to)
			if want := st.Delivered + st.DeliveredCorrupt; got != want {
				return fmt.Errorf("stack %d has counted %d frames, the wire has delivered %d", 1-dir, got, want)
			}
		}
	}
	for i, s := range ow.s {
		if s == nil {
			continue
		}
		for _, a := range s.dev.Audit() {
			if a.Held != 0 || a.TX != 0 {
				return fmt.Errorf("stack %d: frames at rest: %+v", i, a)
			}
		}
	}
	return nil
}

func deviceStats(s *Stack) []netdev.QueueStats {
	st, err := s.dev.Stats()
	if err != nil {
		panic(err)
	}
	return st.Queues
}

// received returns how many frames of its RX rings a stack has counted: handed
// up, or dropped with a name. Descriptors that the kernel lied about are none.
func received(s *Stack) (n uint64) {
	for _, q := range deviceStats(s) {
		n += frames.Accounted(q) - q.Drops["rx bad descriptor"]
	}
	return n
}

// tcpPair returns both ends of a connection from stack 0 to stack 1.
func (ow *overWire) tcpPair(t testing.TB, host string) (c, s *TCPConn) {
	t.Helper()
	l, err := ow.s[1].Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := ow.s[0].Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); accepted.Close() })
	return conn.(*TCPConn), accepted.(*TCPConn)
}

// goroutinesOf returns the stacks of goroutines that have text in them.
func goroutinesOf(text string) (all []string) {
	buf := make([]byte, 4<<20)
	for g := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		if bytes.Contains(g, []byte(text)) {
			all = append(all, string(g))
		}
	}
	return all
}
