//go:build linux && (amd64 || arm64)

package xsk

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// queues looks at channels, RSS and ring sizes. A set has a socket on every queue,
// so nothing is missed by it; who binds one has to know where flows arrive.
func (c *checker) queues() {
	switch n := c.RXQueues; {
	case n <= 1:
		c.add(SubjectQueues, OK, "", "one receive queue: one socket gets everything")
	default:
		f := checkQueues(c.dev, []uint32{0})
		if len(f) == 0 {
			c.add(SubjectQueues, OK, "", "%d receive queues, but flows arrive on queue 0 only", n)
		} else {
			c.add(SubjectQueues, Note, "bind a socket to each (OpenAll does); or for one socket: "+strings.TrimPrefix(f[0].Fix, fixAllQueues+", or "),
				"%d receive queues: a socket on queue 0 alone misses what arrives on the others", n)
		}
	}
	var all []uint32
	for q := range c.RXQueues {
		all = append(all, uint32(q))
	}
	c.Findings = append(c.Findings, checkSenders(c.dev, all)...)
	if ch := c.channels; ch.MaxCombined > ch.Combined && ch.Combined > 0 {
		c.add(SubjectQueues, OK, "", "%d of %d channels are in use", ch.Combined, ch.MaxCombined)
	}
	if r, err := hostif.ReadRings(c.dev.Name); err == nil {
		c.Findings = append(c.Findings, checkRings(c.dev.Name, Note, r, defaultRingSize)...)
	}
}

// offloads looks for those that get in the way.
func (c *checker) offloads() {
	n := len(c.Findings)
	for _, o := range []struct {
		feature, short string
		level          Level
		text           string
	}{
		{"rx-lro", "lro", Warning, "LRO is on: drivers may refuse a native program then, or hand over merged packets"},
		{"rx-gro-hw", "rx-gro-hw", Warning, "the device merges received packets: drivers may refuse a native program then"},
		{"rx-vlan-hw-parse", "rxvlan", Note, "the driver may take VLAN tags off before the program sees them: packets of a VLAN then look untagged"},
	} {
		if on, err := hostif.FeatureOn(c.dev.Name, o.feature); err == nil && on {
			c.add(SubjectOffloads, o.level, "ethtool -K "+c.dev.Name+" "+o.short+" off", "%s", o.text)
		}
	}
	if c.dev.Driver == "veth" {
		c.add(SubjectOffloads, Note, "in the peer's namespace: ethtool -K PEER tx off",
			"a veth's other end leaves checksums to a device that is not there: received TCP and UDP checksums are partial while its transmit offload is on")
	}
	if n == len(c.Findings) {
		c.add(SubjectOffloads, OK, "", "none is in the way")
	}
}

// metadata tells what a zero-copy socket could ask for.
func (c *checker) metadata() {
	f := c.features
	if c.featuresErr != nil || f.TXChecksum || f.TXTimestamp || f.TXLaunchTime || f.RXHash || f.RXTimestamp || f.RXVLANTag {
		return
	}
	c.add(SubjectMetadata, OK, "", "the driver declares no packet metadata (hash, timestamp, checksum): what asks the device for it is refused")
}

// effectiveCapabilities returns the calling thread's, 0 if they cannot be read.
func effectiveCapabilities() uint64 {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
}
