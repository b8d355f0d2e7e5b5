package guest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// echoPort is where the reflectors answer, as everywhere else in the lab's
// networks.
const echoPort = 7

// flows is how many addresses the raw sockets have in each family: the NIC puts
// packets on queues by address.
const flows = 16

// raw is sockets of the AF_XDP side, the program, and the ways that packets take
// from one to another or back.
type raw struct {
	g       *ground
	prog    *xsk.Program
	sockets []*xsk.Socket
	paths   []path
	addrs   []netip.Addr
	shared  *xsk.Shared // or nil
}

// path is a way through: packets are received by one socket, changed, and sent by
// the other in the frames that they came in. A half of a socket is in one path.
type path struct {
	in, out *xsk.Socket
	turn    func(frame []byte) bool
}

// openRaw binds a socket to each queue as cfg says, with flows addresses of each
// kind, to send back what comes. If they share packet memory, each sends what
// another has received; the only queue of a device has two sockets then.
func openRaw(t *testing.T, g *ground, cfg xsk.Config) *raw {
	t.Helper()
	r := &raw{g: g, shared: cfg.Shared}
	r.prog, r.sockets = g.bind(t, g.Host, cfg)
	if r.shared != nil && len(r.sockets) == 1 {
		r.sockets = append(r.sockets, g.openSocket(t, g.Host, cfg))
		r.paths = []path{{r.sockets[0], r.sockets[1], swap}}
	} else {
		for i, in := range r.sockets {
			out := in
			if r.shared != nil {
				out = r.sockets[(i+1)%len(r.sockets)]
			}
			r.paths = append(r.paths, path{in, out, swap})
		}
	}
	g.running(t)
	r.addrs = g.claim(t, r.prog)
	return r
}

