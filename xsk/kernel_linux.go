package xsk

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/internal/sys"
	"github.com/afxnet/afxnet/umem"
)

// kernelSocket is the Kernel of a real socket.
type kernelSocket struct {
	sock     *sys.Socket
	wait     *sys.Waiter
	rings    Rings
	unmap    []func() error
	zerocopy bool
	parts    int    // 1 without XDP_USE_SG
	budget   uint32 // descriptors that one WakeTX sends in copy mode
	busy     BusyPolling
}

// sizeRings sets the ring sizes; step names the one that failed. Without own, the
// fill and the completion ring are another socket's.
func (k *kernelSocket) sizeRings(n RingSizes, own bool) (step string, err error) {
	for _, o := range []struct {
		name string
		opt  int
		n    uint32
		do   bool
	}{
		{"size fill ring", unix.XDP_UMEM_FILL_RING, n.Fill, own},
		{"size completion ring", unix.XDP_UMEM_COMPLETION_RING, n.Completion, own},
		{"size RX ring", unix.XDP_RX_RING, n.RX, true},
		{"size TX ring", unix.XDP_TX_RING, n.TX, true},
	} {
		if !o.do {
			continue
		}
		if err := k.sock.SetRingSize(o.opt, o.n); err != nil {
			return o.name, err
		}
	}
	return "", nil
}

// mapRings maps the four rings; step names the one that failed. The fill and the
// completion ring of another socket can be mapped once this one is bound.
func (k *kernelSocket) mapRings(n RingSizes) (step string, err error) {
	off, err := k.sock.Offsets()
	if err != nil {
		return "read ring offsets", err
	}
	if k.rings.Fill, err = mapRing[umem.Addr](k, off.Fr, n.Fill, unix.XDP_UMEM_PGOFF_FILL_RING); err != nil {
		return "map fill ring", err
	}
	if k.rings.Comp, err = mapRing[umem.Addr](k, off.Cr, n.Completion, unix.XDP_UMEM_PGOFF_COMPLETION_RING); err != nil {
		return "map completion ring", err
	}
	if k.rings.RX, err = mapRing[umem.Desc](k, off.Rx, n.RX, unix.XDP_PGOFF_RX_RING); err != nil {
		return "map RX ring", err
	}
	if k.rings.TX, err = mapRing[umem.Desc](k, off.Tx, n.TX, unix.XDP_PGOFF_TX_RING); err != nil {
		return "map TX ring", err
	}
	return "", nil
}

func mapRing[T any](k *kernelSocket, off unix.XDPRingOffset, n uint32, pgoff int64) (ring.Mem[T], error) {
	m, unmap, err := sys.MapRing[T](k.sock, off, n, pgoff)
	if err == nil {
		k.unmap = append(k.unmap, unmap)
	}
	return m, err
}

func (k *kernelSocket) Rings() Rings               { return k.rings }
func (k *kernelSocket) WakeTX() syscall.Errno      { return k.sock.WakeTX() }
func (k *kernelSocket) WakeRX() syscall.Errno      { return k.sock.WakeRX() }
func (k *kernelSocket) Arm(tx bool) error          { return k.wait.Arm(tx) }
func (k *kernelSocket) Disarm() error              { return k.wait.Disarm() }
func (k *kernelSocket) Park(d time.Duration) error { return k.wait.Park(d) }
func (k *kernelSocket) ParkInput(waiting func() uint32) error {
	return k.wait.ParkInput(waiting)
}
func (k *kernelSocket) Interrupt()            { k.wait.Interrupt() }
func (k *kernelSocket) ZeroCopy() bool        { return k.zerocopy }
func (k *kernelSocket) MaxParts() int         { return k.parts }
func (k *kernelSocket) BusyPoll() BusyPolling { return k.busy }

func (k *kernelSocket) Statistics() (KernelStatistics, error) {
	st, err := k.sock.Statistics()
	return KernelStatistics{
		RXDropped: st.Rx_dropped, RXInvalidDescs: st.Rx_invalid_descs,
		TXInvalidDescs: st.Tx_invalid_descs, RXRingFull: st.Rx_ring_full,
		FillRingEmpty: st.Rx_fill_ring_empty_descs, TXRingEmptyRead: st.Tx_ring_empty_descs,
	}, err
}

// Close ends Park, closes the socket so that the kernel stops using the rings
// and the region, then unmaps the rings. It also unwinds a half-made socket.
func (k *kernelSocket) Close() error {
	var errs []error
	if k.wait != nil {
		errs = append(errs, k.wait.Close())
	}
	errs = append(errs, k.sock.Close())
	for _, unmap := range k.unmap {
		errs = append(errs, unmap())
	}
	k.unmap = nil
	return errors.Join(errs...)
}
