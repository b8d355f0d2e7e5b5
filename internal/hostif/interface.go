package hostif

import (
	"fmt"
	"net"
)

// Interface is the state of a network interface at the time of a Lookup.
type Interface struct {
	Name   string           // the kernel's primary name, also if an alternative name was looked up
	Index  int              // unique within its network namespace
	MAC    net.HardwareAddr // nil if the interface has no Ethernet address
	MTU    int              // bytes of an IP packet, without the Ethernet header
	Driver string           // as ethtool names it; "" if the driver has no ethtool support

	Up      bool // administratively up (IFF_UP)
	Running bool // up, with carrier, and ready to carry frames (IFF_RUNNING)

	// RXQueues and TXQueues count the hardware queues in use: an AF_XDP
	// socket can be bound to queue ids below the larger of the two. Combined
	// is how many of both are one channel, serving RX and TX with one
	// interrupt.
	RXQueues, TXQueues, Combined int

	XDP XDP
}

// XDP is the XDP program attached to an interface.
type XDP struct {
	// ID is the program's id in the kernel. It is zero when no program is
	// attached, and in mode XDPMultiple, where there is more than one.
	ID   uint32
	Mode XDPMode
}

// XDPMode says where an attached XDP program runs. The values are the
// kernel's XDP_ATTACHED_* (linux/if_link.h, since 4.8; XDPMultiple 4.20).
type XDPMode uint8

// The attach modes.
const (
	XDPNone     XDPMode = iota // no program
	XDPNative                  // in the driver
	XDPGeneric                 // in the stack, after the driver has built an skb
	XDPOffload                 // on the NIC
	XDPMultiple                // on the NIC and on the host
)

// String returns the mode as it is called in messages.
func (m XDPMode) String() string {
	names := [...]string{"none", "native", "generic", "offload", "multiple"}
	if int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("XDPMode(%d)", uint8(m))
}
