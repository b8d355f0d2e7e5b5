//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf/link"

	"github.com/afxnet/afxnet/internal/hostif"
)

const fixLost = "somebody took it off, as bpftool link detach and xdp-loader unload do: close, and open again"

// Lost returns why the program is not on its interface any more, after Attach, and
// nil while it is or where that cannot be told. An administrator can take a bpf_link
// off, or have it run another program, and the kernel tells nobody (Linux 6.18
// net/core/dev.c, bpf_xdp_link_detach and bpf_xdp_link_update); a program that was
// joined goes with its loader. It does not come back: the error, which wraps
// os.ErrNotExist, is for good. An interface that is gone has lost its program too.
//
// It takes a system call, which waits for whoever is changing an interface (the
// kernel's RTNL). Of the other methods only Close waits for it.
func (p *Program) Lost() error {
	p.lookMu.Lock()
	defer p.lookMu.Unlock()
	p.mu.Lock()
	l, attached, closed := p.link, p.mode != AttachAuto, p.closed
	p.mu.Unlock()
	var err error
	switch {
	case closed:
	case l != nil:
		err = p.linkLost(l)
	case p.joined != nil && attached:
		err = p.joined.lost()
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return &OpError{Op: "look for program", Device: p.cfg.Interface, Queue: NoQueue, Err: err, Remedy: fixLost}
}

func (p *Program) linkLost(l link.Link) error {
	info, err := l.Info()
	if err != nil {
		return err
	}
	if at := info.XDP(); at != nil && at.Ifindex == 0 {
		return fmt.Errorf("its bpf_link was detached: %w", os.ErrNotExist)
	}
	if id := uint32(info.Program); id != p.id {
		return fmt.Errorf("its bpf_link was given program %d %q: %w", id, programName(id), os.ErrNotExist)
	}
	return nil
}

// lost is Lost. libxdp may have put another dispatcher in the place of the first
// one, with the program in it.
func (j *joined) lost() error {
	at, err := j.hook.Read()
	if err != nil || at.Mode == hostif.XDPMultiple || at.ID == j.top {
		return err
	}
	id, err := findSteer(at.ID)
	if err == nil && id != j.id {
		err = fmt.Errorf("program %d was there, and program %d is now: %w", j.id, id, os.ErrNotExist)
	}
	if err == nil {
		j.top = at.ID
	}
	return err
}
