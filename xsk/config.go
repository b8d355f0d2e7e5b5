package xsk

import (
	"errors"
	"fmt"
	"time"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/internal/sys"
	"github.com/afxnet/afxnet/umem"
)

// BindMode says how packets are to move between the NIC and the region.
type BindMode uint8

const (
	// BindAuto takes zero-copy if the driver has it and copy otherwise;
	// Socket.ZeroCopy tells which.
	BindAuto BindMode = iota
	// BindZeroCopy asks for XDP_ZEROCOPY: the NIC reads and writes the region
	// itself. A driver that cannot is an error.
	BindZeroCopy
	// BindCopy asks for XDP_COPY: the kernel copies each packet. It works on
	// every device.
	BindCopy
)

func (m BindMode) String() string {
	switch m {
	case BindAuto:
		return "auto"
	case BindZeroCopy:
		return "zero-copy"
	case BindCopy:
		return "copy"
	}
	return fmt.Sprintf("bind mode %d", uint8(m))
}

// MultiBuffer says whether packets may lie in several frames (XDP_USE_SG, Linux
// 6.6), as they must at an MTU that one chunk does not hold.
type MultiBuffer uint8

const (
	// MultiBufferAuto asks for it if the interface's MTU needs it: some
	// drivers have no zero-copy with it.
	MultiBufferAuto MultiBuffer = iota
	// MultiBufferOn asks for it, for an MTU that may grow.
	MultiBufferOn
	// MultiBufferOff does not: an MTU that needs it is an error.
	MultiBufferOff
)

func (m MultiBuffer) String() string {
	switch m {
	case MultiBufferAuto:
		return "auto"
	case MultiBufferOn:
		return "on"
	case MultiBufferOff:
		return "off"
	}
	return fmt.Sprintf("multi-buffer %d", uint8(m))
}

// wanted tells whether to ask for it at an MTU, if a chunk holds one of most.
func (m MultiBuffer) wanted(mtu, most int) bool {
	return m == MultiBufferOn || m == MultiBufferAuto && mtu > most
}

// RingSizes are the numbers of descriptors of the four rings: powers of two,
// 2 or more. Zero means 2048 for RX and TX, as many as RX for Fill, and as many
// as TX for Completion. RX must not be smaller than Fill, nor Completion smaller
// than TX: the kernel then always has room for what it gives back.
type RingSizes struct {
	Fill, Completion, RX, TX uint32
}

const defaultRingSize = 2048

func (s RingSizes) withDefaults() (RingSizes, error) {
	if s.RX == 0 {
		s.RX = defaultRingSize
	}
	if s.Fill == 0 {
		s.Fill = s.RX
	}
	if s.TX == 0 {
		s.TX = defaultRingSize
	}
	if s.Completion == 0 {
		s.Completion = s.TX
	}
	for _, f := range []struct {
		name string
		n    uint32
	}{{"Fill", s.Fill}, {"Completion", s.Completion}, {"RX", s.RX}, {"TX", s.TX}} {
		if err := ring.CheckSize(f.n); err != nil {
			return s, fmt.Errorf("xsk: Config.Rings.%s: %w", f.name, err)
		}
	}
	if s.RX < s.Fill {
		// Otherwise frames that were lent could find the RX ring full.
		return s, fmt.Errorf("xsk: Config.Rings.RX: %d descriptors: at least as many as Fill, %d", s.RX, s.Fill)
	}
	if s.Completion < s.TX {
		return s, fmt.Errorf("xsk: Config.Rings.Completion: %d descriptors: at least as many as TX, %d", s.Completion, s.TX)
	}
	return s, nil
}