// bind loads a program onto the interface of one end and binds a socket to each of
// its queues, as cfg says.
func (g *ground) bind(t *testing.T, n *lab.Namespace, cfg xsk.Config) (*xsk.Program, []*xsk.Socket) {
	t.Helper()
	prog, sockets, err := g.tryBind(t, n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return prog, sockets
}

func (g *ground) tryBind(t *testing.T, n *lab.Namespace, cfg xsk.Config) (prog *xsk.Program, sockets []*xsk.Socket, err error) {
	t.Helper()
	ifc, err := n.Interface()
	if err != nil {
		return nil, nil, err
	}
	err = n.Do(func() (err error) {
		if prog, err = xsk.LoadProgram(xsk.ProgramConfig{Interface: n.Device, Queues: ifc.RXQueues, Mode: xsk.AttachNative}); err != nil {
			return err
		}
		closeLater(t, prog)
		return prog.Attach()
	})
	if err != nil {
		return nil, nil, err
	}
	for q := range ifc.RXQueues {
		cfg.Queue = uint32(q)
		s, err := g.tryOpenSocket(t, n, cfg)
		if err != nil {
			return nil, nil, err
		}
		sockets = append(sockets, s)
		if err := n.Do(func() error { return prog.AddSocket(s.Queue(), s.FD()) }); err != nil {
			return nil, nil, err
		}
	}
	return prog, sockets, nil
}

// openAll opens a set on the AF_XDP side, which the caller closes.
func (g *ground) openAll(t *testing.T, cfg xsk.SetConfig) (set *xsk.Set) {
	t.Helper()
	err := g.Host.Do(func() (err error) {
		set, err = xsk.OpenAll(cfg)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// openSocket opens one socket on one end, which the test closes.
func (g *ground) openSocket(t *testing.T, n *lab.Namespace, cfg xsk.Config) *xsk.Socket {
	t.Helper()
	s, err := g.tryOpenSocket(t, n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (g *ground) tryOpenSocket(t *testing.T, n *lab.Namespace, cfg xsk.Config) (s *xsk.Socket, err error) {
	t.Helper()
	cfg.Interface = n.Device
	err = n.Do(func() error {
		s, err = xsk.Open(cfg)
		return err
	})
	if err != nil {
		return nil, err
	}
	closeLater(t, s)
	if cfg.Bind == xsk.BindZeroCopy && !s.ZeroCopy() {
		t.Errorf("queue %d: the bind is not a zero-copy one", s.Queue())
	}
	return s, nil
}

// closeLater has the test close something when it ends.
func closeLater(t *testing.T, c io.Closer) {
	t.Helper()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close %T: %v", c, err)
		}
	})
}

// claim has a program of the AF_XDP side take an address of each kind for each
// flow, and tells the peer where they are: nobody here answers ARP or ND.
func (g *ground) claim(t *testing.T, prog *xsk.Program) (addrs []netip.Addr) {
	t.Helper()
	ifc, err := g.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	for i := range flows {
		v4, v6 := g.StackV4.Addr().As4(), g.StackV6.Addr().As16()
		v4[3], v6[15] = byte(100+i), byte(100+i)
		for _, a := range []netip.Addr{netip.AddrFrom4(v4), netip.AddrFrom16(v6)} {
			if err := errors.Join(prog.AddAddress(a), g.Peer.SetNeighbor(a, ifc.MAC)); err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// work carries packets until ctx ends.
func (p path) work(ctx context.Context, c *counts) error {
	defer context.AfterFunc(ctx, p.in.Interrupt)()
	rx, tx := p.in.RX(), p.out.TX()
	descs := make([]umem.Desc, 64)
	for ctx.Err() == nil {
		rx.Refill()
		tx.Reclaim()
		n := rx.Receive(descs)
		for i, d := range descs[:n] {
			if b := p.in.Region().Bytes(d); !p.turn(b) || !tx.Queue(d.Addr, len(b)) {
				rx.Recycle(descs[i : i+1])
				continue
			}
			c.frames.Add(1)
		}
		if n != 0 || tx.Pending() != 0 {
			c.flushes.Add(1)
		}
		again := time.Duration(0)
		if tx.Flush() != 0 || tx.Lent() != 0 {
			again = time.Millisecond // nothing tells of a completion
		}
		if n != 0 {
			continue
		}
		if err := errors.Join(rx.Err(), tx.Err(), p.in.Wait(false, again)); err != nil {
			return err
		}
	}
	return nil
}

// counts is what a path has done.
type counts struct{ frames, flushes atomic.Uint64 }

// carry works on paths while f runs, wants packets on each, and all frames of the
// sockets back where they belong. It closes the sockets.
func carry(t *testing.T, paths []path, sockets []*xsk.Socket, f func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, len(paths))
	did := make([]counts, len(paths))
	for i, p := range paths {
		go func() { done <- p.work(ctx, &did[i]) }()
	}
	err := f()
	for i, p := range paths {
		t.Logf("%s queue %d to %s queue %d: %d frames, %d flushes", p.in.Device(), p.in.Queue(), p.out.Device(), p.out.Queue(), did[i].frames.Load(), did[i].flushes.Load())
		if err == nil && did[i].frames.Load() == 0 {
			t.Errorf("%s queue %d: nothing came there", p.in.Device(), p.in.Queue())
		}
	}
	if err != nil {
		t.Error(err)
	}
	for _, s := range sockets {
		lab.Eventually(t, patience, "the frames in flight", func() bool { return s.Region().Audit().TX == 0 })
	}
	cancel()
	for range paths {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, s := range sockets {
		st, err := s.Statistics()
		t.Logf("%s queue %d: %+v", s.Device(), s.Queue(), st)
		if err != nil {
			t.Error(err)
		}
		if st.RXBadDescs+st.TXStrays+st.Kernel.RXDropped+st.Kernel.RXInvalidDescs+st.Kernel.TXInvalidDescs != 0 {
			t.Errorf("%s queue %d: %+v", s.Device(), s.Queue(), st)
		}
	}
	for i, p := range paths {
		// A driver that has been woken works on by itself.
		if st, err := p.out.Statistics(); err == nil && p.out.ZeroCopy() && st.TXWakeups > did[i].flushes.Load() {
			t.Errorf("%s queue %d: %d system calls to send in %d bursts", p.out.Device(), p.out.Queue(), st.TXWakeups, did[i].flushes.Load())
		}
	}
	for _, s := range sockets {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// swap exchanges sender and receiver of a UDP datagram in an Ethernet frame, and
// reports whether it is one.
func swap(f []byte) bool {
	if len(f) < 42 {
		return false
	}
	exchange := func(a, b, n int) {
		for i := range n {
			f[a+i], f[b+i] = f[b+i], f[a+i]
		}
	}
	switch binary.BigEndian.Uint16(f[12:]) {
	case 0x0800:
		if f[14] != 0x45 || f[23] != 17 {
			return false
		}
		exchange(26, 30, 4)
		exchange(34, 36, 2)
	case 0x86dd:
		if len(f) < 62 || f[20] != 17 {
			return false
		}
		exchange(22, 38, 16)
		exchange(54, 56, 2)
	default:
		return false
	}
	exchange(0, 6, 6)
	return true
}

// window is how many datagrams are under way at once: less than any ring.
const window = 16

// reflected sends datagrams of all lengths that fit an MTU, from a kernel socket
// of the peer to all addresses, and wants each back byte for byte.
func reflected(g *ground, addrs []netip.Addr, count, mtu int) error {
	var conns [2]net.PacketConn
	for i, a := range []netip.Addr{g.Peer.V4.Addr(), g.Peer.V6.Addr()} {
		c, err := g.Peer.ListenPacket("udp", hostPort(a, 0))
		if err != nil {
			return err
		}
		defer c.Close()
		conns[i] = c
	}
	random := rand.New(rand.NewPCG(1, 2))
	back := make([]byte, mtu+1)
	for sent := 0; sent < count; sent += window {
		for i, c := range conns {
			want := make(map[uint32][]byte, window)
			for k := range window {
				a := addrs[(2*(sent+k)+i)%len(addrs)]
				header := 28
				if a.Is6() {
					header = 48
				}
				msg := make([]byte, 4+random.IntN(mtu-header-4+1))
				if k == 0 {
					msg = make([]byte, mtu-header)
				}
				for j := range msg {
					msg[j] = byte(random.Uint32())
				}
				number := uint32(sent + k)
				binary.BigEndian.PutUint32(msg, number)
				want[number] = msg
				if _, err := c.WriteTo(msg, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, echoPort))); err != nil {
					return err
				}
			}
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				return err
			}
			for len(want) > 0 {
				n, from, err := c.ReadFrom(back)
				if err != nil {
					return fmt.Errorf("datagrams %d to %d: %d of %d did not come back: %w", sent, sent+window-1, len(want), window, err)
				}
				if n < 4 {
					return fmt.Errorf("%d bytes from %v", n, from)
				}
				number := binary.BigEndian.Uint32(back)
				if !bytes.Equal(want[number], back[:n]) {
					return fmt.Errorf("datagram %d of %d bytes came back as %d bytes, changed", number, len(want[number]), n)
				}
				delete(want, number)
			}
		}
	}
	return nil
}

// exchange lets the sockets send back count datagrams of each family.
func (r *raw) exchange(t *testing.T, count, mtu int) {
	t.Helper()
	carry(t, r.paths, r.sockets, func() error { return reflected(r.g, r.addrs, count, mtu) })
	if r.shared != nil {
		returned(t, r.shared)
	}
}

// returned wants all frames of a region back after its sockets have been closed,
// but for those that the device had.
func returned(t *testing.T, sh *xsk.Shared) {
	t.Helper()
	a := sh.Region().Audit()
	if a.TX != 0 || a.Held != 0 || a.Fill != sh.Lost() || a.Chunks() != sh.Region().Chunks() || len(sh.Sockets()) != 0 {
		t.Errorf("%+v, %d lost, %d sockets open", a, sh.Lost(), len(sh.Sockets()))
	}
}

// TestRaw sends and receives raw packets, zero-copy, with packet memory of each
// socket's own and with one region for all.
func TestRaw(t *testing.T) {
	eachDevice(t, func(t *testing.T, g *ground) {
		t.Run("umem=own", func(t *testing.T) {
			openRaw(t, g, xsk.Config{Bind: xsk.BindZeroCopy}).exchange(t, rawCount, 1500)
		})
		t.Run("umem=shared", func(t *testing.T) {
			openRaw(t, g, xsk.Config{Bind: xsk.BindZeroCopy, Shared: newShared(t)}).exchange(t, rawCount, 1500)
		})
	})
}

// rawCount is how many datagrams of each family make a test.
const rawCount = 512
