//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Program is the steering program of one interface, with its maps. It decides
// which frames leave the kernel: those that concern an address added with
// AddAddress, or are UDP to a group added with AddGroup, and arrive untagged, on a
// queue that has a socket, under the interface's MAC address or a group's.
// Everything else goes on to the kernel; Verdict has the details.
//
// The interface's driver must not strip VLAN tags before the program runs
// (ethtool rx-vlan-offload off): a stripped frame looks untagged, and traffic
// of a VLAN would reach the stack. The interface must let the solicited-node
// multicast groups of IPv6 addresses through.
//
// The order to use it in: LoadProgram, Attach, bind the sockets and wait for
// the link, AddSocket, AddAddress. Attaching and binding reset the link of some
// drivers, and with the addresses last nothing is redirected before it can be
// received.
//
// The kernel detaches the program when the process ends, however it ends. It
// does so too when a Program becomes unreachable: keep it until Close.
//
// All methods may be called from any goroutine. After Close they return
// net.ErrClosed.
type Program struct {
	cfg     ProgramConfig // effective
	ifindex int
	id      uint32
	frags   bool    // loaded for packets over several buffers
	marker  uint64  // of frames with metadata; 0 without
	joined  *joined // in AttachJoin

	lookMu sync.Mutex // held by Lost while it asks the kernel, and by Close; before mu; guards joined.top

	mu        sync.Mutex
	objs      steerHandles
	link      link.Link // nil while not attached
	lock      *os.File  // keeps AttachJoin of others away, or nil
	mode      AttachMode
	nativeErr error
	addrs     map[netip.Addr]struct{} // contents of addr4 and addr6, groups too
	closed    bool
}

// steerHandles leaves out the generated variables: they are memory mappings,
// which only the garbage collector undoes.
type steerHandles struct {
	steerPrograms
	steerMaps
	Globals *ebpf.Map `ebpf:".bss"` // one entry: interface_mac
}

// LoadProgram loads the steering program and its maps into the kernel. The
// program does nothing until Attach.
//
// The error is an *OpError. It wraps os.ErrPermission if privileges are
// missing, and errors.ErrUnsupported if the kernel lacks a feature.
func LoadProgram(cfg ProgramConfig) (*Program, error) {
	p, err := loadProgram(cfg, true)
	if errors.Is(err, unix.EINVAL) && cfg.Mode != AttachOffload {
		// As a kernel before 5.18 says to BPF_F_XDP_HAS_FRAGS.
		if p, err := loadProgram(cfg, false); err == nil {
			return p, nil
		}
	}
	return p, err
}

// loadProgram is LoadProgram, for packets over several buffers if frags is set.
func loadProgram(cfg ProgramConfig, frags bool) (_ *Program, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, programError("load program", cfg.Interface, err)
	}
	iface, err := net.InterfaceByName(cfg.Interface)
	if err != nil {
		return nil, programError("find interface", cfg.Interface, err)
	}
	if cfg.MAC == nil {
		if err := checkMAC(iface.HardwareAddr); err != nil {
			return nil, programError("read MAC address", cfg.Interface, err)
		}
		cfg.MAC = iface.HardwareAddr
	}
	cfg.MAC = slices.Clone(cfg.MAC)

	load := loadSteer
	if cfg.Metadata != 0 {
		load = loadSteerMetadata
	}
	spec, err := load()
	if err != nil {
		return nil, programError("load program", cfg.Interface, err)
	}
	spec.Maps[steerMapXsks].MaxEntries = uint32(cfg.Queues)
	spec.Maps[steerMapAddr4].MaxEntries = uint32(cfg.MaxAddresses)
	spec.Maps[steerMapAddr6].MaxEntries = uint32(cfg.MaxAddresses)
	if err := spec.Variables[steerVarInterfaceMac].Set(wireMAC(cfg.MAC)); err != nil {
		return nil, programError("load program", cfg.Interface, err)
	}
	p := &Program{cfg: cfg, ifindex: iface.Index, frags: frags, addrs: make(map[netip.Addr]struct{})}
	if cfg.Metadata != 0 {
		if err := p.prepareMetadata(spec); err != nil {
			return nil, err
		}
	}
	if !frags {
		for _, prog := range spec.Programs {
			prog.Flags &^= unix.BPF_F_XDP_HAS_FRAGS
		}
	}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	switch cfg.Mode {
	case AttachJoin:
		if err := p.loadJoined(spec); err != nil {
			return nil, err
		}
		return p, nil
	case AttachOffload:
		if err := p.bindToDevice(spec); err != nil {
			return nil, err
		}
	}
	if err := spec.LoadAndAssign(&p.objs, nil); err != nil {
		if cfg.Mode == AttachOffload {
			return nil, p.offloadError("load program", err)
		}
		return nil, programError("load program", cfg.Interface, p.metadataError(err))
	}
	info, err := p.objs.AfxnetSteer.Info()
	if err != nil {
		return nil, programError("read program info", cfg.Interface, err)
	}
	id, ok := info.ID()
	if !ok {
		return nil, programError("read program info", cfg.Interface,
			&UnsupportedError{Feature: "BPF program ids", MinKernel: "4.13"})
	}
	p.id = uint32(id)
	return p, nil
}

