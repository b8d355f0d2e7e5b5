package xsk

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestOpError(t *testing.T) {
	enomem := os.NewSyscallError("mmap", syscall.ENOMEM)
	for _, test := range []struct {
		err  *OpError
		want string
	}{
		{&OpError{Op: "map fill ring", Device: "eth0", Queue: 3, Err: enomem}, "xsk: map fill ring, eth0 queue 3: mmap: cannot allocate memory"},
		{&OpError{Op: "attach program", Device: "eth0", Queue: NoQueue, Err: enomem, Remedy: "do this"}, "xsk: attach program, eth0: mmap: cannot allocate memory (do this)"},
		{&OpError{Op: "load program", Queue: NoQueue, Err: enomem}, "xsk: load program: mmap: cannot allocate memory"},
		{&OpError{Op: "bind", Device: "eth0"}, "xsk: bind, eth0 queue 0"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
		if test.err.Err != nil && !errors.Is(test.err, syscall.ENOMEM) {
			t.Errorf("%v hides its cause", test.err)
		}
	}
}

func TestUnsupportedError(t *testing.T) {
	var err error = &OpError{Op: "set transmit budget", Err: &UnsupportedError{Feature: "XDP_MAX_TX_SKB_BUDGET", MinKernel: "6.17"}}
	if !errors.Is(err, errors.ErrUnsupported) || errors.Is(err, os.ErrPermission) {
		t.Errorf("%v is not ErrUnsupported only", err)
	}
	if got, want := err.Error(), "xsk: set transmit budget queue 0: XDP_MAX_TX_SKB_BUDGET needs Linux 6.17 or later"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := (&UnsupportedError{Feature: "AF_XDP"}).Error(), "AF_XDP is not supported here"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// badStatistics is a kernel that does not tell its counters.
type badStatistics struct{ *simKernel }

func (badStatistics) Statistics() (KernelStatistics, error) {
	return KernelStatistics{}, syscall.EBADF
}

func TestStatisticsError(t *testing.T) {
	s, k := newSim(t, 4, 16)
	s.kernel = badStatistics{k}
	_, err := s.Statistics()
	if want := "xsk: read statistics, sim0 queue 3: bad file descriptor"; !errors.Is(err, syscall.EBADF) || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}

// TestClosedError replaces what the os package calls a closed file.
func TestClosedError(t *testing.T) {
	s, _ := newSim(t, 4, 16)
	err := s.opError("wait", os.ErrClosed, "")
	if !errors.Is(err, net.ErrClosed) || err.Error() != "xsk: wait, sim0 queue 3: use of closed network connection" {
		t.Errorf("%v", err)
	}
}
