package xsk

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/umem"
)

// What is known about drivers, in one place: Open, its errors and Check all refer
// to it. Only what has been seen is here; what a driver declares by itself is read
// from the kernel (hostif.ReadXDPFeatures).

// receiveSteps are drivers that fill zero-copy buffers only up to a multiple of
// so many bytes, and cut a longer packet in two without marking it: igb (Linux
// 6.18 and 7.2, chunks of 2048 bytes; its buffer size register SRRCTL counts KiB).
var receiveSteps = map[string]int{"igb": 1024}

// zeroCopyPacket returns the longest packet in bytes that a zero-copy socket gets
// in one chunk, Ethernet header included.
func zeroCopyPacket(driver string, region *umem.Region) int {
	n := region.MaxPacket()
	if step := receiveSteps[driver]; step != 0 {
		n -= n % step
	}
	return n
}

// zeroCopyBar says why a region must not be bound in zero-copy mode although the
// kernel would do it; nil if it may.
func zeroCopyBar(dev hostif.Interface, region *umem.Region, several bool) error {
	if on, _ := region.HugePages(); region.Unaligned() && !on {
		return fmt.Errorf("unaligned chunks on ordinary pages are not contiguous for a device: use huge pages (umem.Config.HugePages), or aligned chunks: %w", errors.ErrUnsupported)
	}
	most := zeroCopyPacket(dev.Driver, region) - ethernetOverhead
	if several || dev.MTU <= most {
		return nil
	}
	return fmt.Errorf("%s fills zero-copy buffers in steps of %d bytes and cuts longer packets: chunks of %d bytes with %d of headroom hold an MTU of %d, not %d: use larger chunks, or set a smaller MTU: %w",
		dev.Driver, receiveSteps[dev.Driver], region.ChunkSize(), region.Headroom(), most, dev.MTU, errors.ErrUnsupported)
}

// whyCopy explains, from what the driver of dev declares, why a bind is not or
// would not be a zero-copy one, and what would mend it. chunkMTU is the MTU that
// one chunk holds.
func whyCopy(dev hostif.Interface, several bool, chunkMTU int) (why, fix string) {
	f, err := hostif.ReadXDPFeatures(dev.Index)
	return whyCopyOf(dev, f, err, several, chunkMTU)
}

func whyCopyOf(dev hostif.Interface, f hostif.XDPFeatures, err error, several bool, chunkMTU int) (why, fix string) {
	const copyMode = "use copy mode (BindCopy, BindAuto), or a NIC with zero-copy"
	driver := dev.Driver
	if driver == "" {
		driver = "of this device"
	}
	switch {
	case errors.Is(err, syscall.ENOENT):
		return "the kernel does not tell what the driver can do (before Linux 6.3); it may have no zero-copy, or not with these sizes", copyMode
	case err != nil:
		return fmt.Sprintf("what the driver can do could not be read: %v", err), ""
	case !f.ZeroCopy && isVirtual(dev.Driver):
		return "the driver " + driver + " has no zero-copy, as a virtual device has no memory of its own to spare the copy from", copyMode
	case !f.ZeroCopy:
		return "the driver " + driver + " has no zero-copy in this kernel", "use a newer kernel, if that has it for the driver; " + copyMode
	case several && f.ZeroCopySegments < 2:
		return fmt.Sprintf("the driver %s takes one buffer for each zero-copy packet, so an MTU of %d at most; this one is %d", driver, chunkMTU, dev.MTU),
			fmt.Sprintf("ip link set %s mtu %d", dev.Name, chunkMTU)
	case dev.Driver == "virtio_net":
		return "the driver virtio_net has zero-copy only where the transport can do DMA, and this device's may not",
			"give the virtual machine's device the feature VIRTIO_F_ACCESS_PLATFORM (QEMU: -device virtio-net-pci,iommu_platform=on,disable-legacy=on)"
	}
	return "the driver " + driver + " declares zero-copy, and refused: it may not have it with this chunk size, MTU or number of queues, or not with the program in generic mode",
		"use chunks of 4096 bytes, attach the program in native mode, and see dmesg"
}

// isVirtual tells whether a driver has no hardware or virtual hardware behind it.
func isVirtual(driver string) bool {
	switch driver {
	case "veth", "bonding", "bridge", "802.1Q VLAN Support", "macvlan", "ipvlan", "tun", "dummy", "team", "netkit":
		return true
	}
	return false
}

// newRegion makes a region, on the NUMA node of the device if it has one and the
// configuration does not name another.
func newRegion(cfg umem.Config, dev hostif.Interface) (*umem.Region, error) {
	if node := dev.NUMANode(); node >= 0 && cfg.Node == 0 && !cfg.OnHeap {
		cfg.Node = umem.OnNode(node)
		if region, err := umem.New(cfg); err == nil {
			return region, nil
		}
		cfg.Node = 0 // better far away than not at all
	}
	return umem.New(cfg)
}
