package guest

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/soak/traffic"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/xsk"
)

// vlanID is the VLAN of the tests, and vlanNet its addresses: .1 is for a stack,
// .2 the peer's, .3 the host's.
const vlanID = 5

func vlanNet(number byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 78, 0, number}), 24)
}

func vlanNet6(number byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x78, 15: number}), 64)
}

// addVLANs gives both ends a device on the VLAN.
func addVLANs(t *testing.T, g *ground) {
	t.Helper()
	for n, number := range map[*lab.Namespace]byte{g.Peer: 2, g.Host: 3} {
		if err := n.AddVLAN(vlanID, vlanNet(number), vlanNet6(number)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.DeleteDevice(lab.VLANDevice); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestVLANParent has a VLAN beside a stack on its parent: the tagged packets are
// the kernel's, also those to the stack's address, although the NIC takes tags
// off.
func TestVLANParent(t *testing.T) {
	for _, pair := range []wiring.Pair{wiring.IGB, wiring.Virtio} {
		t.Run(pair.String(), func(t *testing.T) {
			g := open(t, pair, 0)
			addVLANs(t, g)
			s := g.stack(t, zeroCopy())
			serve(t, s)
			for _, p := range []netip.Prefix{vlanNet(3), vlanNet6(3)} {
				kernel, err := g.Host.Listen("tcp", hostPort(p.Addr(), echoPort))
				if err != nil {
					t.Fatal(err)
				}
				defer kernel.Close()
				go traffic.EchoTCP(kernel)
				reach(t, g, p.Addr())
			}
			for _, f := range g.families() {
				reach(t, g, f.stack)
			}

			// Send to the stack's address inside the VLAN. A packet that the
			// kernel has to answer follows: when it has, those before are through.
			u, err := s.ListenPacket("udp4", ":9")
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			host, err := g.Host.Interface()
			if err != nil {
				t.Fatal(err)
			}
			if err := g.Peer.AddRoute(netip.PrefixFrom(g.StackV4.Addr(), 32), lab.VLANDevice); err != nil {
				t.Fatal(err)
			}
			if err := g.Peer.SetNeighborOn(lab.VLANDevice, g.StackV4.Addr(), host.MAC); err != nil {
				t.Fatal(err)
			}
			before, err := s.Device().Stats()
			if err != nil {
				t.Fatal(err)
			}
			c, err := g.Peer.Dial(t.Context(), "udp", hostPort(g.StackV4.Addr(), 9))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			const sent = 10
			for range sent {
				if _, err := c.Write([]byte("not for the stack")); err != nil {
					t.Fatal(err)
				}
			}
			reach(t, g, vlanNet(3).Addr())
			after, err := s.Device().Stats()
			if err != nil {
				t.Fatal(err)
			}
			if n := after.Steering.RedirectIPv4 - before.Steering.RedirectIPv4; n != 0 {
				t.Errorf("%d of %d packets of a VLAN came to the stack on its parent", n, sent)
			}
			if n := after.Steering.PassVLAN - before.Steering.PassVLAN; n < sent {
				t.Errorf("%d packets passed as VLAN's, want %d and more", n, sent)
			}
		})
	}
}

// TestVLANDevice has a stack on a VLAN device: it has no driver of its own, so
// generic mode and copies are what there is.
func TestVLANDevice(t *testing.T) {
	for _, pair := range []wiring.Pair{wiring.IGB, wiring.Virtio} {
		t.Run(pair.String(), func(t *testing.T) {
			g := open(t, pair, 0)
			addVLANs(t, g)
			cfg := stack.Config{Interface: lab.VLANDevice, Addresses: []netip.Prefix{vlanNet(1), vlanNet6(1)}}
			for _, c := range []struct {
				name   string
				device netdev.Config
			}{{"zero-copy", netdev.Config{Bind: xsk.BindZeroCopy}}, {"native", netdev.Config{Attach: xsk.AttachNative}}} {
				cfg.Device = c.device
				refused(t, c.name, errors.ErrUnsupported, "", g, cfg)
			}
			cfg.Device = netdev.Config{}
			carries(t, g, cfg)
		})
	}
}

// TestBond has a stack on a bond of one NIC: generic mode and copies, since in
// native mode the kernel drops what is for a socket of the bond.
func TestBond(t *testing.T) {
	for _, pair := range []wiring.Pair{wiring.IGB, wiring.Virtio} {
		t.Run(pair.String(), func(t *testing.T) {
			g := open(t, pair, 0)
			if err := g.Host.AddBond(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := g.Host.DeleteDevice(lab.BondDevice); err != nil {
					t.Error(err)
				}
			})
			g.running(t)
			cfg := stack.Config{Interface: lab.BondDevice, Addresses: []netip.Prefix{g.StackV4, g.StackV6}}
			cfg.Device = netdev.Config{Attach: xsk.AttachNative}
			refused(t, "native", errors.ErrUnsupported, "member of the bond", g, cfg)
			cfg.Device = netdev.Config{Bind: xsk.BindZeroCopy}
			refused(t, "zero-copy", errors.ErrUnsupported, "copy mode", g, cfg)
			cfg.Device = netdev.Config{}
			carries(t, g, cfg)
		})
	}
}

// carries opens a stack and has the peer reach each of its addresses, over TCP with
// all lengths of segments.
func carries(t *testing.T, g *ground, cfg stack.Config) {
	t.Helper()
	var s *stack.Stack
	err := g.Host.Do(func() (err error) {
		s, err = stack.Open(cfg)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	t.Logf("%+v", s.Device().Info())
	serve(t, s)
	for _, a := range cfg.Addresses {
		if err := bulkEcho(t.Context(), g.Peer.Dial, hostPort(a.Addr(), echoPort), 200_000); err != nil {
			t.Errorf("%v: %v", a, err)
		}
	}
	st, err := s.Device().Stats()
	if err != nil || t.Failed() {
		t.Logf("%+v, %v", st, err)
	}
}

// refused wants a stack refused: see explained.
func refused(t *testing.T, name string, want error, remedy string, g *ground, cfg stack.Config) {
	t.Helper()
	err := g.Host.Do(func() error {
		s, err := stack.Open(cfg)
		if err == nil {
			err = errors.Join(errOpened, s.Close())
		}
		return err
	})
	explained(t, name, err, want, remedy)
}

var errOpened = errors.New("it was not refused")

// explained wants an error of a kind, that says what to do: remedy is a part of
// that.
func explained(t *testing.T, name string, err, want error, remedy string) {
	t.Helper()
	var op *xsk.OpError
	switch {
	case err == nil || errors.Is(err, errOpened):
		t.Errorf("%s: not refused", name)
	case !errors.Is(err, want) || !errors.As(err, &op) || op.Remedy == "" || !strings.Contains(op.Remedy, remedy):
		t.Errorf("%s: %v: want %v, and what to do, with %q", name, err, want, remedy)
	default:
		t.Logf("%s: %v", name, err)
	}
}
