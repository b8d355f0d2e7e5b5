package netdev

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/afxnet/afxnet/internal/canceled"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/steering"
	"github.com/afxnet/afxnet/xsk"
)

// host is what a Device has of a real interface: what steers packets to its
// sockets, and the watch on the link.
type host struct {
	dev   hostif.Interface
	steer steerer
	stop  func() // ends the watch
}

// Open takes the queues of an interface: it binds a socket to each, attaches
// the steering program, and makes one device of them. No packet is taken from
// the kernel until AddAddress. With Config.Handover a helper does what takes
// privileges. Where attaching and binding reset the link, it
// waits for it, up to 10 s, and up to 5 s for one that was down before.
//
// Errors are *xsk.OpError or name the Config field; see [xsk.Open] and
// [xsk.LoadProgram] for what errors.Is finds in them.
func Open(cfg Config) (*Device, error) { return OpenContext(context.Background(), cfg) }

// OpenContext is Open, but ends its wait, for the link, for a busy queue or for the
// helper, when ctx does: the error wraps ctx's and its cause then, and all that was done
// is undone. With a ctx that has ended it fails. The device does not end with ctx.
func OpenContext(ctx context.Context, cfg Config) (*Device, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Queues != nil && len(cfg.Queues) == 0 {
		return nil, errors.New("netdev: Config.Queues: empty: nil means all of them")
	}
	if cfg.UMEM.File != nil {
		return nil, errors.New("netdev: Config.UMEM.File: each queue would take all of that memory for its own: must be nil")
	}
	if err := canceled.Err(ctx); err != nil {
		return nil, &xsk.OpError{Op: "open", Device: cfg.Interface, Queue: xsk.NoQueue, Err: err}
	}
	dev, err := hostif.Lookup(cfg.Interface)
	if err != nil {
		return nil, &xsk.OpError{Op: "look up interface", Device: cfg.Interface, Queue: xsk.NoQueue, Err: err}
	}
	return open(ctx, cfg, dev)
}

// open is OpenContext on an interface that has been looked up.
func open(ctx context.Context, cfg Config, dev hostif.Interface) (_ *Device, err error) {
	steer, sockets, err := take(ctx, cfg, dev)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, giveBack(steer, sockets))
		}
	}()
	d, err := NewOn(sockets, Link{Name: dev.Name, MAC: dev.MAC, MTU: dev.MTU}, cfg)
	if err != nil {
		return nil, err
	}
	// Each socket has looked by itself whether its queue can send. More than there
	// were may be those that virtio_net has added for the program, to receive only.
	now, err := hostif.Lookup(cfg.Interface)
	if err != nil {
		return nil, &xsk.OpError{Op: "look up interface", Device: cfg.Interface, Queue: xsk.NoQueue, Err: err}
	}
	if err = d.sendBelow(max(min(dev.TXQueues, now.TXQueues), 1)); err != nil {
		return nil, err
	}
	d.host = &host{dev: dev, steer: steer}
	if err = awaitLink(ctx, dev); err != nil {
		return nil, &xsk.OpError{Op: "wait for link", Device: cfg.Interface, Queue: xsk.NoQueue, Err: err}
	}
	if d.host.stop, err = hostif.Watch(dev.Index, d.onLink); err != nil {
		return nil, &xsk.OpError{Op: "watch link", Device: cfg.Interface, Queue: xsk.NoQueue, Err: err}
	}
	d.workers.Go(func() { d.followSteering(steer) })
	return d, nil
}

// followSteering takes the device down for good if the program goes that steers
// packets to its sockets: somebody takes it off the interface, or it goes with the
// helper that the sockets come from. Until then it passes on what is found. Why the
// program is gone is passed on too, before calls end of it: a program that ends then has
// been told.
func (d *Device) followSteering(steer steerer) {
	for on := true; on; {
		select {
		case f := <-steer.Findings():
			d.find(f)
		case <-steer.Done():
			on = false
		}
	}
	if err := steer.Err(); err != nil {
		steering.Drain(steer.Findings, d.find)
		d.find(lossOf(err))
		d.fail(err)
	}
}

// find tells of a finding.
func (d *Device) find(f xsk.Finding) {
	if d.cfg.OnFinding != nil {
		d.cfg.OnFinding(f)
	}
}

// lossOf is the finding that the program is gone.
func lossOf(err error) xsk.Finding {
	f := xsk.Finding{Subject: xsk.SubjectProgram, Level: xsk.Problem, Text: err.Error(), Fix: "close, and open again"}
	if op := (*xsk.OpError)(nil); errors.As(err, &op) && op.Remedy != "" {
		f.Text, f.Fix = op.Err.Error(), op.Remedy
	}
	return f
}

const (
	// linkReset bounds the wait for a link that Open itself has reset. Copper
	// takes up to some four seconds to agree on a speed anew.
	linkReset = 10 * time.Second

	// linkReturn bounds it for a link that was not there before: whoever had the
	// device a moment ago may have reset it when he ended. Or the cable is out,
	// and then Open must not take for ever.
	linkReturn = 5 * time.Second
)

