// Package steering is the steering program on an interface with all that the
// interface needs beside it: VLAN tags where the program sees them, the multicast
// groups of neighbour discovery let through the NIC's filter, and no address that
// the host has.
//
// It is the privileged half of package netdev: in the same process, or in the
// helper of package xsk/handover.
package steering

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/xsk"
)

// Interface is an interface with a steering program. Its methods may be called
// from any goroutine; those that concern addresses, in the network namespace that
// Attach was called in.
type Interface struct {
	dev     hostif.Interface
	prog    *xsk.Program
	restore func() error // gives the NIC its VLAN tags back
	unwatch func()       // ends follow and followAddress
	unguard func()       // ends guard
	done    chan struct{}

	findings *Mailbox

	mu       sync.Mutex
	groups   []membership       // solicited-node groups joined on the NIC, one per address
	kernel   *hostif.Groups     // the host as member of the groups in joined
	joined   map[netip.Addr]int // calls of JoinGroup without their LeaveGroup
	lost     error              // why the program does not follow the interface's address
	gone     bool               // the interface is
	claimed  map[netip.Addr]bool
	shared   map[netip.Addr]bool // of claimed, those that the host has been given since
	mtu      int                 // the interface's, as last heard
	narrow   bool                // it is too small for what is claimed: see followMTULocked
	err      error               // see Err
	detached bool
	last     xsk.Counters // as of Detach
}

type membership struct {
	addr  netip.Addr
	leave io.Closer
}

// leastQueues is for how many queues there is room in a program at least: some
// drivers add queues for it.
const leastQueues = 256 // 2 KiB of map

