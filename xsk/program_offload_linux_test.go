//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// TestOffload is refused, by what the driver declares and, if it were not, by the
// kernel, both with the reason. No device here runs programs.
func TestOffload(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	refused := func(err error, op, says string) {
		t.Helper()
		var e *OpError
		if !errors.As(err, &e) || !errors.Is(err, errors.ErrUnsupported) || e.Op != op || !strings.Contains(err.Error(), says) || !strings.Contains(e.Remedy, "AttachAuto") {
			t.Errorf("%v", err)
		}
	}
	before := bpfDescriptors(t)
	_, err = loadInLab(l, AttachOffload)
	if l.Host.Do(func() error { _, err := hostif.ReadXDPFeatures(ifc.Index); return err }) == nil {
		refused(err, "load program", "the driver runs no programs on the device")
	}

	// What the kernel says to who asks nevertheless.
	spec, err := loadSteer()
	if err != nil {
		t.Fatal(err)
	}
	p := &Program{cfg: ProgramConfig{Interface: lab.HostDevice, Mode: AttachOffload}, ifindex: ifc.Index}
	for _, prog := range spec.Programs {
		prog.Ifindex = uint32(ifc.Index)
	}
	err = l.Host.Do(func() error { return spec.LoadAndAssign(&p.objs, nil) })
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("load for a veth: %v, want EINVAL", err)
	}
	refused(p.offloadError("load program", err), "load program", "redirects to sockets")

	// And to who attaches what was loaded for the host.
	host, err := loadInLab(l, AttachNative)
	if err != nil {
		t.Fatal(err)
	}
	host.cfg.Mode = AttachOffload
	refused(l.Host.Do(host.Attach), "attach program in offload mode", "the driver has no offload")
	if got := labState(t, l); got != (xdpState{}) || host.Mode() != AttachAuto {
		t.Errorf("attached: %+v, mode %v", got, host.Mode())
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	if left := before.New(bpfDescriptors(t)); len(left) > 0 {
		t.Errorf("BPF descriptors that are left: %v", left)
	}
}