// Config describes one socket. Interface is required; the zero value of the
// rest works.
type Config struct {
	// Interface is the device's name, looked up in the network namespace of
	// the calling thread.
	Interface string

	// Queue is the hardware queue to bind to, from 0 to the device's number of
	// queues - 1.
	Queue uint32

	// Bind asks for zero-copy or copy. The zero value takes what there is.
	Bind BindMode

	// MultiBuffer says whether packets may lie in several frames. The zero
	// value asks for it where the MTU needs it; Socket.MultiBuffer tells. A
	// kernel or, in zero-copy mode, a driver without it is an error.
	MultiBuffer MultiBuffer

	// Rings are the ring sizes in descriptors.
	Rings RingSizes

	// UMEM describes the socket's packet memory. Zero Chunks means as many as
	// the rings can use: Fill + TX and some to spare. Zero Node means the
	// device's NUMA node, if it has one. Ignored if Region or Shared is set.
	UMEM umem.Config

	// Region is the packet memory to use; the caller closes it after the
	// socket. Nil makes one that the socket owns. If Open fails after a bind in
	// zero-copy mode, the frames that the device had are lost to the region.
	Region *umem.Region

	// Shared is packet memory that other sockets use too (XDP_SHARED_UMEM); the
	// caller closes its region after them. The first socket decides for all how
	// they are bound. Another socket on the same queue gets the first one's fill
	// and completion ring, and Rings.Fill and Rings.Completion do not count. With
	// it, Region must be nil.
	Shared *Shared

	// Prepared is a socket that is there already, made by a process with more
	// privileges; nil makes one. Open takes it over, and closes it if it fails.
	Prepared *Prepared

	// NoNeedWakeup binds without XDP_USE_NEED_WAKEUP: the kernel then never
	// says that it does not need a wakeup. Only for measuring the difference.
	NoNeedWakeup bool

	// TXBudget is how many descriptors one wakeup sends in copy mode
	// (XDP_MAX_TX_SKB_BUDGET, 6.17): from 32 to the TX ring's size. Where the
	// kernel does not have the option, Open fails with errors.ErrUnsupported.
	// Zero means 128, or the TX ring's size if that is less, or the kernel's 32
	// if it does not have the option; TX.Burst tells.
	TXBudget uint32

	// TXOffload is what packets can be asked for with TX.QueueRequest (TX metadata,
	// Linux 6.8). Where the kernel, or in zero-copy mode the driver, is not known
	// to honour all of it, Open fails with errors.ErrUnsupported, or with BindAuto
	// takes copy mode if that honours it: a driver that does not know of it sends
	// the packets all the same, and wrong. With Region or Shared, the region must
	// have umem.Config.TXMetadata. Zero is nothing.
	TXOffload TXOffload

	// BusyPoll lets system calls on the socket run the queue's NAPI (5.11). A
	// missing capability, and a queue without a NAPI that the kernel knows of,
	// is an error; Socket.BusyPoll tells what it got. Zero is off.
	BusyPoll BusyPoll

	// MetadataMarker is what the program writes into each frame before which it
	// puts metadata: Program.MetadataMarker, or what a program of the user's own
	// has been given, best a random number. Zero is none, and then RX.Metadata
	// returns nothing.
	MetadataMarker uint64

	// NAPI are settings of the queue's NAPI (6.13; before that, since 5.8, of
	// the whole device: see Socket.NAPI), such as how long interrupts stay off
	// for who polls. Close restores the former ones; if the process
	// ends without it, the next Open of whatever process does, by a record below
	// /run/afxnet, where it is needed. Where kernel or driver cannot, Open fails
	// with errors.ErrUnsupported; Socket.NAPI tells what became of it. One socket
	// of a queue can have it: another gets unix.EBUSY. The zero value leaves all
	// alone.
	NAPI NAPI

	// BusyTimeout bounds how long Open tries again while the queue is busy: a
	// socket that was closed a moment ago lets go of its queue asynchronously.
	// Zero means 2 s; negative means not at all.
	BusyTimeout time.Duration
}

const defaultBusyTimeout = 2 * time.Second

// spareChunks are the frames beyond those that the rings can hold: what two
// caches keep, so that neither half starves the other.
const spareChunks = 512

func (c Config) withDefaults() (Config, error) {
	var err error
	if c.Rings, err = c.Rings.withDefaults(); err != nil {
		return c, err
	}
	if c.Bind > BindCopy {
		return c, fmt.Errorf("xsk: Config.Bind: %v: no such mode", c.Bind)
	}
	if c.MultiBuffer > MultiBufferOff {
		return c, fmt.Errorf("xsk: Config.MultiBuffer: %v: no such choice", c.MultiBuffer)
	}
	if c.BusyPoll, err = c.BusyPoll.withDefaults(); err != nil {
		return c, err
	}
	if err := c.NAPI.check(); err != nil {
		return c, err
	}
	if c.BusyTimeout == 0 {
		c.BusyTimeout = defaultBusyTimeout
	}
	if c.TXBudget != 0 && (c.TXBudget < sys.KernelTXBudget || c.TXBudget > c.Rings.TX) {
		return c, fmt.Errorf("xsk: Config.TXBudget: %d packets: from %d to the TX ring's %d", c.TXBudget, sys.KernelTXBudget, c.Rings.TX)
	}
	if c.TXOffload&^allTXOffloads != 0 {
		return c, fmt.Errorf("xsk: Config.TXOffload: %v: no such thing", c.TXOffload&^allTXOffloads)
	}
	if c.TXOffload != 0 && c.UMEM.TXMetadata == 0 {
		c.UMEM.TXMetadata = umem.MinTXMetadata
	}
	if c.UMEM.Chunks == 0 {
		c.UMEM.Chunks = int(c.Rings.Fill + c.Rings.TX + spareChunks)
	}
	if err := c.checkPrepared(); err != nil {
		return c, err
	}
	if c.Region != nil && c.Shared != nil {
		return c, errors.New("xsk: Config.Region and Config.Shared: only one of them")
	}
	if c.Region != nil || c.Shared != nil {
		return c, nil
	}
	if need := c.Rings.Fill + c.Rings.TX; c.UMEM.Chunks < int(need) {
		return c, fmt.Errorf("xsk: Config.UMEM.Chunks: %d: the rings can hold Fill + TX = %d frames", c.UMEM.Chunks, need)
	}
	return c, nil
}
