package guest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// TestRefusals asks for what a device cannot do, or could only seem to: the error
// says so and what to do, and without asking for zero-copy there is a stack, in
// copy mode.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		pair   wiring.Pair
		mtu    int
		device netdev.Config
		want   error
		remedy string
	}{
		{"virtio without DMA", wiring.VirtioPlain, 0, netdev.Config{}, unix.EINVAL, "iommu_platform=on"},
		{"2048 byte chunks on igb", wiring.IGB, 0, netdev.Config{UMEM: umem.Config{ChunkSize: 2048}}, errors.ErrUnsupported, "4096 byte chunks"},
		{"headroom on virtio", wiring.Virtio, 3000, netdev.Config{UMEM: umem.Config{Headroom: 800}}, errors.ErrUnsupported, "headroom"},
		{"generic attachment on igb", wiring.IGB, 0, netdev.Config{Attach: xsk.AttachGeneric}, errors.ErrUnsupported, "native mode"},
		{"generic attachment on virtio", wiring.Virtio, 0, netdev.Config{Attach: xsk.AttachGeneric}, errors.ErrUnsupported, "native mode"},
		{"several chunks on virtio", wiring.Virtio, 9000, netdev.Config{}, errors.ErrUnsupported, "MTU of 3814"},
		{"several chunks on igb", wiring.IGB, 0, netdev.Config{MultiBuffer: xsk.MultiBufferOn}, errors.ErrUnsupported, "MultiBuffer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := openMTU(t, c.pair, 0, c.mtu)
			cfg := g.stackConfig(c.device)
			cfg.Device.Bind = xsk.BindZeroCopy
			refused(t, "zero-copy", c.want, c.remedy, g, cfg)
			g.running(t)
			cfg.Device.Bind = xsk.BindAuto
			carries(t, g, cfg)
		})
	}
}

// TestNativeRefused asks igb for native mode at an MTU that its buffers do not
// hold.
func TestNativeRefused(t *testing.T) {
	g := openMTU(t, wiring.IGB, 0, 9000)
	refused(t, "native", unix.EINVAL, "mtu 3046, or attach with AttachGeneric", g, g.stackConfig(netdev.Config{Attach: xsk.AttachNative}))
	carries(t, g, g.stackConfig(netdev.Config{Attach: xsk.AttachGeneric}))
}

// TestBusyQueue binds a second socket to a queue: the error says which process has the
// first.
func TestBusyQueue(t *testing.T) {
	g := open(t, wiring.Virtio, 0)
	cfg := xsk.Config{Bind: xsk.BindCopy, BusyTimeout: -1}
	g.openSocket(t, g.Host, cfg)
	s, err := g.tryOpenSocket(t, g.Host, cfg)
	if err == nil {
		err = errors.Join(errOpened, s.Close())
	}
	explained(t, "a queue that is taken", err, unix.EBUSY, fmt.Sprintf("process %d (", os.Getpid()))
}

// TestRingSizes has a fill ring that the device's ring does not fit, which a zero-copy
// driver cannot be given all frames from, and one that it does.
func TestRingSizes(t *testing.T) {
	g := open(t, wiring.Virtio, 0)
	for size, want := range map[uint32]int{64: 1, 256: 0} {
		set := g.openAll(t, xsk.SetConfig{Socket: xsk.Config{
			Interface: lab.HostDevice, Bind: xsk.BindZeroCopy, Rings: xsk.RingSizes{RX: size, TX: 64},
		}})
		var found []xsk.Finding
		err := g.Host.Do(func() (err error) {
			found, err = set.Check()
			return err
		})
		if err := errors.Join(err, set.Close()); err != nil {
			t.Error(err)
		}
		if len(found) != want || want != 0 && (found[0].Level != xsk.Warning || !strings.Contains(found[0].Text, "receive ring has 256 descriptors")) {
			t.Errorf("%d descriptors: %v", size, found)
		}
	}
}

// TestOldKernel runs on a kernel without zero-copy on these devices only.
func TestOldKernel(t *testing.T) {
	if os.Getenv(wiring.OldKernelEnv) == "" {
		t.Skip("needs a kernel without zero-copy: another machine has it")
	}
	for _, pair := range []wiring.Pair{wiring.IGB, wiring.Virtio} {
		if _, ok := wiring.Find(pair); !ok {
			continue
		}
		t.Run(pair.String(), func(t *testing.T) {
			g := open(t, pair, 0)
			refused(t, "zero-copy", errors.ErrUnsupported, "since Linux 6.1", g, g.stackConfig(zeroCopy()))
			g.running(t)
			carries(t, g, g.stackConfig(netdev.Config{}))
		})
	}
}
