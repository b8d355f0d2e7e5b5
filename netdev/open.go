package netdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/xsk"
)

// host is what a Device has of a real interface: the program, the multicast
// memberships, the watch on the link.
type host struct {
	dev  hostif.Interface
	prog *xsk.Program

	stop    func()       // ends the watch
	restore func() error // gives the NIC its VLAN tags back

	mu       sync.Mutex
	groups   []membership // solicited-node groups joined on the NIC, one per address
	detached bool
	last     xsk.Counters // as of detach
}

type membership struct {
	addr  netip.Addr
	leave io.Closer
}

// Open takes the queues of an interface: it binds a socket to each, attaches
// the steering program, and makes one device of them. No packet is taken from
// the kernel until AddAddress. Where attaching and binding reset the link, it
// waits for it, up to 10 s, and up to 5 s for one that was down before.
//
// Errors are *xsk.OpError or name the Config field; see [xsk.Open] and
// [xsk.LoadProgram] for what errors.Is finds in them.
func Open(cfg Config) (_ *Device, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	dev, err := hostif.Lookup(cfg.Interface)
	if err != nil {
		return nil, &xsk.OpError{Op: "look up interface", Device: cfg.Interface, Queue: xsk.NoQueue, Err: err}
	}
	if cfg.Queues == nil {
		for i := range max(dev.RXQueues, 1) {
			cfg.Queues = append(cfg.Queues, uint32(i))
		}
	}
	var undo []func() error
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				err = errors.Join(err, undo[i]())
			}
		}
	}()

	prog, err := xsk.LoadProgram(xsk.ProgramConfig{Interface: cfg.Interface, Queues: max(dev.RXQueues, dev.TXQueues, 1), Mode: cfg.Attach})
	if err != nil {
		return nil, err
	}
	undo = append(undo, prog.Close)
	restore, err := keepTags(cfg.Interface)
	if err != nil {
		return nil, err
	}
	undo = append(undo, restore)
	// The program goes first: drivers that reset the link when one is attached
	// do so before the sockets are bound.
	if err := prog.Attach(); err != nil {
		return nil, err
	}
	var sockets []*xsk.Socket
	for _, queue := range cfg.Queues {
		s, err := xsk.Open(xsk.Config{
			Interface: cfg.Interface, Queue: queue, Bind: cfg.Bind,
			MultiBuffer: cfg.MultiBuffer, Rings: cfg.Rings, UMEM: cfg.UMEM, TXBudget: cfg.TXBudget,
			BusyPoll: cfg.BusyPoll, NAPI: cfg.NAPI,
		})
		if err != nil {
			return nil, err
		}
		undo = append(undo, s.Close)
		sockets = append(sockets, s)
	}
	d, err := NewOn(sockets, Link{Name: dev.Name, MAC: dev.MAC, MTU: dev.MTU}, cfg)
	if err != nil {
		return nil, err
	}
	d.host = &host{dev: dev, prog: prog, restore: restore}
	for _, s := range sockets {
		if err := prog.AddSocket(s.Queue(), s.FD()); err != nil {
			return nil, err
		}
	}
	if err = awaitLink(dev); err == nil {
		d.host.stop, err = hostif.Watch(dev.Index, d.onLink)
	}
	if err != nil {
		return nil, &xsk.OpError{Op: "watch link", Device: cfg.Interface, Queue: xsk.NoQueue, Err: err}
	}
	return d, nil
}

// vlanOffload is the offload with which a NIC takes the VLAN tag off a received
// frame, as ethtool's list of features calls it.
const vlanOffload = "rx-vlan-hw-parse"

