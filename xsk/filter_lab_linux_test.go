//go:build linux && (amd64 || arm64)

package xsk

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
)

// descriptor returns one more descriptor of a program.
func descriptor(t *testing.T, prog *ebpf.Program) int {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(prog.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// takenFilter makes a Filter of a program, with a descriptor of its own.
func takenFilter(t *testing.T, prog *ebpf.Program) *Filter {
	t.Helper()
	f, err := TakeFilter(descriptor(t, prog))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestFilter tries programs of the user's own: what they want done, what they make of
// the frame, and what they know of where it came in.
func TestFilter(t *testing.T) {
	sh := newSharing(t)
	frame := bytes.Repeat([]byte{2, 0, 0, 0, 0, 7}, 10)
	expect := func(f *Filter, at Arrival, want Action, leaves []byte) {
		t.Helper()
		does, out, err := f.Test(frame, at)
		if err != nil || does != want || !bytes.Equal(out, leaves) {
			t.Errorf("%+v: %v, %x, %v; want %v, %x", at, does, out, err, want, leaves)
		}
	}

	m, err := NewMap("tried", 4)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	redirects := takenFilter(t, redirecting(t, m))
	expect(redirects, Arrival{}, ActionPass, frame)
	s := sh.open(sh.Host, 0)
	defer s.Close()
	if err := m.AddSocket(1, s); err != nil {
		t.Fatal(err)
	}
	expect(redirects, Arrival{}, ActionRedirect, frame)

	// It puts eight bytes before the frame, which it writes to.
	grows := takenFilter(t, usersOwn(t, ebpf.XDP,
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Imm(asm.R2, -8),
		asm.FnXdpAdjustHead.Call(),
		asm.LoadMem(asm.R2, asm.R6, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, 8),
		asm.Mov.Imm(asm.R0, int32(ActionAborted)),
		asm.JGT.Reg(asm.R4, asm.R3, "end"),
		asm.StoreImm(asm.R2, 0, 0x5a5a5a5a, asm.Word),
		asm.StoreImm(asm.R2, 4, 0x5a5a5a5a, asm.Word),
		asm.Mov.Imm(asm.R0, int32(ActionTX)),
		asm.Mov.Reg(asm.R6, asm.R6).WithSymbol("end"), // nothing,
	))
	expect(grows, Arrival{}, ActionTX, append(bytes.Repeat([]byte{0x5a}, 8), frame...))

	// It tells the queue.
	queue := takenFilter(t, usersOwn(t, ebpf.XDP, asm.LoadMem(asm.R0, asm.R1, 16, asm.Word)))
	expect(queue, Arrival{}, ActionAborted, frame)
	err = sh.Host.Do(func() error {
		for q, want := range []Action{ActionAborted, ActionDrop} {
			expect(queue, Arrival{Device: lab.HostDevice, Queue: uint32(q)}, want, frame)
		}
		if _, _, err := queue.Test(frame, Arrival{Device: lab.HostDevice, Queue: 99}); err == nil || !strings.Contains(err.Error(), lab.HostDevice+" queue 99") {
			t.Errorf("no such queue: %v", err)
		}
		if _, _, err := queue.Test(frame, Arrival{Device: "nothing"}); !errors.Is(err, unix.ENODEV) {
			t.Errorf("no such device: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"queue of no device": second(queue.Test(frame, Arrival{Queue: 1})),
		"short frame":        second(queue.Test(frame[:13], Arrival{})),
		"longer than any":    second(queue.Test(make([]byte, 1<<17), Arrival{})),
	} {
		if !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := errors.Join(queue.Close(), queue.Close()); err != nil {
		t.Error(err)
	}
	if err := second(queue.Test(frame, Arrival{})); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func second(_ Action, _ []byte, err error) error { return err }

// TestOpenFilter finds programs by their names in a BPF file system, and refuses what
// is none of XDP.
func TestOpenFilter(t *testing.T) {
	lab.Require(t, lab.BPF)
	dir := bpffs(t)
	pass := usersOwn(t, ebpf.XDP, asm.Mov.Imm(asm.R0, int32(ActionPass)))
	other := usersOwn(t, ebpf.SocketFilter, asm.Mov.Imm(asm.R0, 0))
	if err := errors.Join(pass.Pin(filepath.Join(dir, "pass")), other.Pin(filepath.Join(dir, "other"))); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFilter(filepath.Join(dir, "pass"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if does, _, err := f.Test(make([]byte, 64), Arrival{}); does != ActionPass || err != nil {
		t.Errorf("%v, %v", does, err)
	}
	if _, err := OpenFilter(filepath.Join(dir, "nothing")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "mount -t bpf") {
		t.Errorf("nothing there: %v", err)
	}
	if _, err := OpenFilter(filepath.Join(dir, "other")); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "not of XDP") {
		t.Errorf("a socket filter: %v", err)
	}
	fd := descriptor(t, other)
	if _, err := TakeFilter(fd); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a socket filter: %v", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("its descriptor is left: %v", err)
	}
}
