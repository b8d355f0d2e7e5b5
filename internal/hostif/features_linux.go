package hostif

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of NETDEV_CMD_DEV_GET, linux/netdev.h (6.3; 6.6, 6.8 the later ones).
const (
	netdevDevXDPFeatures    = 3
	netdevDevXDPRXMetadata  = 5
	netdevDevXSKFeatures    = 6
	netdevXDPBasic          = 1 << 0
	netdevXDPRedirect       = 1 << 1
	netdevXDPTransmit       = 1 << 2
	netdevXDPZeroCopy       = 1 << 3
	netdevXDPOffload        = 1 << 4
	netdevXDPReceiveSeveral = 1 << 5
	netdevRXTimestamp       = 1 << 0
	netdevRXHash            = 1 << 1
	netdevRXVLANTag         = 1 << 2
	netdevTXTimestamp       = 1 << 0
	netdevTXChecksum        = 1 << 1
	netdevTXLaunchTime      = 1 << 2
	netdevFlagsLen          = 8 // bytes of each of the sets of flags
)

// ReadXDPFeatures returns what the driver of the interface with this index
// declares. What it declares need not be so: virtio_net declares zero-copy also
// where its transport cannot do it. Where the kernel does not say, before Linux
// 6.3, errors.Is(err, unix.ENOENT) holds.
func ReadXDPFeatures(index int) (XDPFeatures, error) {
	fail := func(err error) (XDPFeatures, error) {
		return XDPFeatures{}, fmt.Errorf("hostif: XDP features, interface index %d: %w", index, err)
	}
	family, err := genericNetlink(unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY, unix.CTRL_ATTR_FAMILY_NAME, []byte(netdevFamily))
	if err != nil {
		return fail(err)
	}
	id := family[unix.CTRL_ATTR_FAMILY_ID]
	if len(id) < 2 {
		return fail(unix.ENOENT)
	}
	attrs, err := genericNetlink(int(native.Uint16(id)), netdevCmdDevGet, netdevDevIfindex, nl.Uint32Attr(uint32(index)))
	if err != nil {
		return fail(err)
	}
	flags := func(attr uint16) uint64 {
		if v := attrs[attr]; len(v) >= netdevFlagsLen {
			return native.Uint64(v)
		}
		return 0
	}
	xdp, rx, xsk := flags(netdevDevXDPFeatures), flags(netdevDevXDPRXMetadata), flags(netdevDevXSKFeatures)
	f := XDPFeatures{
		Native: xdp&netdevXDPBasic != 0, Redirect: xdp&netdevXDPRedirect != 0, Transmit: xdp&netdevXDPTransmit != 0,
		ZeroCopy: xdp&netdevXDPZeroCopy != 0, Offload: xdp&netdevXDPOffload != 0, MultiBuffer: xdp&netdevXDPReceiveSeveral != 0,
		RXTimestamp: rx&netdevRXTimestamp != 0, RXHash: rx&netdevRXHash != 0, RXVLANTag: rx&netdevRXVLANTag != 0,
		TXTimestamp: xsk&netdevTXTimestamp != 0, TXChecksum: xsk&netdevTXChecksum != 0, TXLaunchTime: xsk&netdevTXLaunchTime != 0,
		ZeroCopySegments: 1,
	}
	_, f.TXMetadata = attrs[netdevDevXSKFeatures]
	if v := attrs[netdevDevXDPZCMaxSegs]; len(v) >= 4 {
		f.ZeroCopySegments = max(1, int(native.Uint32(v)))
	}
	return f, nil
}
