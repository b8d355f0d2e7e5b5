package xsk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/afxnet/afxnet/umem"
)

// # Receive metadata
//
// A descriptor says where a packet is and how long, not what the device knows of
// it. That is for the program to ask (the kernel's bpf_xdp_metadata_rx_*
// functions) and to leave in the frame, right before the packet:
//
//	chunk   | headroom ............ | metadata 32 | packet ............ |
//	                                               Desc.Addr
//
//	offset  bytes  metadata, of which bpf/metadata.h is the program's side
//	-32     8      timestamp
//	-24     4      hash
//	-20     4      what the hash covers
//	-16     2      EtherType of the VLAN tag, in network byte order
//	-14     2      VLAN tag
//	-12     4      RXMetadataSet: which of these there are
//	 -8     8      marker
//
// Nothing in a descriptor tells whether there is any, and those bytes may be
// anything: what an earlier packet had there, or part of a packet that was sent
// from the frame. So program and socket agree on a marker, a random number that no
// packet can guess, and Receive takes it away as soon as it has seen it: it counts
// for one packet.

// RXMetadataSet names what a device can tell about a received packet.
type RXMetadataSet uint8

// The list is that of METADATA_* in bpf/metadata.h.
const (
	RXHash      RXMetadataSet = 1 << iota // the hash that chose the queue; Linux 6.3
	RXTimestamp                           // when the packet arrived; Linux 6.3
	RXVLANTag                             // the VLAN tag that the device took off; Linux 6.8

	rxMetadataAll = RXHash | RXTimestamp | RXVLANTag
)

var rxMetadataNames = []string{"hash", "timestamp", "vlan tag"}

// String returns the names, "hash, timestamp", or "nothing".
func (m RXMetadataSet) String() string {
	var names []string
	for i, name := range rxMetadataNames {
		if m>>i&1 != 0 {
			names = append(names, name)
		}
	}
	if len(names) < bits.OnesCount8(uint8(m)) {
		names = append(names, fmt.Sprintf("unknown %#x", uint8(m&^rxMetadataAll)))
	}
	if names == nil {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// RXHashType says which parts of a packet its hash covers: a set of bits, those of
// enum xdp_rss_hash_type (Linux 6.3, include/net/xdp.h). Zero is that the device
// does not say.
type RXHashType uint32

// The bits.
const (
	RXHashIPv4    RXHashType = 1 << iota // addresses of IPv4
	RXHashIPv6                           // addresses of IPv6
	RXHashOptions                        // their options or extension headers
	RXHashL4                             // some transport protocol, with ports if it has any
	RXHashTCP
	RXHashUDP
	RXHashSCTP
	RXHashIPSec
	RXHashICMP
)

// RXMetadata is what a device has told about a received packet.
type RXMetadata struct {
	Valid RXMetadataSet // which of the fields hold; the others are zero

	Hash     uint32
	HashType RXHashType

	// Timestamp is in nanoseconds by the device's clock, whatever that is set to:
	// see phc_ctl and phc2sys of linuxptp, and SIOCSHWTSTAMP for switching it on.
	Timestamp uint64

	// VLANProto is the EtherType of the tag, 0x8100 or 0x88a8; VLANTCI is the tag
	// itself, whose low 12 bits are the VLAN. A tag that is still in the packet is
	// not here.
	VLANProto, VLANTCI uint16
}

const (
	metadataSize   = 32      // bytes; struct metadata in bpf/metadata.h
	metadataMarker = 24      // where the marker is in them
	optionMetadata = 1 << 31 // of descriptors that Receive returns: the packet has metadata
)

// Metadata returns what the program left in the frame about a packet that Receive
// returned; of one over several frames, d is the first descriptor. ok tells
// whether it left anything: it does not without Config.MetadataMarker, if the
// marker is another, and if nothing that could be metadata fits into the frame
// before the packet. Whoever holds the frame may call it, until the packet is
// overwritten.
func (r *RX) Metadata(d umem.Desc) (m RXMetadata, ok bool) {
	if r.marker == 0 || d.Options&optionMetadata == 0 {
		return m, false
	}
	b := r.metadataOf(d.Addr)
	if b == nil {
		return m, false
	}
	order := binary.NativeEndian
	m.Valid = RXMetadataSet(order.Uint32(b[20:])) & rxMetadataAll
	if m.Valid&RXTimestamp != 0 {
		m.Timestamp = order.Uint64(b)
	}
	if m.Valid&RXHash != 0 {
		m.Hash, m.HashType = order.Uint32(b[8:]), RXHashType(order.Uint32(b[12:]))
	}
	if m.Valid&RXVLANTag != 0 {
		m.VLANProto, m.VLANTCI = binary.BigEndian.Uint16(b[16:]), order.Uint16(b[18:])
	}
	return m, true
}

// metadataOf returns the bytes before the packet at a in which its metadata would
// be, nil if they are not all in its chunk.
func (r *RX) metadataOf(a umem.Addr) []byte {
	before := a - r.region.Frame(a)
	if chunk := r.region.Chunk(a); before >= metadataSize && chunk != nil {
		return chunk[before-metadataSize : before : before]
	}
	return nil
}

// takeMarkers looks for the markers of received packets, whose descriptors all are
// in descs, notes them in the descriptors and takes them away.
func (r *RX) takeMarkers(descs []umem.Desc) {
	first := true
	for i := range descs {
		d := &descs[i]
		d.Options &^= optionMetadata // it came from shared memory
		if first {
			b := r.metadataOf(d.Addr)
			if b != nil && binary.NativeEndian.Uint64(b[metadataMarker:]) == r.marker {
				d.Options |= optionMetadata
				clear(b[metadataMarker:])
			}
		}
		first = !d.Continues()
	}
}

// check finds what no device could give.
func (m RXMetadataSet) check(mode AttachMode) error {
	if unknown := m &^ rxMetadataAll; unknown != 0 {
		return fmt.Errorf("ProgramConfig.Metadata: %v: no such metadata", unknown)
	}
	if m != 0 && mode != AttachAuto && mode != AttachNative {
		return fmt.Errorf("ProgramConfig.Metadata: %v, but the kernel runs a program that asks the device (BPF_F_XDP_DEV_BOUND_ONLY) in native mode only, not in %v mode: %w", m, mode, errors.ErrUnsupported)
	}
	return nil
}
