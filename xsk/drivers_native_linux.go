//go:build linux && (amd64 || arm64)

package xsk

import (
	"fmt"

	"github.com/afxnet/afxnet/internal/hostif"
)

// A nativeLimit is what a driver asks of its device before it takes a program in
// native mode, where that is more than the kernel asks of each.
type nativeLimit struct {
	mtu          int  // the largest, 0 if the driver has no bound of its own
	halfChannels bool // at most half of the channels may be in use: the others carry what programs send
}

// nativeLimits are those of the kernel's own drivers; beyond them they answer an
// attach with EINVAL. igb wants a packet to fit its receive buffers, of 3072 bytes
// then (igb_xdp_setup; seen). ena: ena_xdp_allowed in
// drivers/net/ethernet/amazon/ena/ena_xdp.h, Linux 6.18, where ENA_XDP_MAX_MTU is a
// page without Ethernet header, VLAN tag, checksum, the program's headroom and
// skb_shared_info. Amazon's own releases from 2.17 on do without the second rule.
var nativeLimits = map[string]nativeLimit{
	"igb": {mtu: 3072 - zeroCopyOverhead},
	"ena": {mtu: 3498, halfChannels: true},
}

const orGeneric = ", or attach with AttachGeneric"

// nativeBar returns why the driver of dev may refuse a program in native mode, and
// the command that mends it; both are empty if nothing is known against it. ch are
// the device's channels, all zero where they are not known.
func nativeBar(dev hostif.Interface, ch hostif.Channels) (why, fix string) {
	limit := nativeLimits[dev.Driver]
	if limit.mtu != 0 && dev.MTU > limit.mtu {
		return fmt.Sprintf("%s takes a program in native mode up to an MTU of %d, and this one is %d", dev.Driver, limit.mtu, dev.MTU),
			fixMTU(dev.Name, limit.mtu) + orGeneric
	}
	if half := ch.MaxCombined / 2; limit.halfChannels && half > 0 && ch.Combined > half {
		return fmt.Sprintf("%s keeps a channel for what each other one sends in native mode, and %d of %d are in use", dev.Driver, ch.Combined, ch.MaxCombined),
			fmt.Sprintf("ethtool -L %s combined %d", dev.Name, half) + orGeneric
	}
	return "", ""
}
