package netdev

import (
	"fmt"
	"time"

	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// PollMode says what a queue's poller does when there is nothing to receive.
type PollMode uint8

const (
	// PollAdaptive lets a goroutine that is about to wait for a packet poll
	// the queue itself for up to Config.Spin before it sleeps; the poller
	// sleeps when the queue is empty. Idle costs no CPU.
	PollAdaptive PollMode = iota
	// PollBlock sleeps at once, everybody; where it can be, on the socket itself,
	// so that a packet wakes the goroutine that it is for and nobody else. Idle
	// costs no CPU.
	PollBlock
	// PollSpin never sleeps: one CPU per queue.
	PollSpin
)

func (m PollMode) String() string {
	switch m {
	case PollAdaptive:
		return "adaptive"
	case PollBlock:
		return "block"
	case PollSpin:
		return "spin"
	}
	return fmt.Sprintf("poll mode %d", uint8(m))
}

// Config describes a Device. The zero value works, but for Interface where Open
// is called.
type Config struct {
	// Interface is the network interface, in the network namespace of the
	// calling thread.
	Interface string

	// Handover is the path of the Unix socket of a helper that makes the sockets
	// and attaches the program for this process (package xsk/handover), which
	// needs no privileges then. The helper decides what there is to have: queues,
	// addresses, multicast groups, how much memory, the program's mode; Attach must
	// agree, and UMEM.Node be zero. If the helper ends, the link goes down for good.
	// Empty means that this process does it itself.
	Handover string

	// Queues are the hardware queues to take, at least one. Nil means all of
	// them; with fewer, flows that the NIC puts on other queues are left to the kernel
	// and counted (xsk.Counters). One that the interface has for receiving
	// only is not sent on; there has to be another.
	Queues []uint32

	// Bind asks for zero-copy or copy, Attach for the program's mode. The zero
	// values take the best there is; Device.Info tells what it was.
	Bind   xsk.BindMode
	Attach xsk.AttachMode

	// MultiBuffer says whether packets may lie in several chunks of packet
	// memory, as they must at an MTU above some 3,800 bytes. The zero value
	// asks for it where the interface's MTU needs it; see xsk.Config. The
	// largest MTU then is 65517.
	MultiBuffer xsk.MultiBuffer

	// Rings and UMEM are each queue's ring sizes and packet memory; see
	// xsk.Config. UMEM.File must be nil, and UMEM.Headroom leave room for headers.
	Rings xsk.RingSizes
	UMEM  umem.Config

	// TXBudget is xsk.Config.TXBudget.
	TXBudget uint32

	// BusyPoll has whoever polls a queue run its NAPI, for NICs: see
	// xsk.Config and the documentation of package xsk. Budget should be no less
	// than its default, which is what one poll takes. The zero value leaves it
	// to interrupts; Device.Info tells what it is.
	BusyPoll xsk.BusyPoll

	// NAPI are settings of each queue's NAPI, such as how long interrupts stay
	// off for who polls (Linux 6.13); see xsk.Config. The zero value leaves
	// them alone.
	NAPI xsk.NAPI

	// Poll is the polling mode, Spin how long PollAdaptive polls before a
	// goroutine sleeps. Zero Spin means 50 us; at most 10 ms.
	Poll PollMode
	Spin time.Duration

	// QueueBytes bounds what waits for room in one TX ring, in bytes. Above
	// it, the flow with the most bytes waiting loses its oldest packet. Zero
	// means 8 MiB; at least 256 KiB, so that every flow gets a packet in.
	QueueBytes int

	// NoGRO hands every received segment up by itself, pure ACKs too.
	NoGRO bool

	// NoACKMerge hands every pure ACK up by itself, although a later one of the
	// same batch acknowledges more.
	NoACKMerge bool

	// NoGather sends what the function set with Device.AfterBatch writes, and
	// what is written between BeginBulk and EndBulk, packet by packet, rather
	// than all at once at the end.
	NoGather bool

	// NoACKHold sends every pure ACK at once, and has package stack/inline make
	// each that is due at once.
	NoACKHold bool

	// NoLateArm has a goroutine that polled ask for the next packet's wakeup
	// each time it leaves, two system calls a round, although it is likely to
	// be back before the packet. With PollBlock it has every packet wake the
	// poller, which wakes the goroutine that waits.
	NoLateArm bool

	// AcceptPartialChecksums accepts a TCP or UDP checksum that is only the
	// pseudo-header's sum, as a peer leaves it that counts on its NIC: other
	// containers behind veth, guests behind virtio. Counted. Without it such
	// frames are dropped, under a name of their own; the remedy at the peer's end
	// is to have it sum itself (ethtool -K DEVICE tx off).
	AcceptPartialChecksums bool

	// OnLink is called when the link goes down (err wraps ENETDOWN, with
	// [ErrNoCarrier] for want of a carrier, or with ENODEV if it is for good: the
	// interface, its program or the helper is gone, or the kernel's side of a queue
	// of no use any more) and when it comes back (nil), one call at a time. It must
	// not block and must not call Close, SetLink or FollowLink.
	OnLink func(err error)

	// OnFinding is called when somebody changes the interface, or the host, under
	// the device so that packets get lost while all else works, one call at a time:
	// flows arrive on queues without a socket (ethtool -L, or -X), the host was
	// given an address of the stack's, the MTU is too small for its IPv6, the
	// program cannot follow the interface's Ethernet address, or the NIC takes VLAN
	// tags off again (rx-vlan-offload). It is also called when the program or the
	// helper is gone, before OnLink is and calls end. The finding says what
	// mends it. Not over NewOn. It must not block and must not call Close.
	OnFinding func(xsk.Finding)
}

const (
	// defaultSpin is about two round trips of a small request on a local link:
	// long enough to catch the answer of a peer that is busy with it.
	defaultSpin = 50 * time.Microsecond
	maxSpin     = 10 * time.Millisecond

	defaultQueueBytes = 8 << 20
	minQueueBytes     = 256 << 10
)

func (c Config) withDefaults() (Config, error) {
	if c.Poll > PollSpin {
		return c, fmt.Errorf("netdev: Config.Poll: %v: no such mode", c.Poll)
	}
	if c.Spin == 0 {
		c.Spin = defaultSpin
	}
	if c.Spin < 0 || c.Spin > maxSpin {
		return c, fmt.Errorf("netdev: Config.Spin: %v: from 0 to %v", c.Spin, maxSpin)
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = defaultQueueBytes
	}
	if c.QueueBytes < minQueueBytes {
		return c, fmt.Errorf("netdev: Config.QueueBytes: %d bytes: at least %d", c.QueueBytes, minQueueBytes)
	}
	seen := make(map[uint32]bool, len(c.Queues))
	for i, q := range c.Queues {
		if seen[q] {
			return c, fmt.Errorf("netdev: Config.Queues[%d]: queue %d is named twice", i, q)
		}
		seen[q] = true
	}
	return c, nil
}