// awaitLink waits until an interface carries frames, after the program was
// attached and the sockets were bound: many drivers start the device anew for
// each of these. dev is its state before. If the link does not come back, it is
// down like any other. It is an error if ctx ends first.
func awaitLink(ctx context.Context, dev hostif.Interface) error {
	limit := linkReset
	if !dev.Running {
		limit = linkReturn
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := hostif.Await(limited, dev.Index, func(ev hostif.Event) (bool, error) {
		return ev.State.Running || !ev.State.Up || ev.Change.Has(hostif.ChangeGone) || ev.Change.Has(hostif.ChangeEnded), nil
	})
	switch {
	case ctx.Err() != nil:
		return canceled.Err(ctx)
	case err == context.DeadlineExceeded:
		return nil
	}
	return err
}

// onLink follows the interface. It runs on the watch's goroutine.
func (d *Device) onLink(ev hostif.Event) {
	name := d.link.Name
	if ev.Change.Has(hostif.ChangeMAC) {
		d.setMAC(ev.State.MAC)
	}
	if ev.Change.Has(hostif.ChangeMTU) {
		d.setMTU(ev.State.MTU)
	}
	switch {
	case ev.Change.Has(hostif.ChangeEnded):
		d.SetLink(fmt.Errorf("netdev: watch on %s: %w: %w: %w", name, syscall.ENETDOWN, syscall.ENODEV, ev.Err))
	case ev.Change.Has(hostif.ChangeGone) && ev.State.Moved:
		d.SetLink(fmt.Errorf("netdev: %s is in another network namespace: %w: %w: Close cannot restore there what Open has set (ethtool -K %s rxvlan on)", name, syscall.ENETDOWN, syscall.ENODEV, name))
	case ev.Change.Has(hostif.ChangeGone):
		d.SetLink(fmt.Errorf("netdev: %s is gone: %w: %w", name, syscall.ENETDOWN, syscall.ENODEV))
	case !ev.State.Up:
		d.SetLink(fmt.Errorf("netdev: %s is down: %w", name, syscall.ENETDOWN))
	case !ev.State.Running:
		d.SetLink(fmt.Errorf("netdev: %s: %w: %w", name, ErrNoCarrier, syscall.ENETDOWN))
	case ev.State.MTU < minMTU:
		d.SetLink(fmt.Errorf("netdev: %s has an MTU of %d, at least %d is needed (ip link set %s mtu %d): %w", name, ev.State.MTU, minMTU, name, d.link.MTU, syscall.ENETDOWN))
	case d.LinkErr() != nil:
		d.SetLink(nil)
	}
}

// AddAddress claims an address: from now on the kernel does not see packets
// for it. Call it in the network namespace that Open was called in. For IPv6 it
// joins the solicited-node group on the NIC (RFC 4861,
// 7.2.1), or neighbour solicitations would not get through its filter. An
// address that an interface of the host has is refused with EADDRINUSE, and one
// that the helper of Config.Handover does not give to this user with EACCES. Other
// errors are those of [xsk.Program.AddAddress]; over NewOn there is nothing to
// do.
func (d *Device) AddAddress(addr netip.Addr) error {
	if d.host == nil {
		return nil
	}
	return d.host.steer.AddAddress(addr)
}

// RemoveAddress gives an address back to the kernel.
func (d *Device) RemoveAddress(addr netip.Addr) error {
	if d.host == nil {
		return nil
	}
	return d.host.steer.RemoveAddress(addr)
}

// Info says what Open got.
type Info struct {
	Interface string
	Driver    string
	MTU       int      // bytes
	Queues    []uint32 // hardware queues with a socket
	ZeroCopy  bool     // every bind is a zero-copy one, as read back

	// MultiBuffer tells that packets may lie in several chunks, as they must
	// at an MTU above some 3,800 bytes.
	MultiBuffer bool

	// BusyPoll is what the sockets got of Config.BusyPoll, one for each of
	// Queues; the zero value without it.
	BusyPoll []xsk.BusyPolling

	// TXBudgets are how many descriptors one wakeup sends in copy mode, one for each
	// of Queues: what the kernel has accepted. It cannot be read back.
	TXBudgets []int

	Attach xsk.AttachMode // AttachNative or AttachGeneric, as read back; AttachAuto over NewOn
}

// Info tells what the device has got, as read back from the kernel.
func (d *Device) Info() Info {
	info := Info{Interface: d.link.Name, MTU: d.MTU(), ZeroCopy: true, MultiBuffer: true}
	for _, q := range d.queues {
		info.Queues = append(info.Queues, q.sock.Queue())
		info.ZeroCopy = info.ZeroCopy && q.sock.ZeroCopy()
		info.MultiBuffer = info.MultiBuffer && q.sock.MultiBuffer()
		info.BusyPoll = append(info.BusyPoll, q.sock.BusyPoll())
		info.TXBudgets = append(info.TXBudgets, q.sock.TX().Burst())
	}
	if d.host != nil {
		info.Driver = d.host.dev.Driver
		info.Attach = d.host.steer.Mode()
	}
	return info
}

// detach gives the interface back to the kernel.
func (h *host) detach() error {
	h.stop()
	return h.steer.Detach()
}
