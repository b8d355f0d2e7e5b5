package xsk

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/afxnet/afxnet/internal/ring"
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

// TestHalfErrors has both halves fail: their errors name the device and the queue, are
// not made again while nothing changes, and wrap the errno.
func TestHalfErrors(t *testing.T) {
	s, k := newSim(t, 8, 32)
	want := func(what string, err error, op string, is error) {
		t.Helper()
		e, ok := err.(*OpError)
		if !ok || e.Op != op || e.Device != s.Device() || e.Queue != s.Queue() || !errors.Is(err, is) {
			t.Errorf("%s: %v, want %s and %v", what, err, op, is)
		}
	}
	if s.Device() == "" || s.Queue() == 0 {
		t.Fatalf("device %q, queue %d: of no use here", s.Device(), s.Queue())
	}
	k.rings.TX.Flags.Store(ring.FlagNeedWakeup)
	for _, e := range []syscall.Errno{syscall.ENETDOWN, syscall.ENXIO} {
		k.wakeTX = func() syscall.Errno { return e }
		queue(t, s.TX(), 1)
		s.TX().Flush()
		want("wakeup", s.TX().Err(), "send", e)
		if err := s.TX().Err().(*OpError).Err; err != e {
			t.Errorf("the cause is %#v, want an errno", err)
		}
	}
	var again error
	if n := testing.AllocsPerRun(100, func() { again = s.TX().Err() }); n != 0 {
		t.Errorf("%v allocations for an error that is there: %v", n, again)
	}
	k.wakeTX = func() syscall.Errno { k.takeTX(3); return 0 }
	queue(t, s.TX(), 1)
	if s.TX().Flush(); s.TX().Err() != nil {
		t.Errorf("after it: %v", s.TX().Err())
	}
	s.RX().Refill()
	k.rings.RX.Prod.Add(9)
	s.RX().Receive(make4())
	want("corrupt RX ring", s.RX().Err(), "receive", ring.ErrCorrupt)
	k.rings.Comp.Prod.Add(100)
	s.TX().Reclaim()
	want("corrupt completion ring", s.TX().Err(), "send", ring.ErrCorrupt)
}