// Attach loads a program and puts it on the interface: before the sockets are
// bound, since drivers that reset the link for either do so in this order then.
// Nothing is redirected yet. Errors are those of [xsk.LoadProgram] and
// [xsk.Program.Attach].
func Attach(dev hostif.Interface, mode xsk.AttachMode) (_ *Interface, err error) {
	i := &Interface{
		dev: dev, mtu: dev.MTU, joined: make(map[netip.Addr]int), claimed: make(map[netip.Addr]bool), shared: make(map[netip.Addr]bool),
		unwatch: func() {}, unguard: func() {}, done: make(chan struct{}), findings: NewMailbox(),
	}
	i.prog, err = xsk.LoadProgram(xsk.ProgramConfig{Interface: dev.Name, Queues: max(dev.RXQueues, dev.TXQueues, leastQueues), Mode: mode})
	if err != nil {
		return nil, err
	}
	if i.restore, err = keepTags(dev.Name); err != nil {
		return nil, errors.Join(err, i.prog.Close())
	}
	i.kernel = hostif.OpenGroups(dev.Index)
	if err := i.prog.Attach(); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	unwatch, err := hostif.Watch(dev.Index, i.follow)
	if err != nil {
		err = &xsk.OpError{Op: "watch link", Device: dev.Name, Queue: xsk.NoQueue, Err: err}
		return nil, errors.Join(err, i.Close())
	}
	i.unwatch = unwatch
	unwatchAddresses, err := hostif.WatchAddresses(i.followAddress, i.endAddresses)
	if err != nil {
		err = &xsk.OpError{Op: "watch addresses", Device: dev.Name, Queue: xsk.NoQueue, Err: err}
		return nil, errors.Join(err, i.Close())
	}
	i.unwatch = func() { unwatch(); unwatchAddresses() }
	if err := i.startGuard(); err != nil {
		err = &xsk.OpError{Op: "guard program", Device: dev.Name, Queue: xsk.NoQueue, Err: err}
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

// follow has the program take what is sent to the interface's Ethernet address as it
// is now: administrators change it, and bonds do when another member takes over. It
// tells of an MTU that does not do.
func (i *Interface) follow(ev hostif.Event) {
	err := ev.Err
	if ev.Change.Has(hostif.ChangeMAC) {
		err = errors.Join(err, i.prog.SetMAC([]byte(ev.State.MAC)))
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gone = ev.Change.Has(hostif.ChangeGone)
	if ev.Change.Has(hostif.ChangeMTU) {
		i.followMTULocked(ev.State.MTU)
	}
	if ev.Change.Has(hostif.ChangeMAC) {
		i.lost = nil // what was wrong with the last address is over
	}
	if err != nil {
		i.lost = errors.Join(i.lost, err)
		i.find(xsk.Finding{Subject: xsk.SubjectLink, Level: xsk.Warning,
			Text: fmt.Sprintf("the program does not follow the Ethernet address of %s, and what is sent to another one goes to the kernel: %v", i.dev.Name, err),
			Fix:  "open again"})
	}
}

// AddSocket is [xsk.Program.AddSocket].
func (i *Interface) AddSocket(queue uint32, fd int) error { return i.prog.AddSocket(queue, fd) }

// Mode is [xsk.Program.Mode].
func (i *Interface) Mode() xsk.AttachMode { return i.prog.Mode() }

// AddAddress claims an address: from now on the kernel does not see packets for
// it. For IPv6 it joins the solicited-node group on the NIC (RFC 4861, 7.2.1), or
// neighbour solicitations would not get through its filter. An address that an
// interface of the host has is refused with EADDRINUSE. Other errors are those of
// [xsk.Program.AddAddress].
func (i *Interface) AddAddress(addr netip.Addr) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	addr = addr.Unmap()
	if err := i.checkFree(addr); err != nil {
		return err
	}
	if err := i.prog.AddAddress(addr); err != nil {
		return err
	}
	i.claimed[addr] = true
	if !addr.Is6() {
		return nil
	}
	for _, m := range i.groups {
		if m.addr == addr {
			return nil
		}
	}
	b := addr.As16()
	group := net.HardwareAddr{0x33, 0x33, 0xff, b[13], b[14], b[15]}
	leave, err := hostif.JoinMulticast(i.dev.Index, group)
	if err != nil {
		delete(i.claimed, addr)
		return errors.Join(&xsk.OpError{Op: "join " + group.String(), Device: i.dev.Name, Queue: xsk.NoQueue, Err: err}, i.prog.RemoveAddress(addr))
	}
	i.groups = append(i.groups, membership{addr, leave})
	i.followMTULocked(i.mtu)
	return nil
}

// checkFree returns an error if the host has the address: its own connections
// would lose their packets to the stack.
func (i *Interface) checkFree(addr netip.Addr) error {
	fail := func(err error, remedy string) error {
		return &xsk.OpError{Op: "claim " + addr.String(), Device: i.dev.Name, Queue: xsk.NoQueue, Err: err, Remedy: remedy}
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
func (i *Interface) RemoveAddress(addr netip.Addr) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	addr = addr.Unmap()
	err := i.prog.RemoveAddress(addr)
	delete(i.claimed, addr)
	delete(i.shared, addr)
	for n, m := range i.groups {
		if m.addr == addr {
			i.groups = append(i.groups[:n], i.groups[n+1:]...)
			return errors.Join(err, m.leave.Close())
		}
	}
	return err
}

// Counters reads what the program did; after Detach, what it had done by then.
func (i *Interface) Counters() (xsk.Counters, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.detached {
		return i.last, nil
	}
	return i.prog.Counters()
}

// Detach gives the interface back to the kernel, with its VLAN tags as they were.
// Idempotent.
func (i *Interface) Detach() error {
	i.unwatch() // it waits for follow
	i.unguard()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.detached {
		return nil
	}
	i.detached = true
	var err error
	i.last, err = i.prog.Counters()
	return errors.Join(err, i.lost, i.prog.Close(), i.restore())
}

// Close detaches the program and leaves the multicast groups. Idempotent.
func (i *Interface) Close() error {
	errs := []error{i.Detach()}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, m := range i.groups {
		errs = append(errs, m.leave.Close())
	}
	i.groups = nil
	clear(i.joined)
	return errors.Join(append(errs, i.kernel.Close())...)
}
