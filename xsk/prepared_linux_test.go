//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
)

// TestPrepared makes sockets in two steps, over memory that each maps by itself.
func TestPrepared(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	err := l.Host.Do(func() error {
		cfg := small(Config{})
		memory, err := cfg.Memory()
		if err != nil {
			t.Fatal(err)
		}
		size, err := memory.Size()
		if err != nil || size != memory.Chunks*4096 {
			t.Fatal(size, err)
		}
		fd, err := unix.MemfdCreate("umem", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		memory.File = os.NewFile(uintptr(fd), "umem")
		if err := memory.File.Truncate(int64(size)); err != nil {
			t.Fatal(err)
		}
		first, err := umem.New(memory)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Prepared, err = Prepare(cfg.Interface, first, BusyPoll{}); err != nil {
			t.Fatal(err)
		}
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		if cfg.Region, err = umem.New(memory); err != nil {
			t.Fatal(err)
		}
		if err := memory.File.Close(); err != nil {
			t.Error(err)
		}
		before := descriptors.Open(t)
		s, err := Open(cfg)
		if err != nil {
			return err
		}
		if s.FD() != cfg.Prepared.FD {
			t.Errorf("descriptor %d, prepared %d", s.FD(), cfg.Prepared.FD)
		}
		if err := errors.Join(s.Close(), cfg.Region.Close()); err != nil {
			t.Error(err)
		}
		after := descriptors.Open(t)
		if what, open := after[cfg.Prepared.FD]; open {
			t.Errorf("the prepared descriptor %d is left: %s", cfg.Prepared.FD, what)
		}
		if left := before.New(after); len(left) > 0 {
			t.Errorf("descriptors that are left: %v", left)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPreparedOtherDevice binds a socket to another device than it was made for.
func TestPreparedOtherDevice(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	if !releaseAtLeast(kernelRelease(), 6, 5) {
		t.Skip("before Linux 6.5 that may be possible")
	}
	err := l.Host.Do(func() error {
		region, err := umem.New(umem.Config{Chunks: 256})
		if err != nil {
			return err
		}
		defer region.Close()
		p, err := Prepare(lab.HostDevice, region, BusyPoll{})
		if err != nil {
			return err
		}
		cfg := small(Config{Region: region, Prepared: p, Bind: BindCopy})
		cfg.Interface = "lo"
		s, err := Open(cfg)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, unix.EINVAL) {
			t.Errorf("bound to lo: %v, want EINVAL", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPreparedTwice registers memory with a socket that has some: nobody else has its
// queue.
func TestPreparedTwice(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	region, err := umem.New(umem.Config{Chunks: 256})
	if err != nil {
		t.Fatal(err)
	}
	defer region.Close()
	err = l.Host.Do(func() error {
		p, err := Prepare(lab.HostDevice, region, BusyPoll{})
		if err != nil {
			return err
		}
		p.Registered = false
		s, err := Open(small(Config{Region: region, Prepared: p}))
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "Prepared.Registered") {
			t.Errorf("%v, want EBUSY and its cause", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPreparedErrors wants the descriptor closed, whatever goes wrong.
func TestPreparedErrors(t *testing.T) {
	region, err := umem.New(umem.Config{Chunks: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer region.Close()
	null := func() int {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	unixSocket := func() int {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	up := Config{Interface: "lo", Rings: RingSizes{Fill: 16, Completion: 16, RX: 16, TX: 16}, Region: region, Bind: BindCopy}
	for _, tc := range []struct {
		name string
		fd   int
		cfg  Config
		reg  bool
		says string
	}{
		{"negative", -1, up, true, "Config.Prepared.FD"},
		{"no region", null(), Config{Interface: "lo"}, true, "Config.Region has to be"},
		{"shared", null(), Config{Interface: "lo", Shared: NewShared(region)}, true, "Config.Shared nil"},
		{"field", null(), Config{Interface: "lo", Bind: 9}, false, "Config.Bind"},
		{"interface", null(), Config{Interface: "nonesuch0", Region: region}, true, "nonesuch0"},
		{"no socket", null(), up, true, "non-socket"},
		{"another socket", unixSocket(), up, true, "not AF_XDP"},
	} {
		tc.cfg.Prepared = &Prepared{FD: tc.fd, Registered: tc.reg}
		s, err := Open(tc.cfg)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v does not say %q", tc.name, err, tc.says)
		}
		if _, err := unix.FcntlInt(uintptr(max(tc.fd, 0)), unix.F_GETFD, 0); tc.fd >= 0 && err != unix.EBADF {
			t.Errorf("%s: the descriptor is open: %v", tc.name, err)
		}
	}
}

// TestPreparedOnce opens a second time what an Open has closed: the number is
// somebody else's by then.
func TestPreparedOnce(t *testing.T) {
	null := func() int {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	cfg := Config{Interface: "nonesuch0", Prepared: &Prepared{FD: null()}}
	if _, err := Open(cfg); !errors.Is(err, unix.ENODEV) {
		t.Fatalf("%v, want ENODEV", err)
	}
	fd := null() // most likely that number
	defer unix.Close(fd)
	if _, err := Open(cfg); !errors.Is(err, errPreparedTaken) {
		t.Errorf("%v, want %v", err, errPreparedTaken)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		t.Errorf("somebody else's descriptor: %v", err)
	}
}

// TestPrepareOnHeap wants Go memory refused: it would be somebody else's by the time
// that the kernel writes to it.
func TestPrepareOnHeap(t *testing.T) {
	region, err := umem.New(umem.Config{Chunks: 64, OnHeap: true})
	if err != nil {
		t.Fatal(err)
	}
	defer region.Close()
	p, err := Prepare("lo", region, BusyPoll{})
	if err == nil {
		unix.Close(p.FD)
	}
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "OnHeap") {
		t.Errorf("%v, want EINVAL and OnHeap", err)
	}
}

// TestTakeMap takes over what is a map, and what is none.
func TestTakeMap(t *testing.T) {
	lab.Require(t, lab.XDP)
	own, err := NewMap("taken", 4)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	dup, err := unix.FcntlInt(uintptr(own.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	m, err := TakeMap(dup)
	if err != nil {
		t.Fatal(err)
	}
	if m.FD() != dup {
		t.Errorf("descriptor %d, handed over %d", m.FD(), dup)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{dup, null, -1} { // closed, no map, none
		if m, err := TakeMap(fd); err == nil {
			m.Close()
			t.Errorf("descriptor %d is taken for a map", fd)
		}
	}
	if _, err := unix.FcntlInt(uintptr(null), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the descriptor is open: %v", err)
	}
}
