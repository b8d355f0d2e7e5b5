package xsk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/afxnet/afxnet/umem"
)

// # TX metadata
//
// What is asked for with a packet stands right before it in its frame:
//
//	byte 0   what is asked for, a set of TXOffload
//	     8   asked: where the checksum begins, where it goes; then 4 bytes that
//	         are ours to mark "no timestamp yet"
//	     8   answered: the timestamp
//	    16   launch time
//	    24   TXRequest.ID, ours
//	    32   Config.UMEM.TXMetadata may be more than that
//	         the packet
//
// It is struct xsk_tx_metadata (linux/if_xdp.h, 6.8; the launch time 6.15) up to
// byte 24. The kernel finds it by the length of the whole, and reads none of what
// is behind the struct.
//
// Zero-copy drivers look at it with every packet, whatever the descriptor says
// (xsk_buff_get_metadata, Linux 6.8 include/net/xdp_sock_drv.h): so it is cleared
// for those that ask for nothing.

const (
	metaFlags      = 0
	metaChecksum   = 8
	metaTimestamp  = 8
	metaMark       = 12
	metaLaunchTime = 16
	metaID         = 24
)

// noTimestamp stands in the upper half of the timestamp until there is one: no
// clock gets there before the year 2554.
const noTimestamp = ^uint32(0)

// TXOffload is a set of what the kernel or the device can be asked to do with a
// packet. The values are the kernel's XDP_TXMD_FLAGS_*.
type TXOffload uint8

const (
	// TXTimestamp tells when the packet was sent; see TX.Timestamps.
	TXTimestamp TXOffload = 1 << iota
	// TXChecksum completes a TCP or UDP checksum.
	TXChecksum
	// TXLaunchTime holds the packet back until a time, and those behind it with
	// it (Linux 6.15).
	TXLaunchTime
)

func (o TXOffload) String() string {
	var names []string
	for _, n := range txOffloadNames {
		if o&n.is != 0 {
			names = append(names, n.name)
			o &^= n.is
		}
	}
	if o != 0 {
		names = append(names, fmt.Sprintf("transmit offload %#x", uint8(o)))
	}
	return strings.Join(names, ", ")
}

var txOffloadNames = [...]struct {
	is   TXOffload
	name string
}{{TXTimestamp, "tx timestamp"}, {TXChecksum, "tx checksum"}, {TXLaunchTime, "tx launch time"}}

const allTXOffloads = TXTimestamp | TXChecksum | TXLaunchTime

// TXRequest is what is asked for with one packet.
type TXRequest struct {
	// Do is what to do, out of Config.TXOffload.
	Do TXOffload

	// ChecksumStart is where the checksum begins, in bytes from the start of the
	// packet: the TCP or UDP header. ChecksumOffset is where in that header it
	// goes: 16 for TCP, 6 for UDP. The field must hold the sum of the
	// pseudo-header, folded and not complemented. Both lie in the packet's first
	// frame.
	//
	// On a virtual device the packet may arrive as it is, and only be known to the
	// receiving kernel as not to be checked: an AF_XDP socket or a packet socket
	// that receives it sees the sum of the pseudo-header.
	ChecksumStart, ChecksumOffset uint16

	// ID comes back with the timestamp.
	ID uint64

	// LaunchTime is when to send the packet, in nanoseconds of the device's PTP
	// clock. How far ahead it may be is the device's; the offload has to be
	// switched on for the queue (tc-etf(8)), or the device ignores it.
	LaunchTime uint64
}

// TXTime is when a packet was sent.
type TXTime struct {
	ID uint64 // TXRequest.ID

	// Time is in nanoseconds. In zero-copy mode it is the device's PTP clock, when
	// the packet left. In copy mode it is CLOCK_TAI, when the kernel was done
	// with the packet: for a NIC that is after it has left, for a veth when the
	// receiver has read it. 0 if the device gave none.
	Time uint64
}

