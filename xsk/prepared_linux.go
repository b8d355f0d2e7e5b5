package xsk

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/sys"
	"github.com/afxnet/afxnet/umem"
)

// Prepare makes a socket for a device, registers the region's memory with it, and sets
// it to busy poll unless that is zero: what Open needs privileges for. The region may
// be closed afterwards; the kernel keeps the memory. The caller closes the descriptor.
// Whoever has that and no CAP_NET_RAW can bind the socket to no other device (Linux
// 6.5, and stable kernels since), but to any of its queues.
//
// Call it in the network namespace of the device. The error is an *OpError; see
// Open for what errors.Is finds in it.
func Prepare(device string, region *umem.Region, busy BusyPoll) (_ *Prepared, err error) {
	if busy, err = busy.withDefaults(); err != nil {
		return nil, err
	}
	s := &Socket{region: region, device: device, queue: NoQueue}
	dev, err := hostif.Lookup(device)
	if err != nil {
		return nil, s.opError("look up interface", err, "")
	}
	if region.OnHeap() {
		return nil, s.onHeapError()
	}
	k := &kernelSocket{}
	step := "create socket"
	defer func() {
		if err != nil {
			err = s.explain(step, err, BindAuto, dev, false)
			if k.sock != nil {
				err = joinClose(err, k.sock.Close())
			}
		}
	}()
	if k.sock, err = sys.OpenSocket(); err != nil {
		return nil, err
	}
	step = "keep to device"
	if err := k.sock.KeepTo(dev.Index); err != nil {
		return nil, err
	}
	step = "register umem"
	if err := registerUMEM(k.sock, region, dev); err != nil {
		return nil, err
	}
	step = stepSetBusyPoll
	if err := k.setBusyPoll(busy); err != nil {
		return nil, err
	}
	return &Prepared{FD: k.sock.FD(), Registered: true, BusyPoll: busy.Time != 0}, nil
}

// taken is the descriptor of a Prepared until the socket has it. Nil is none.
type taken struct{ fd int }

var errPreparedTaken = errors.New("xsk: Config.Prepared: another Open has taken it: prepare a new one")

// take makes the descriptor of p the caller's to close, once: afterwards the number
// may be that of anything.
func (p *Prepared) take() (*taken, error) {
	switch {
	case p == nil || p.FD < 0:
		return nil, nil
	case p.taken:
		return nil, errPreparedTaken
	}
	p.taken = true
	return &taken{fd: p.FD}, nil
}

// socket returns the socket that was prepared, or makes one.
func (t *taken) socket() (*sys.Socket, error) {
	if t == nil {
		return sys.OpenSocket()
	}
	sock, err := sys.FromFD(t.fd)
	if err == nil {
		t.fd = -1
	}
	return sock, err
}

// close closes a descriptor that no socket has.
func (t *taken) close() {
	if t != nil && t.fd >= 0 {
		unix.Close(t.fd)
	}
}