// keepTags has the NIC leave VLAN tags in their frames, where the program sees
// them: without, a VLAN's packet to an address of the stack would pass for one of
// the untagged network. Where the driver does not let it be changed, it stays.
func keepTags(name string) (restore func() error, err error) {
	restore, err = hostif.SetOffload(name, vlanOffload, false)
	if errors.Is(err, errors.ErrUnsupported) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, &xsk.OpError{Op: "keep VLAN tags", Device: name, Queue: xsk.NoQueue, Err: err}
	}
	return restore, nil
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
// down like any other.
func awaitLink(dev hostif.Interface) error {
	limit := linkReset
	if !dev.Running {
		limit = linkReturn
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := hostif.Await(ctx, dev.Index, func(ev hostif.Event) (bool, error) {
		return ev.State.Running || !ev.State.Up || ev.Change.Has(hostif.ChangeGone) || ev.Change.Has(hostif.ChangeEnded), nil
	})
	if err == context.DeadlineExceeded {
		return nil
	}
	return err
}

// onLink follows the interface. It runs on the watch's goroutine.
func (d *Device) onLink(ev hostif.Event) {
	name := d.link.Name
	switch {
	case ev.Change.Has(hostif.ChangeEnded):
		d.SetLink(fmt.Errorf("netdev: watch on %s: %w", name, ev.Err))
	case ev.Change.Has(hostif.ChangeGone):
		d.SetLink(fmt.Errorf("netdev: %s is gone: %w", name, errors.Join(syscall.ENETDOWN, syscall.ENODEV)))
	case !ev.State.Up:
		d.SetLink(fmt.Errorf("netdev: %s is down: %w", name, syscall.ENETDOWN))
	case !ev.State.Running:
		d.SetLink(fmt.Errorf("netdev: %s has no carrier: %w", name, syscall.ENETDOWN))
	case d.LinkErr() != nil:
		d.SetLink(nil)
	}
	if ev.Change.Has(hostif.ChangeMTU) {
		d.setMTU(ev.State.MTU)
	}
}

// setMTU follows the interface's MTU as far as frames fit their chunks.
func (d *Device) setMTU(mtu int) {
	most := mtu
	for _, q := range d.queues {
		most = min(most, maxMTU(q.sock))
	}
	if most >= minMTU {
		d.mtu.Store(uint32(most))
	}
}

// AddAddress claims an address: from now on the kernel does not see packets
// for it. Call it in the network namespace that Open was called in. For IPv6 it
// joins the solicited-node group on the NIC (RFC 4861,
// 7.2.1), or neighbour solicitations would not get through its filter. An
// address that an interface of the host has is refused with EADDRINUSE. Other
// errors are those of [xsk.Program.AddAddress]; over NewOn there is nothing to
// do.
func (d *Device) AddAddress(addr netip.Addr) error {
	if d.host == nil {
		return nil
	}
	h := d.host
	h.mu.Lock()
	defer h.mu.Unlock()
	addr = addr.Unmap()
	if err := h.checkFree(addr); err != nil {
		return err
	}
	if err := h.prog.AddAddress(addr); err != nil {
		return err
	}
	if !addr.Is6() {
		return nil
	}
	for _, m := range h.groups {
		if m.addr == addr {
			return nil
		}
	}
	b := addr.As16()
	group := net.HardwareAddr{0x33, 0x33, 0xff, b[13], b[14], b[15]}
	leave, err := hostif.JoinMulticast(h.dev.Index, group)
	if err != nil {
		return errors.Join(&xsk.OpError{Op: "join " + group.String(), Device: h.dev.Name, Queue: xsk.NoQueue, Err: err}, h.prog.RemoveAddress(addr))
	}
	h.groups = append(h.groups, membership{addr, leave})
	return nil
}

// checkFree returns an error if the host has the address: its own connections
// would lose their packets to the stack.
func (h *host) checkFree(addr netip.Addr) error {
	fail := func(err error, remedy string) error {
		return &xsk.OpError{Op: "claim " + addr.String(), Device: h.dev.Name, Queue: xsk.NoQueue, Err: err, Remedy: remedy}
	}
	holder, err := hostif.Holder(addr)
	if err != nil {
		return fail(err, "")
	}
	if holder != "" {
		return fail(fmt.Errorf("the host has it on %s: %w", holder, syscall.EADDRINUSE),
			"give the stack an address that the host does not have, or take this one from "+holder)
	}
	return nil
}

// RemoveAddress gives an address back to the kernel.
func (d *Device) RemoveAddress(addr netip.Addr) error {
	if d.host == nil {
		return nil
	}
	h := d.host
	h.mu.Lock()
	defer h.mu.Unlock()
	addr = addr.Unmap()
	err := h.prog.RemoveAddress(addr)
	for i, m := range h.groups {
		if m.addr == addr {
			h.groups = append(h.groups[:i], h.groups[i+1:]...)
			return errors.Join(err, m.leave.Close())
		}
	}
	return err
}

// Info says what Open got.
type Info struct {
	Interface string
	Driver    string
	MTU       int      // bytes
	Queues    []uint32 // hardware queues with a socket
	ZeroCopy  bool     // every bind is a zero-copy one, as read back

	// MultiBuffer tells that packets may lie in several chunks, as they must
	// at an MTU above some 3,500 bytes.
	MultiBuffer bool

	// BusyPoll is what the sockets got of Config.BusyPoll, one for each of
	// Queues; the zero value without it.
	BusyPoll []xsk.BusyPolling

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
	}
	if d.host != nil {
		info.Driver = d.host.dev.Driver
		info.Attach = d.host.prog.Mode()
	}
	return info
}

// counters reads what the program did; after detach, what it had done by then.
func (h *host) counters() (xsk.Counters, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.detached {
		return h.last, nil
	}
	return h.prog.Counters()
}

// detach gives the interface back to the kernel.
func (h *host) detach() error {
	h.stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.detached = true
	var err error
	h.last, err = h.prog.Counters()
	return errors.Join(err, h.prog.Close(), h.restore())
}

// close leaves the multicast groups.
func (h *host) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, m := range h.groups {
		errs = append(errs, m.leave.Close())
	}
	h.groups = nil
	return errors.Join(errs...)
}
