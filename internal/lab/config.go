package lab

import (
	"fmt"
	"net/netip"
)

// The interfaces of every lab.
const (
	HostDevice = "afx0"  // in Lab.Host: the AF_XDP side
	PeerDevice = "peer0" // in Lab.Peer
)

// Bounds of Config.
const (
	maxQueues = 64    // far more than any machine for tests has CPUs
	minMTU    = 1280  // IPv6 needs it (RFC 8200, section 5)
	maxMTU    = 65535 // ETH_MAX_MTU
)

// Config describes a lab. The zero value works.
type Config struct {
	// Queues is the number of RX queues, and of TX queues, on the AF_XDP side:
	// 1 to 64. Zero means 1.
	Queues int

	// TXQueues is the number of TX queues on the AF_XDP side, if there are to be
	// fewer: 1 to Queues. Zero means Queues.
	TXQueues int

	// PeerQueues is Queues of the peer: 1 to Queues, since veth takes no
	// XDP program on an interface with fewer RX queues than the other end has
	// TX queues. Zero means Queues.
	PeerQueues int

	// MTU is that of both interfaces in bytes, 1280 to 65535. Zero means 1500.
	// An XDP program without multi-buffer support (BPF_F_XDP_HAS_FRAGS) can
	// only be attached up to about 3500 (veth_xdp_set, drivers/net/veth.c).
	MTU int

	// NICs are the names of two interfaces, joined by a wire, to use in place
	// of a veth pair: the AF_XDP side and the peer. They are moved out of the
	// network namespace of the caller of Open, and back by Close, down. Queues
	// and offloads stay as they are; Queues, TXQueues and PeerQueues must be zero.
	NICs [2]string

	// Offloads leaves TX checksum and segmentation offloads of both ends as
	// veth has them: on. The package comment says why they are off otherwise.
	Offloads bool
}

// withDefaults returns the configuration in force.
func (c Config) withDefaults() (Config, error) {
	if c.onNICs() {
		if c.NICs[0] == "" || c.NICs[1] == "" || c.Queues != 0 || c.TXQueues != 0 || c.PeerQueues != 0 {
			return c, fmt.Errorf("lab: NICs are %q, Queues %d, %d and %d: want both NICs, and the queues that they have", c.NICs, c.Queues, c.TXQueues, c.PeerQueues)
		}
		c.Offloads = true
	}
	if c.Queues == 0 {
		c.Queues = 1
	}
	if c.TXQueues == 0 {
		c.TXQueues = c.Queues
	}
	if c.PeerQueues == 0 {
		c.PeerQueues = c.Queues
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	switch {
	case c.Queues < 1 || c.Queues > maxQueues:
		return c, fmt.Errorf("lab: Queues is %d, want 1 to %d", c.Queues, maxQueues)
	case c.TXQueues < 1 || c.TXQueues > c.Queues:
		return c, fmt.Errorf("lab: TXQueues is %d, want 1 to Queues (%d)", c.TXQueues, c.Queues)
	case c.PeerQueues < 1 || c.PeerQueues > c.Queues:
		return c, fmt.Errorf("lab: PeerQueues is %d, want 1 to Queues (%d)", c.PeerQueues, c.Queues)
	}
	return c, checkMTU(c.MTU)
}

// onNICs tells whether the lab is made of interfaces that are there already.
func (c Config) onNICs() bool { return c.NICs != [2]string{} }

func checkMTU(mtu int) error {
	if mtu < minMTU || mtu > maxMTU {
		return fmt.Errorf("lab: MTU is %d, want %d to %d", mtu, minMTU, maxMTU)
	}
	return nil
}

// Address numbers in both networks; the package comment has the picture.
const (
	stackNumber = 1
	peerNumber  = 2
	hostNumber  = 3
)

func v4(number byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 0, number}), 24)
}

func v6(number byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 15: number}), 64)
}
