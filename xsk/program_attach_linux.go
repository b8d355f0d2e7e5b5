//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// Attach puts the program on the interface, as a bpf_link. It must be called
// in the network namespace LoadProgram was called in.
//
// A program that is already there is never replaced: the error names it and
// wraps unix.EBUSY or unix.EEXIST. A bond takes one in generic mode only. The
// error wraps os.ErrExist if this Program is attached, and errors.ErrUnsupported
// if the kernel has no bpf_link for XDP or the driver has not the mode that was
// asked for. With AttachJoin it only looks that the program is still there.
func (p *Program) Attach() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.opError("attach program", net.ErrClosed)
	}
	if p.link != nil {
		return p.opError("attach program", fmt.Errorf("attached in %v mode: %w", p.mode, os.ErrExist))
	}

	if p.joined != nil {
		return p.attachJoinedLocked()
	}
	dev, err := hostif.Lookup(p.cfg.Interface)
	if err != nil {
		return p.opError("find interface", err)
	}
	// Before anybody can find it there. If the name is taken, it is by somebody who has
	// nothing to do with the program, and keeps others away as well.
	lock, lockErr := lockProgram(p.id)
	if lockErr != nil && !errors.Is(lockErr, unix.EBUSY) {
		return p.opError("lock program", lockErr)
	}
	defer func() {
		if p.link == nil && lock != nil {
			lock.Close()
		}
	}()
	var l link.Link
	var nativeErr error
	switch {
	case p.cfg.Mode == AttachOffload:
		if l, err = p.attachLocked(link.XDPOffloadMode); err != nil {
			return p.attachError(AttachOffload, err)
		}
	case p.cfg.Mode == AttachGeneric:
	case dev.Driver == "bonding":
		nativeErr = p.bondError()
	default:
		if l, err = p.attachLocked(link.XDPDriverMode); errors.Is(err, unix.EOPNOTSUPP) {
			nativeErr = p.attachError(AttachNative, err)
		}
	}
	if p.cfg.Mode == AttachNative && nativeErr != nil {
		return nativeErr
	}
	if p.cfg.Mode == AttachGeneric || nativeErr != nil {
		l, err = p.attachLocked(link.XDPGenericMode)
		if err != nil {
			return p.attachError(AttachGeneric, err)
		}
	}
	if err != nil {
		return p.attachError(AttachNative, err)
	}

	// What the kernel says, not what was asked for.
	state, err := readXDPState(p.ifindex)
	if err == nil && state.native != p.id && state.generic != p.id && state.offload != p.id {
		err = fmt.Errorf("program %d is not on the interface", p.id)
	}
	if err != nil {
		return p.opError("read attach mode", errors.Join(err, l.Close()))
	}
	switch p.id {
	case state.native:
		p.mode = AttachNative
	case state.generic:
		p.mode = AttachGeneric
	case state.offload:
		p.mode = AttachOffload
	}
	p.link, p.lock, p.nativeErr = l, lock, nativeErr
	return nil
}

func (p *Program) attachLocked(flags link.XDPAttachFlags) (link.Link, error) {
	return link.AttachXDP(link.XDPOptions{
		Program:   p.objs.AfxnetSteer,
		Interface: p.ifindex,
		Flags:     flags,
	})
}

// Mode returns the mode the program is attached in as the kernel reported it,
// and AttachAuto before Attach.
func (p *Program) Mode() AttachMode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// NativeErr returns why AttachAuto fell back to generic mode, and nil if it
// did not.
func (p *Program) NativeErr() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nativeErr
}

func (p *Program) attachError(mode AttachMode, err error) error {
	op := "attach program in " + mode.String() + " mode"
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOMEM) && mode == AttachGeneric {
		return p.opError(op, err)
	}
	e := &OpError{Op: op, Device: p.cfg.Interface, Queue: NoQueue, Err: err}
	if errno := unix.Errno(0); errors.As(err, &errno) {
		e.Err = os.NewSyscallError("bpf", errno) // as the library calls it: BPF_LINK_CREATE
	}
	switch {
	case errors.Is(err, ebpf.ErrNotSupported):
		e.Err = &UnsupportedError{Feature: "bpf_link for XDP", MinKernel: "5.9"}
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		e.Remedy = fixPresent(p.cfg.Interface, "")
		if state, stateErr := readXDPState(p.ifindex); stateErr == nil {
			if present, name := state.describe(); present != "" {
				e.Err = fmt.Errorf("%s is there: %w", present, e.Err)
				e.Remedy = fixPresent(p.cfg.Interface, name)
			}
		}
	case mode == AttachOffload:
		return p.offloadError(op, e.Err)
	case mode == AttachNative && errors.Is(err, unix.EOPNOTSUPP):
		e.Remedy = fixNoNative
	case !p.frags && errors.Is(err, unix.ERANGE):
		e.Err = errors.Join(&UnsupportedError{Feature: "XDP at this MTU (BPF_F_XDP_HAS_FRAGS)", MinKernel: "5.18"}, e.Err)
		e.Remedy = "set an MTU of some 3400 or less on both ends of the link"
	case mode == AttachNative:
		e.Remedy = "the driver refused: usual causes are an MTU above what it allows with XDP, LRO or header split, " +
			"and too few queues for its XDP transmit queues; the kernel log may say which"
		if dev, lookupErr := hostif.Lookup(p.cfg.Interface); lookupErr == nil {
			ch, _ := hostif.ReadChannels(dev.Name) // without, the driver's other rules are looked at
			if why, fix := nativeBar(dev, ch); why != "" {
				e.Err, e.Remedy = fmt.Errorf("%s: %w", why, e.Err), fix
			}
		}
	}
	return e
}

// bondError is why no program goes onto a bond in native mode. The kernel would
// take it and run it on the members, and drop what it redirects: a socket gets
// nothing from a device that it is not bound to (xsk_rcv_check, Linux 6.18
// net/xdp/xsk.c), and to a bond's members it is not.
func (p *Program) bondError() error {
	return &OpError{
		Op: "attach program in native mode", Device: p.cfg.Interface, Queue: NoQueue,
		Err:    fmt.Errorf("sockets on a bond receive nothing in native mode: %w", errors.ErrUnsupported),
		Remedy: fixBond,
	}
}

// describe names the first program on an interface, in a sentence and, if it can
// be read, by its name alone. Both are empty if there is none.
func (s xdpState) describe() (present, name string) {
	for _, at := range []struct {
		mode string
		id   uint32
	}{{"native", s.native}, {"generic", s.generic}, {"offload", s.offload}} {
		if at.id == 0 {
			continue
		}
		name = programName(at.id)
		if present = fmt.Sprintf("XDP program %d", at.id); name != "" {
			present += fmt.Sprintf(" %q", name)
		}
		present += " in " + at.mode + " mode"
		if name == dispatcherName {
			if parts, err := components(at.id); err == nil {
				present += " with " + describeComponents(parts)
			}
		}
		return present, name
	}
	return "", ""
}

// programName returns the name of a program. It is empty
// if the program is gone, has none, or is hidden: looking it up needs
// CAP_SYS_ADMIN.
func programName(id uint32) string {
	prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		return ""
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return ""
	}
	return info.Name
}
