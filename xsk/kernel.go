package xsk

import (
	"syscall"
	"time"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
)

// Kernel is the far side of one socket's rings. Open makes the real one; the
// module's own tests and its in-memory wire have others ([NewOn]). Rings, WakeTX
// and WakeRX are the data path; each has the goroutine rule of the [RX] or [TX]
// that calls it. The other methods may be called from any goroutine, but only
// one may be in Park.
type Kernel interface {
	// Rings returns the shared memory of the four rings.
	Rings() Rings

	// WakeTX makes the kernel look at the TX ring, as sendto(2) does: 0,
	// EAGAIN with descriptors left, EBUSY for a packet that was completed but
	// dropped, or an error that lasts.
	WakeTX() syscall.Errno

	// WakeRX makes the kernel look at the fill ring, as recvfrom(2) does.
	WakeRX() syscall.Errno

	// Arm lets an entry in the RX ring, and room in the TX ring if tx is set,
	// end Park once; at once if it is there now. Disarm takes it back.
	Arm(tx bool) error
	Disarm() error

	// Park sleeps until what is armed happens, Interrupt was called, or d is
	// over (if positive).
	Park(d time.Duration) error

	// Interrupt ends the current or the next Park.
	Interrupt()

	// ZeroCopy tells which mode the bind got, as read back.
	ZeroCopy() bool

	// MaxParts is how many frames a packet may lie in when it is sent; above 1
	// it may when it is received, too (XDP_USE_SG). It does not change.
	MaxParts() int

	// BusyPoll tells whether WakeRX and WakeTX run the queue's NAPI, as read
	// back. It does not change.
	BusyPoll() BusyPolling

	// Statistics reads the kernel's own counters.
	Statistics() (KernelStatistics, error)

	// Close ends Park, unbinds and unmaps. The rings must not be touched
	// after it.
	Close() error
}

// An inputParker is a Kernel that can do better than Park for who armed for input only,
// and receives what ends it. waiting returns how many packets are in the RX ring.
type inputParker interface {
	ParkInput(waiting func() uint32) error
}

// Rings is the shared memory of a socket's four rings.
type Rings struct {
	Fill ring.Mem[umem.Addr]
	Comp ring.Mem[umem.Addr]
	RX   ring.Mem[umem.Desc]
	TX   ring.Mem[umem.Desc]
}

// KernelStatistics is XDP_STATISTICS: struct xdp_statistics in
// linux/if_xdp.h (4.18; the last three since 5.9). All count packets or
// descriptors since the socket was made.
type KernelStatistics struct {
	RXDropped       uint64 // received packets dropped: too large for a chunk, or no buffer
	RXInvalidDescs  uint64 // fill ring entries outside the region
	TXInvalidDescs  uint64 // TX ring entries outside the region
	RXRingFull      uint64 // received packets dropped: the RX ring was full
	FillRingEmpty   uint64 // times the fill ring was found empty; a packet dropped for it is in RXDropped
	TXRingEmptyRead uint64 // times the kernel looked and found nothing to send
}
