package guest

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// newShared makes a region for several sockets, which the test frees.
func newShared(t *testing.T) *xsk.Shared {
	t.Helper()
	region, err := umem.New(umem.Config{Chunks: 5 * 4096}) // for four queues and two senders
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, region)
	return xsk.NewShared(region)
}

// sharingStack starts a stack on zero-copy sockets that share packet memory: those
// of all queues, or where there is only one, that one and a socket beside it.
func (g *ground) sharingStack(t *testing.T) *stack.Stack {
	t.Helper()
	s, err := g.trySharingStack(t, xsk.BindZeroCopy)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, s)
	if info := s.Device().Info(); !info.ZeroCopy || len(info.Queues) != g.queues {
		t.Fatalf("got %+v, want zero-copy on %d queues", info, g.queues)
	}
	return s
}

func (g *ground) trySharingStack(t *testing.T, mode xsk.BindMode) (s *stack.Stack, err error) {
	t.Helper()
	cfg := xsk.Config{Bind: mode, Shared: newShared(t)}
	prog, sockets, err := g.tryBind(t, g.Host, cfg)
	if err != nil {
		return nil, err
	}
	if len(sockets) == 1 {
		if _, err := g.tryOpenSocket(t, g.Host, cfg); err != nil {
			return nil, err
		}
	}
	g.running(t)
	host, err := g.Host.Interface()
	if err != nil {
		return nil, err
	}
	err = g.Host.Do(func() error {
		d, err := netdev.NewOn(sockets, netdev.Link{Name: host.Name, MAC: host.MAC, MTU: host.MTU}, netdev.Config{})
		if err != nil {
			return err
		}
		closeLater(t, d)
		for _, f := range g.families() {
			if err := prog.AddAddress(f.stack); err != nil {
				return err
			}
		}
		leave, err := hostif.JoinMulticast(host.Index, solicited(g.StackV6.Addr()))
		if err != nil {
			return err
		}
		closeLater(t, leave)
		s, err = stack.OpenOn(g.stackConfig(netdev.Config{}), d)
		return err
	})
	return s, err
}

// TestSharedDevices has packets enter at one device and leave at another, of
// another driver, in the frames that they came in: one region is bound to all
// queues of both, zero-copy. Whatever has been bound first, both fill it before
// they are bound.
//
//	kernel ── first ═ one region ═ second ── a socket that sends back
func TestSharedDevices(t *testing.T) {
	for _, c := range []struct {
		name          string
		first, second wiring.Pair
		queues        int
	}{
		{"virtio and igb", wiring.Virtio, wiring.IGB, 1},
		{"igb and virtio-multi", wiring.IGB, wiring.VirtioMulti, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, second := open(t, c.first, c.queues), open(t, c.second, c.queues)
			sh := newShared(t)
			cfg := xsk.Config{Bind: xsk.BindZeroCopy, Shared: sh}
			prog1, in := first.bind(t, first.Host, cfg)
			prog2, out := second.bind(t, second.Host, cfg)
			far, mirrors := second.bind(t, second.Peer, xsk.Config{})

			addrs := first.claim(t, prog1)
			for _, a := range addrs {
				if err := far.AddAddress(a); err != nil {
					t.Fatal(err)
				}
			}
			for _, a := range []netip.Addr{first.Peer.V4.Addr(), first.Peer.V6.Addr()} {
				if err := prog2.AddAddress(a); err != nil {
					t.Fatal(err)
				}
			}
			first.running(t)
			second.running(t)

			var paths []path
			there, back := onto(t, second), onto(t, first)
			for q := range c.queues {
				paths = append(paths, path{in[q], out[q], there}, path{out[q], in[q], back})
			}
			for _, m := range mirrors {
				paths = append(paths, path{m, m, swap})
			}
			carry(t, paths, append(append(in, out...), mirrors...), func() error {
				return reflected(first, addrs, rawCount/2, 1500)
			})
			returned(t, sh)
		})
	}
}

// onto makes a frame one from the AF_XDP side of a ground to its peer.
func onto(t *testing.T, g *ground) func(frame []byte) bool {
	t.Helper()
	host, err := g.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	peer, err := g.Peer.Interface()
	if err != nil {
		t.Fatal(err)
	}
	return func(f []byte) bool {
		if len(f) < 14 {
			return false
		}
		copy(f, peer.MAC)
		copy(f[6:], host.MAC)
		return true
	}
}

// TestSharedRefusals has devices join a region that another is bound to zero-copy,
// and that cannot have it so.
func TestSharedRefusals(t *testing.T) {
	first := open(t, wiring.Virtio, 0)
	for _, c := range []struct {
		name   string
		pair   wiring.Pair
		chunk  int
		want   error
		remedy string
	}{
		{"virtio without DMA", wiring.VirtioPlain, 4096, unix.EINVAL, "open the first socket of Config.Shared with BindCopy"},
		{"2048 byte chunks on igb", wiring.IGB, 2048, errors.ErrUnsupported, "4096 byte chunks"},
	} {
		t.Run(c.name, func(t *testing.T) {
			region, err := umem.New(umem.Config{ChunkSize: c.chunk, Chunks: 3 * 4096})
			if err != nil {
				t.Fatal(err)
			}
			closeLater(t, region)
			cfg := xsk.Config{Bind: xsk.BindZeroCopy, Shared: xsk.NewShared(region)}
			s := first.openSocket(t, first.Host, cfg)
			second := open(t, c.pair, 0)
			err = second.Host.Do(func() error {
				cfg := cfg
				cfg.Interface = lab.HostDevice
				s, err := xsk.Open(cfg)
				if err == nil {
					err = errors.Join(errOpened, s.Close())
				}
				return err
			})
			explained(t, c.name, err, c.want, c.remedy)
			if a := region.Audit(); a.Free+a.Fill != region.Chunks() {
				t.Errorf("%+v after a socket that was not opened", a)
			}
			if err := s.Close(); err != nil { // before the next one
				t.Error(err)
			}
		})
	}
}
