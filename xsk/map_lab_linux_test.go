//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
)

// usersOwn loads a program that is not of this package.
func usersOwn(t *testing.T, typ ebpf.ProgramType, code ...asm.Instruction) *ebpf.Program {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "users_own", Type: typ, License: "GPL", Instructions: append(code, asm.Return()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return prog
}

// redirecting is a program that redirects every packet by the index 1 of a map,
// whatever queue it arrived on, and passes it if there is no socket.
func redirecting(t *testing.T, m *Map) *ebpf.Program {
	t.Helper()
	return usersOwn(t, ebpf.XDP,
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Imm(asm.R2, 1),
		asm.Mov.Imm(asm.R3, int32(ActionPass)),
		asm.FnRedirectMap.Call(),
	)
}

// redirectAll attaches it.
func redirectAll(t *testing.T, l *lab.Lab, m *Map) {
	t.Helper()
	prog := redirecting(t, m)
	err := l.Host.Do(func() error {
		ifc, err := net.InterfaceByName(l.Host.Device)
		if err != nil {
			return err
		}
		lnk, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifc.Index, Flags: link.XDPDriverMode})
		if err == nil {
			t.Cleanup(func() { lnk.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestMap has a program of the user's own redirect to two sockets of one queue, by
// turns.
func TestMap(t *testing.T) {
	sh := newSharing(t)
	m, err := NewMap("own", 4)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	redirectAll(t, sh.Lab, m)
	a, b := sh.open(sh.Host, 0), sh.open(sh.Host, 0)
	defer a.Close()
	defer b.Close()
	for _, s := range []*Socket{a, b, a} {
		if err := m.AddSocket(1, s); err != nil {
			t.Fatal(err)
		}
		d := sh.fromPeer(s)
		sh.send(s, d)
		if err := m.RemoveSocket(1); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(m.RemoveSocket(1), m.RemoveSocket(99)); err != nil {
		t.Errorf("no socket to remove: %v", err)
	}
	if err := errors.Join(m.AddSocket(1, a), m.AddSocket(2, a)); err != nil {
		t.Fatal(err)
	}
	if err := m.AddSocket(1, b); !errors.Is(err, unix.EEXIST) {
		t.Errorf("index taken: %v", err)
	}
	if err := m.AddSocket(4, b); !errors.Is(err, unix.E2BIG) || !strings.Contains(err.Error(), "room for 4") {
		t.Errorf("index out of range: %v", err)
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
	if err := m.AddSocket(3, b); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestPinnedMap hands a map over by its name in a BPF file system.
func TestPinnedMap(t *testing.T) {
	sh := newSharing(t)
	dir := bpffs(t)
	m, err := NewMap("pinned", 4)
	if err != nil {
		t.Fatal(err)
	}
	redirectAll(t, sh.Lab, m)
	path := filepath.Join(dir, "xsks")
	if err := errors.Join(m.Pin(path), m.Close()); err != nil {
		t.Fatal(err)
	}
	if m, err = OpenMap(path); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s := sh.open(sh.Host, 0)
	defer s.Close()
	if err := m.AddSocket(1, s); err != nil {
		t.Fatal(err)
	}
	sh.send(s, sh.fromPeer(s))

	if _, err := OpenMap(filepath.Join(dir, "nothing")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "mount -t bpf") {
		t.Errorf("nothing there: %v", err)
	}
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Pin(filepath.Join(dir, "array")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenMap(filepath.Join(dir, "array")); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "not an XSKMAP") {
		t.Errorf("an array: %v", err)
	}
	if _, err := NewMap("none", 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("no queues: %v", err)
	}
}

// bpffs mounts a BPF file system of the test's own.
func bpffs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Skip("no BPF file system to mount: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