// TXOffload returns what QueueRequest takes: Config.TXOffload.
func (t *TX) TXOffload() TXOffload { return t.offload }

// QueueRequest is QueueParts for a packet with which something is asked for, one
// that lies in one frame too. It also refuses what CheckRequest explains. The
// Config.UMEM.TXMetadata bytes before the packet are written to; Frame leaves
// room for them, and so does the headroom of received packets.
func (t *TX) QueueRequest(r TXRequest, parts ...umem.Desc) bool {
	return len(parts) != 0 && t.mayAsk(&r, parts[0]) && t.queueParts(parts, &r)
}

// mayAsk tells whether CheckRequest has nothing to say. The kernel would take
// most of what it refuses for an error of the whole socket, and complete the
// frame again with every wakeup (xsk_build_skb, Linux 6.18 net/xdp/xsk.c).
func (t *TX) mayAsk(r *TXRequest, first umem.Desc) bool {
	return r.Do&^t.offload == 0 && first.Addr%metaAlign == 0 && (r.Do&TXChecksum == 0 || r.checksumFits(first))
}

// metaAlign is what the address of a packet with a request must be a multiple of,
// for the words of the request are aligned then.
const metaAlign = 8

func (r *TXRequest) checksumFits(first umem.Desc) bool {
	return uint64(r.ChecksumStart)+uint64(r.ChecksumOffset)+2 <= uint64(first.Len)
}

// CheckRequest says why QueueRequest would refuse r for a packet whose first
// frame is first, as far as that is r's fault; nil if it would not. If r asks for
// what is not in Config.TXOffload, errors.Is(err, errors.ErrUnsupported) holds.
func (t *TX) CheckRequest(r TXRequest, first umem.Desc) error {
	switch {
	case r.Do&^t.offload != 0:
		return fmt.Errorf("xsk: TXRequest.Do: %v: not in Config.TXOffload: %w", r.Do&^t.offload, errors.ErrUnsupported)
	case first.Addr%metaAlign != 0:
		return fmt.Errorf("xsk: TXRequest: the packet is at %#x, not a multiple of %d: %w", uint64(first.Addr), metaAlign, syscall.EINVAL)
	case r.Do&TXChecksum != 0 && !r.checksumFits(first):
		return fmt.Errorf("xsk: TXRequest: a checksum at %d + %d in %d bytes: %w", r.ChecksumStart, r.ChecksumOffset, first.Len, syscall.EINVAL)
	}
	return nil
}

// write puts the request into the bytes before its packet.
func (r *TXRequest) write(m []byte) {
	m = m[:umem.MinTXMetadata]
	ne := binary.NativeEndian
	ne.PutUint64(m[metaFlags:], uint64(r.Do))
	ne.PutUint16(m[metaChecksum:], r.ChecksumStart)
	ne.PutUint16(m[metaChecksum+2:], r.ChecksumOffset)
	ne.PutUint32(m[metaMark:], noTimestamp)
	ne.PutUint64(m[metaLaunchTime:], r.LaunchTime)
	ne.PutUint64(m[metaID:], r.ID)
}

// ask writes what is asked for with the packet at a, which CheckTX has passed:
// nothing if r is nil. It returns the descriptor's option.
func (t *TX) ask(r *TXRequest, a umem.Addr) (option uint32) {
	m := t.region.MetadataBefore(a)
	if r == nil || r.Do == 0 {
		t.region.SetAnswer(a, false)
		binary.NativeEndian.PutUint64(m[metaFlags:], 0)
		return 0
	}
	t.region.SetAnswer(a, r.Do&TXTimestamp != 0)
	r.write(m)
	return umem.OptionTXMetadata
}

// offer lets packets ask for what is in o.
func (t *TX) offer(o TXOffload) {
	if t.offload = o; o&TXTimestamp != 0 {
		t.times = newTXTimes(t.tx.Len())
	}
}
