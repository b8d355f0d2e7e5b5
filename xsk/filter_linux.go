//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// Filter is an XDP program of the user's own, which any library or tool has loaded,
// to be tried with frames before it is attached: for [Program] there is
// [Program.Test]. All methods may be called from any goroutine; after Close they
// return net.ErrClosed.
type Filter struct {
	mu     sync.Mutex
	prog   *ebpf.Program
	closed bool
}

// OpenFilter opens a program that is pinned at a path of a BPF file system. The error
// wraps os.ErrNotExist if there is nothing, unix.EINVAL if it is no XDP program, and
// os.ErrPermission without CAP_BPF.
func OpenFilter(path string) (*Filter, error) {
	const op = "open pinned program"
	p, err := ebpf.LoadPinnedProgram(path, nil)
	if err != nil {
		return nil, bpfError(op, NoQueue, fmt.Errorf("%s: %w", path, err))
	}
	return newFilter(op, p)
}

// TakeFilter makes a Filter of a program's descriptor, and takes it over: it is closed
// with the Filter, and also if TakeFilter fails. The error wraps unix.EINVAL if it is
// no XDP program.
func TakeFilter(fd int) (*Filter, error) {
	const op = "take program over"
	p, err := ebpf.NewProgramFromFD(fd) // closes fd if it fails
	if err != nil {
		return nil, bpfError(op, NoQueue, err)
	}
	return newFilter(op, p)
}

func newFilter(op string, p *ebpf.Program) (*Filter, error) {
	if p.Type() != ebpf.XDP {
		return nil, bpfError(op, NoQueue, errors.Join(fmt.Errorf("a program of type %v, not of XDP: %w", p.Type(), unix.EINVAL), p.Close()))
	}
	return &Filter{prog: p}, nil
}

// arrived is struct xdp_md (include/uapi/linux/bpf.h).
type arrived struct {
	Data, DataEnd, DataMeta      uint32
	IngressIfindex, RXQueueIndex uint32
	EgressIfindex                uint32
}

// filterRoom is how much longer than before a program can make a frame: there is
// less than a page behind it, and XDP_PACKET_HEADROOM before it.
const filterRoom = 4096 + 256

// filterMax is the longest frame to try, in bytes: that of the largest MTU.
const filterMax = 65535 + 14

// Test runs the program once on an Ethernet frame of at least 14 bytes
// (BPF_PROG_TEST_RUN, net/bpf/test_run.c). It returns what it wants done, which is
// not done, and the frame as it leaves it. Its maps change as with a packet from the
// network; a redirect by an XSKMAP is one only where the index has a socket, else
// what the program says of that. The error wraps unix.EINVAL if the frame is too short
// or too long, of which older kernels take less than a page, and unix.ENODEV if there
// is no such device. Linux before 5.14 knows the zero Arrival only, and wraps
// unix.EINVAL for others.
func (f *Filter) Test(frame []byte, at Arrival) (Action, []byte, error) {
	const op = "test program"
	fail := func(err error) (Action, []byte, error) {
		e := bpfError(op, NoQueue, err)
		if at.Device != "" {
			e.Device, e.Queue = at.Device, at.Queue
		}
		return 0, nil, e
	}
	if len(frame) < 14 || len(frame) > filterMax {
		return fail(fmt.Errorf("frame of %d bytes: from an Ethernet header's 14 to %d: %w", len(frame), filterMax, unix.EINVAL))
	}
	run := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+filterRoom)}
	switch {
	case at.Device != "":
		ifc, err := hostif.Lookup(at.Device)
		if err != nil {
			return fail(err)
		}
		run.Context = arrived{DataEnd: uint32(len(frame)), IngressIfindex: uint32(ifc.Index), RXQueueIndex: at.Queue}
	case at.Queue != 0:
		return fail(fmt.Errorf("queue %d of no device: %w", at.Queue, unix.EINVAL))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fail(net.ErrClosed)
	}
	does, err := f.prog.Run(&run)
	switch {
	case errors.Is(err, unix.EINVAL) && at.Device != "":
		return fail(fmt.Errorf("%d bytes on a queue that the device may not have: %w", len(frame), err))
	case err != nil:
		return fail(fmt.Errorf("%d bytes: %w", len(frame), err))
	}
	return Action(does), run.DataOut, nil
}

// Close gives the program up. Whoever else has it, or has attached it, still has it.
// Idempotent.
func (f *Filter) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	if err := f.prog.Close(); err != nil {
		return bpfError("close program", NoQueue, err)
	}
	return nil
}
