package netdev

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/steering"
	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/handover"
)

// steerer decides which packets leave the kernel: a program of this process
// (steering.Interface), or one that a helper has put on the interface for it
// (handover.Set).
type steerer interface {
	AddAddress(netip.Addr) error
	RemoveAddress(netip.Addr) error
	JoinGroup(netip.Addr) error
	LeaveGroup(netip.Addr) error
	Counters() (xsk.Counters, error)
	Mode() xsk.AttachMode
	Done() <-chan struct{} // closed when no packet leaves the kernel any more
	Err() error            // why; nil if it was Detach
	Findings() <-chan xsk.Finding
	Detach() error // no packet leaves the kernel from then on
	Close() error  // the rest, after the sockets are closed
}

// take attaches a program to an interface and binds a socket to each of the queues,
// or has the helper do its part of it, unless ctx ends.
func take(ctx context.Context, cfg Config, dev hostif.Interface) (steerer, []*xsk.Socket, error) {
	one := xsk.Config{
		Interface: cfg.Interface, Bind: cfg.Bind,
		MultiBuffer: cfg.MultiBuffer, Rings: cfg.Rings, UMEM: cfg.UMEM, TXBudget: cfg.TXBudget,
		BusyPoll: cfg.BusyPoll, NAPI: cfg.NAPI,
	}
	if cfg.Handover != "" {
		set, err := handover.OpenContext(ctx, handover.Config{Path: cfg.Handover, Queues: cfg.Queues, Socket: one})
		if err != nil {
			return nil, nil, err
		}
		if cfg.Attach != xsk.AttachAuto && cfg.Attach != set.Mode() {
			err := fmt.Errorf("netdev: Config.Attach: %v mode, but the helper's program is in %v mode: start it with -attach %v", cfg.Attach, set.Mode(), cfg.Attach)
			return nil, nil, errors.Join(err, set.Close())
		}
		return set, set.Sockets(), nil
	}
	steer, err := steering.Attach(dev, cfg.Attach)
	if err != nil {
		return nil, nil, err
	}
	if cfg.Queues == nil {
		// virtio_net adds receive queues for the program, if it has more than it
		// uses, and packets come on them.
		if dev, err = hostif.Lookup(cfg.Interface); err != nil {
			err = &xsk.OpError{Op: "look up interface", Device: cfg.Interface, Queue: xsk.NoQueue, Err: err}
			return nil, nil, errors.Join(err, giveBack(steer, nil))
		}
		for i := range max(dev.RXQueues, 1) {
			cfg.Queues = append(cfg.Queues, uint32(i))
		}
	}
	var sockets []*xsk.Socket
	for _, queue := range cfg.Queues {
		one.Queue = queue
		s, err := xsk.OpenContext(ctx, one)
		if err == nil {
			sockets = append(sockets, s)
			err = steer.AddSocket(queue, s.FD())
		}
		if err != nil {
			return nil, nil, errors.Join(err, giveBack(steer, sockets))
		}
	}
	return steer, sockets, nil
}

// giveBack undoes take.
func giveBack(steer steerer, sockets []*xsk.Socket) error {
	errs := []error{steer.Detach()}
	for _, s := range sockets {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, steer.Close())...)
}
