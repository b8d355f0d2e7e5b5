//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// bindToDevice has the programs of spec loaded for a device to run, if its driver
// declares that it runs any.
func (p *Program) bindToDevice(spec *ebpf.CollectionSpec) error {
	f, err := hostif.ReadXDPFeatures(p.ifindex)
	if err == nil && !f.Offload {
		return p.offloadError("load program", fmt.Errorf("the driver runs no programs on the device: %w", errors.ErrUnsupported))
	}
	// A kernel that does not tell (before 6.3) answers the load.
	for _, prog := range spec.Programs {
		prog.Ifindex = uint32(p.ifindex)
	}
	return nil
}

// offloadError explains the answer to a load for, or an attachment on, a device.
// Offload allows maps of few types (bpf_map_offload_map_alloc, Linux 6.18
// kernel/bpf/offload.c: arrays and hash tables), an XSKMAP not among them, and no
// other maps in a program that is offloaded.
func (p *Program) offloadError(op string, err error) error {
	e := programError(op, p.cfg.Interface, err).(*OpError)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		e.Err = fmt.Errorf("the kernel lets no program on a device that redirects to sockets, or the driver has no offload: %w: %w", errors.ErrUnsupported, err)
	}
	if errors.Is(e.Err, errors.ErrUnsupported) {
		e.Remedy = "use AttachAuto or AttachNative"
	}
	return e
}
