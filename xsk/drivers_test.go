package xsk

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/umem"
)

func regionOf(t *testing.T, cfg umem.Config) *umem.Region {
	t.Helper()
	cfg.Chunks, cfg.OnHeap = 8, true
	r, err := umem.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestZeroCopyBar has the true limit of each driver and chunk size in the message.
func TestZeroCopyBar(t *testing.T) {
	for _, tc := range []struct {
		driver  string
		mtu     int
		umem    umem.Config
		several bool
		says    string // empty: no bar
	}{
		{driver: "igb", mtu: 1500, umem: umem.Config{ChunkSize: 4096}},
		{driver: "igb", mtu: 3046, umem: umem.Config{ChunkSize: 4096}},
		{driver: "igb", mtu: 3047, umem: umem.Config{ChunkSize: 4096}, says: "MTU of 3046, not 3047"},
		{driver: "igb", mtu: 1500, umem: umem.Config{ChunkSize: 2048}, says: "chunks of 2048 bytes with 0 of headroom hold an MTU of 998, not 1500"},
		{driver: "igb", mtu: 1500, umem: umem.Config{ChunkSize: 2048}, several: true},
		{driver: "igb", mtu: 3000, umem: umem.Config{ChunkSize: 4096, Headroom: 800}, says: "with 800 of headroom hold an MTU of 2022, not 3000"},
		{driver: "virtio_net", mtu: 1500, umem: umem.Config{ChunkSize: 2048}},
		{driver: "virtio_net", mtu: 3814, umem: umem.Config{ChunkSize: 4096}},
		{driver: "virtio_net", mtu: 3815, umem: umem.Config{ChunkSize: 4096}, says: "steps of 128: chunks of 4096 bytes with 0 of headroom hold an MTU of 3814, not 3815"},
		{driver: "ice", mtu: 1767, umem: umem.Config{ChunkSize: 2048}, says: "hold an MTU of 1766"},
		{driver: "ice", mtu: 3687, umem: umem.Config{ChunkSize: 4096, Headroom: 1}, says: "1 of headroom hold an MTU of 3686"},
		{driver: "ice", mtu: 1500, umem: umem.Config{ChunkSize: 3072, Unaligned: true}, says: "unaligned chunks on ordinary pages"},
	} {
		dev := hostif.Interface{Name: "eth0", Driver: tc.driver, MTU: tc.mtu}
		b := zeroCopyBar(dev, regionOf(t, tc.umem), tc.several)
		if (b != nil) != (tc.says != "") || b != nil && (!strings.Contains(b.why, tc.says) || !errors.Is(b.err(), errors.ErrUnsupported) || b.fix == "") {
			t.Errorf("%+v: %+v", tc, b)
		}
	}
}

func TestWhyCopy(t *testing.T) {
	zc := hostif.XDPFeatures{ZeroCopy: true, ZeroCopySegments: 1}
	for _, tc := range []struct {
		driver    string
		f         hostif.XDPFeatures
		err       error
		several   bool
		why, does string
	}{
		{driver: "veth", why: "veth has no zero-copy, as a virtual device", does: "copy mode"},
		{driver: "ice", why: "ice has no zero-copy in this kernel", does: "newer kernel"},
		{driver: "igb", why: "since Linux 6.14", does: "later kernel"},
		{driver: "virtio_net", err: syscall.ENOENT, why: "since Linux 6.13", does: "copy mode"},
		{driver: "", why: "of this device has no zero-copy", does: "copy mode"},
		{driver: "igb", f: zc, several: true, why: "an MTU of 3814 at most; this one is 9000", does: "ip link set eth0 mtu 3814"},
		{driver: "virtio_net", f: zc, why: "transport", does: "iommu_platform=on"},
		{driver: "ice", f: zc, why: "declares zero-copy, and refused", does: "native mode"},
		{driver: "ice", err: syscall.ENOENT, why: "before Linux 6.3", does: "copy mode"},
		{driver: "ice", err: syscall.EIO, why: "could not be read: input/output error"},
	} {
		why, fix := whyCopyOf(hostif.Interface{Name: "eth0", Driver: tc.driver, MTU: 9000}, tc.f, tc.err, tc.several, 3814)
		if !strings.Contains(why, tc.why) || !strings.Contains(fix, tc.does) {
			t.Errorf("%+v: %s; fix: %s", tc, why, fix)
		}
	}
}

// TestMemoryRemedy tells what to do where there is no memory as it was asked for.
func TestMemoryRemedy(t *testing.T) {
	for _, tc := range []struct {
		err  error
		umem umem.Config
		says string
	}{
		{syscall.ENOMEM, umem.Config{}, "fewer chunks"},
		{syscall.ENOMEM, umem.Config{HugePages: umem.HugePagesTry}, "fewer chunks"},
		{syscall.ENOMEM, umem.Config{HugePages: umem.HugePagesRequire}, "umem.HugePagesTry"},
		{syscall.EINVAL, umem.Config{Node: umem.OnNode(7)}, "node/online"},
		{errors.New("umem: Config.Chunks: 1"), umem.Config{}, "Config.UMEM"},
	} {
		if got := memoryRemedy(tc.err, tc.umem); !strings.Contains(got, tc.says) {
			t.Errorf("%v, %+v: %q does not say %q", tc.err, tc.umem, got, tc.says)
		}
	}
}
