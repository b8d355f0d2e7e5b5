package xsk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/sys"
	"github.com/afxnet/afxnet/umem"
)

// registerUMEM gives a region to the kernel. A kernel before 6.8 takes the length
// of TX metadata and ignores it; one that has them tells what its devices do with
// them. One before 6.11 does without the flag, and refuses it.
func registerUMEM(sock *sys.Socket, region *umem.Region, dev hostif.Interface) error {
	flags := uint32(0)
	if region.Unaligned() {
		flags = unix.XDP_UMEM_UNALIGNED_CHUNK_FLAG
	}
	metadata := region.TXMetadata()
	register := func(flags uint32) error {
		return sock.RegisterUMEM(region.Memory(), region.ChunkSize(), region.Headroom(), metadata, flags)
	}
	if metadata == 0 {
		return register(flags)
	}
	f, err := hostif.ReadXDPFeatures(dev.Index)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if !f.TXMetadata {
		return errNoTXMetadata
	}
	if err := register(flags | unix.XDP_UMEM_TX_METADATA_LEN); !errors.Is(err, unix.EINVAL) {
		return err
	}
	return register(flags)
}

var errNoTXMetadata = &UnsupportedError{Feature: "TX metadata", MinKernel: "6.8"}

// txOffloadBar returns why not all of o is known to be honoured for packets sent
// on dev in a mode, nil if it is.
func txOffloadBar(dev hostif.Interface, o TXOffload, zerocopy bool) *bar {
	if o == 0 {
		return nil
	}
	f, err := hostif.ReadXDPFeatures(dev.Index)
	switch {
	case err != nil && !errors.Is(err, unix.ENOENT):
		return &bar{why: err.Error(), cause: err}
	case zerocopy && !f.ZeroCopy:
		return nil // nor will the bind be in that mode
	}
	return txOffloadBarOf(dev.Driver, f, kernelRelease(), o, zerocopy)
}

func txOffloadBarOf(driver string, f hostif.XDPFeatures, release string, o TXOffload, zerocopy bool) *bar {
	if !f.TXMetadata {
		return &bar{why: errNoTXMetadata.Error(), cause: errNoTXMetadata, fix: "use a later kernel"}
	}
	missing := o &^ honoured(driver, f, release, zerocopy)
	barred := func(fix, format string, args ...any) *bar {
		return &bar{why: fmt.Sprintf(format, args...), fix: fix}
	}
	switch {
	case missing == 0:
		return nil
	case zerocopy:
		fix := "bind in copy mode (BindCopy), in which the kernel does it"
		if missing&TXLaunchTime != 0 {
			fix = "use a NIC and driver that declare it"
		}
		return barred(fix, "%s does not declare %v for zero-copy sockets, and would ignore it", driver, missing)
	case missing&TXLaunchTime != 0:
		return barred("bind in zero-copy mode to a NIC whose driver declares tx launch time",
			"in copy mode packets pass by the queueing disciplines, and none is held back until its launch time")
	}
	return barred("use a later kernel", "in copy mode the kernel ignores what packets to %s ask for before Linux %s", driver, copyMetadataSince[driver])
}

// honoured returns what is known to be done for packets that ask for it.
func honoured(driver string, f hostif.XDPFeatures, release string, zerocopy bool) (o TXOffload) {
	if zerocopy {
		for _, d := range []struct {
			is       TXOffload
			declared bool
		}{{TXTimestamp, f.TXTimestamp}, {TXChecksum, f.TXChecksum}, {TXLaunchTime, f.TXLaunchTime}} {
			if d.declared {
				o |= d.is
			}
		}
		return o
	}
	if since := copyMetadataSince[driver]; !f.TXMetadata || since != "" && !releaseSince(release, since) {
		return 0
	}
	// The kernel completes a checksum that the device does not, on the packet's
	// way to it (validate_xmit_skb, net/core/dev.c), and takes the time itself
	// (xsk_destruct_skb, net/xdp/xsk.c).
	return TXChecksum | TXTimestamp
}

// copyMetadataSince are drivers that take packets without a linear part
// (IFF_TX_SKB_NO_LINEAR): these are built on a way of their own in the kernel,
// which looked at no metadata before.
var copyMetadataSince = map[string]string{"virtio_net": "6.18"}

// releaseSince is releaseAtLeast for a release as text.
func releaseSince(release, since string) bool {
	var major, minor int
	fmt.Sscanf(since, "%d.%d", &major, &minor) //nolint:errcheck // ours
	return releaseAtLeast(release, major, minor)
}