// Config returns the effective configuration: defaults resolved, MAC as last
// set. Mode is what was asked for; see Program.Mode for what was got.
func (p *Program) Config() ProgramConfig {
	p.mu.Lock()
	defer p.mu.Unlock()
	cfg := p.cfg
	cfg.MAC = slices.Clone(cfg.MAC)
	return cfg
}

// ID returns the kernel's id of the program, as bpftool and ip-link show it.
func (p *Program) ID() uint32 { return p.id }

// SetMAC changes the address that unicast frames must be sent to, after the
// interface's has changed.
func (p *Program) SetMAC(mac net.HardwareAddr) error {
	if err := checkMAC(mac); err != nil {
		return p.opError("set MAC address", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.opError("set MAC address", net.ErrClosed)
	}
	if err := p.objs.Globals.Put(uint32(0), wireMAC(mac)); err != nil {
		return p.opError("set MAC address", err)
	}
	p.cfg.MAC = slices.Clone(mac)
	return nil
}

// Close detaches the program, if it was attached here, then frees it and its maps.
// Frames for the sockets go to the kernel from then on. Calling it again is
// harmless.
func (p *Program) Close() error {
	p.lookMu.Lock()
	defer p.lookMu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var errs []error
	if p.link != nil {
		// Detach, because closing does nothing while a duplicate of the link's
		// descriptor exists anywhere.
		errs = append(errs, p.link.Detach(), p.link.Close())
	}
	if p.joined != nil && p.id != 0 { // else it is not known to be ours
		errs = append(errs, p.clearLocked())
	}
	if p.joined != nil {
		p.joined.hook.Close()
	}
	if p.lock != nil {
		errs = append(errs, p.lock.Close())
	}
	errs = append(errs, p.objs.steerPrograms.Close(), p.objs.steerMaps.Close(), p.objs.Globals.Close())
	if err := errors.Join(errs...); err != nil {
		return p.opError("close program", err)
	}
	return nil
}

func (p *Program) opError(op string, err error) error {
	return programError(op, p.cfg.Interface, err)
}

// programError adds the remedies that hold for every step.
func programError(op, device string, err error) error {
	e := &OpError{Op: op, Device: device, Queue: NoQueue, Err: err}
	switch {
	case errors.Is(err, unix.EPERM):
		// The library's text guesses at RLIMIT_MEMLOCK.
		e.Err = os.NewSyscallError("bpf", unix.EPERM)
		e.Remedy = fixBPF
	case errors.Is(err, ebpf.ErrNotSupported): // which is not errors.ErrUnsupported
		e.Err = fmt.Errorf("%w (%w)", err, errors.ErrUnsupported)
	case errors.Is(err, unix.ENOMEM):
		e.Remedy = "BPF memory counts against the memory cgroup, before Linux 5.11 against RLIMIT_MEMLOCK"
	}
	return e
}
