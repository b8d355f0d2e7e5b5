package sys

import (
	"errors"
	"os"
	"reflect"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLayout compares the structures of linux/if_xdp.h with the sizes that the
// kernel copies.
func TestLayout(t *testing.T) {
	for _, test := range []struct {
		name string
		typ  reflect.Type
		want uintptr
	}{
		{"xdp_umem_reg (6.8)", reflect.TypeFor[unix.XDPUmemReg](), 32},
		{"xdp_mmap_offsets (5.4)", reflect.TypeFor[unix.XDPMmapOffsets](), 128},
		{"xdp_statistics (5.9)", reflect.TypeFor[unix.XDPStatistics](), 48},
	} {
		if got := test.typ.Size(); got != test.want {
			t.Errorf("%s has %d bytes, want %d", test.name, got, test.want)
		}
	}
}

// TestErrors holds the typed calls to the errno of the system call, on a
// descriptor that is no AF_XDP socket.
func TestErrors(t *testing.T) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &Socket{fd: fd}
	for name, err := range map[string]error{
		"RegisterUMEM": s.RegisterUMEM(make([]byte, 8192), 4096, 0, 0, 0),
		"SetRingSize":  s.SetRingSize(unix.XDP_RX_RING, 64),
		"SetTXBudget":  s.SetTXBudget(64),
		"SetBusyPoll":  s.SetBusyPoll(-1),
		"NAPI":         second((&Socket{fd: -1}).NAPI()),
		"Bind":         s.Bind(1, 0, 0),
		"Offsets":      second(s.Offsets()),
		"Statistics":   second(s.Statistics()),
		"ZeroCopy":     second(s.ZeroCopy()),
		"MapRing":      mapRingError(s),
	} {
		var call *os.SyscallError
		var errno syscall.Errno
		if !errors.As(err, &errno) || !errors.As(err, &call) {
			t.Errorf("%s: %v: no errno", name, err)
		}
	}
	if e := s.WakeTX(); e == 0 {
		t.Error("WakeTX on an unconnected socket succeeded")
	}
	if e := s.WakeRX(); e != syscall.EAGAIN {
		t.Errorf("WakeRX without data: %v", e)
	}
	if e := s.PendingError(); e != 0 {
		t.Errorf("PendingError: %v", e)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); !errors.Is(err, unix.EBADF) {
		t.Errorf("second Close: %v", err)
	}
	if e := s.PendingError(); e != syscall.EBADF {
		t.Errorf("PendingError after Close: %v", e)
	}
}

func second[T any](_ T, err error) error { return err }

func mapRingError(s *Socket) error {
	_, _, err := MapRing[uint64](s, unix.XDPRingOffset{Desc: 64}, 64, unix.XDP_PGOFF_RX_RING)
	return err
}
