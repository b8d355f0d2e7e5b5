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
// 6.18 and 7.2; its buffer size register SRRCTL counts KiB).
var receiveSteps = map[string]int{"igb": 1024}

// The kernel binds in zero-copy mode only if a chunk holds the MTU and two VLAN
// tags and the checksum, in whole pieces of 128 bytes: since spring 2026, in stable
// releases too (xp_assign_dev, net/xdp/xsk_buff_pool.c); seen in 7.3. igb compares
// the same sum with its buffers in every release (IGB_ETH_PKT_HDR_PAD).
const (
	zeroCopyOverhead = ethernetOverhead + 4 + 4
	zeroCopyStep     = 128
)

// zeroCopySince is the Linux release from which on drivers had zero-copy that were
// there before: neither has it in 6.12, both do in 6.18.
var zeroCopySince = map[string]string{"igb": "6.14", "virtio_net": "6.13"}

// zeroCopyMTU returns the largest MTU that a zero-copy socket gets in chunks with
// room for packets of so many bytes.
func zeroCopyMTU(driver string, room int) int {
	room -= room % max(zeroCopyStep, receiveSteps[driver])
	return max(room-zeroCopyOverhead, 0)
}

// A bar is why a region must not be bound in zero-copy mode, although the kernel
// may do it, and what would mend that.
type bar struct {
	why, fix string
	cause    error // if there is one that says why by itself
}

func (b *bar) err() error {
	if b.cause != nil {
		return b.cause
	}
	return fmt.Errorf("%s: %w", b.why, errors.ErrUnsupported)
}

// zeroCopyBar returns what is known against a zero-copy bind, nil if nothing is.
// several asks for packets over several frames.
func zeroCopyBar(dev hostif.Interface, region *umem.Region, several bool) *bar {
	segments := 0
	if several {
		// No answer before Linux 6.6, and no zero-copy over several chunks. A driver
		// that has no zero-copy at all is told so by the bind.
		if f, err := hostif.ReadXDPFeatures(dev.Index); err == nil && f.ZeroCopy {
			segments = f.ZeroCopySegments
		}
	}
	return zeroCopyBarOf(dev, region, several, segments)
}

// zeroCopyBarOf is zeroCopyBar of a device that takes so many frames for each
// packet, 0 if that is not known.
func zeroCopyBarOf(dev hostif.Interface, region *umem.Region, several bool, segments int) *bar {
	barred := func(fix, format string, args ...any) *bar {
		return &bar{why: fmt.Sprintf(format, args...), fix: fix}
	}
	if dev.XDP.Mode == hostif.XDPGeneric {
		// igb receives so, and answers each sendto with EINVAL (6.18).
		return barred("attach the program in native mode, or bind in copy mode",
			"zero-copy with an XDP program in generic mode, where drivers receive without it and some cannot send")
	}
	if on, _ := region.HugePages(); region.Unaligned() && !on {
		return barred("use huge pages (umem.Config.HugePages), or aligned chunks",
			"unaligned chunks on ordinary pages are not contiguous for a device")
	}
	most := zeroCopyMTU(dev.Driver, region.MaxPacket())
	switch {
	case several && segments == 1:
		return barred(fmt.Sprintf("set an MTU of %d or less and leave MultiBuffer unset, or use copy mode", most),
			"%s takes one chunk for each zero-copy packet, and MTU %d with MultiBuffer asks for several", dev.Driver, dev.MTU)
	case several || dev.MTU <= most:
		return nil
	}
	why := fmt.Sprintf("a zero-copy bind needs room for the MTU and %d bytes, and counts it in steps of %d", zeroCopyOverhead, zeroCopyStep)
	if step := receiveSteps[dev.Driver]; step != 0 {
		why = fmt.Sprintf("%s fills zero-copy buffers in steps of %d bytes and cuts longer packets", dev.Driver, step)
	}
	return barred(fmt.Sprintf("set an MTU of %d or less, use 4096 byte chunks without headroom, or use copy mode", most),
		"%s: chunks of %d bytes with %d of headroom hold an MTU of %d, not %d", why, region.ChunkSize(), region.Headroom(), most, dev.MTU)
}

// whyCopy explains, from what the driver of dev declares, why a bind is not or
// would not be a zero-copy one, and what would mend it. chunkMTU is the MTU that
// one chunk holds in that mode.
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
	since := zeroCopySince[dev.Driver]
	switch {
	case since != "" && (errors.Is(err, syscall.ENOENT) || err == nil && !f.ZeroCopy):
		return dev.Driver + " has zero-copy since Linux " + since, "use a later kernel, or copy mode"
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
			fixMTU(dev.Name, chunkMTU)
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

// memoryRemedy is what to do if newRegion fails.
func memoryRemedy(err error, cfg umem.Config) string {
	_, named := cfg.Node.Number()
	switch {
	case errors.Is(err, syscall.ENOMEM) && cfg.HugePages == umem.HugePagesRequire:
		return "reserve as many huge pages, or take ordinary ones where there are none: umem.HugePagesTry"
	case errors.Is(err, syscall.ENOMEM):
		return "there is not so much memory: have fewer chunks, or smaller rings"
	case errors.Is(err, syscall.EINVAL) && named:
		return "umem.Config.Node has to be a node of /sys/devices/system/node/online"
	}
	return "change Config.UMEM, or Config.Rings, whose frames need chunks" // the error names the field
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
