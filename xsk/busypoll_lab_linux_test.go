//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/sys"
)

var askedBusy = BusyPoll{Time: 20 * time.Microsecond, Budget: 32, Prefer: true}

// TestBusyPollVeth is refused, since veth links no NAPI to its queues (Linux
// 6.18), and leaves the queue to others. Should it do so one day, packets come.
func TestBusyPollVeth(t *testing.T) {
	lab.Require(t, lab.XDP)
	l := lab.New(t, lab.Config{})
	p := attachInLab(t, l, AttachAuto)
	s, err := openIn(l, small(Config{BusyPoll: askedBusy}))
	if err != nil {
		var op *OpError
		if !errors.Is(err, errors.ErrUnsupported) || !errors.As(err, &op) || op.Device != lab.HostDevice || op.Queue != 0 {
			t.Errorf("Open: %v", err)
		}
		for _, want := range []string{stepReadBusyPoll, "no NAPI", "leave BusyPoll unset"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
		s = mustOpen(t, l, small(Config{}))
		if s.BusyPoll() != (BusyPolling{}) {
			t.Errorf("not asked for, got %+v", s.BusyPoll())
		}
	} else {
		t.Cleanup(func() { s.Close() })
		if got := s.BusyPoll(); got.BusyPoll != askedBusy || got.NAPI == 0 {
			t.Errorf("got %+v", got)
		}
	}
	s.RX().Refill()
	if err := p.AddSocket(0, s.FD()); err != nil {
		t.Fatal(err)
	}
	testVeth(t, l, s)
}

// TestBusyPollReadBack sets the options on a socket that is not bound, so that
// it has no NAPI, and reads them back.
func TestBusyPollReadBack(t *testing.T) {
	lab.Require(t, lab.XDP)
	for _, asked := range []BusyPoll{
		{},
		{Time: 7 * time.Microsecond, Budget: 64},
		askedBusy,
	} {
		sock, err := sys.OpenSocket()
		if err != nil {
			t.Fatal(err)
		}
		k := &kernelSocket{sock: sock}
		if err := k.setBusyPoll(asked); err != nil {
			t.Errorf("set %+v: %v", asked, err)
		}
		err = k.readBusyPoll(asked)
		if k.busy.BusyPoll != asked || k.busy.On() {
			t.Errorf("set %+v, got %+v", asked, k.busy)
		}
		if asked != (BusyPoll{}) && !errors.Is(err, errors.ErrUnsupported) || asked == (BusyPoll{}) && err != nil {
			t.Errorf("read %+v: %v", asked, err)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		// On a descriptor that is closed every step fails.
		if asked.Time != 0 {
			for step, err := range map[string]error{stepSetBusyPoll: k.setBusyPoll(asked), stepReadBusyPoll: k.readBusyPoll(asked)} {
				if !errors.Is(err, unix.EBADF) {
					t.Errorf("%s on a closed socket: %v", step, err)
				}
			}
		}
	}
}

// TestBusyPollPermission lacks the capability, for each of the options, and on
// the socket without them not.
func TestBusyPollPermission(t *testing.T) {
	lab.Require(t, lab.XDP)
	l := lab.New(t, lab.Config{})
	open := func(b BusyPoll) error {
		return withCapabilities(l.Host, 1<<unix.CAP_NET_RAW|1<<unix.CAP_IPC_LOCK, func() error {
			s, err := Open(small(Config{BusyPoll: b}))
			if err == nil {
				err = s.Close()
			}
			return err
		})
	}
	if err := open(BusyPoll{}); err != nil {
		t.Error(err)
	}
	for _, b := range []BusyPoll{askedBusy, {Time: time.Microsecond}} {
		err := open(b)
		if !errors.Is(err, os.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Open with %+v: %v", b, err)
			continue
		}
		for _, want := range []string{stepSetBusyPoll, lab.HostDevice + " queue 0", "CAP_NET_ADMIN"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
		if strings.Contains(err.Error(), "CAP_NET_RAW") {
			t.Errorf("%v names another capability", err)
		}
	}
}

// TestMissingOption explains the errno of an older kernel, and no other.
func TestMissingOption(t *testing.T) {
	old := os.NewSyscallError("setsockopt", unix.ENOPROTOOPT)
	if err := missingOption(old, "SO_X", "5.11"); !errors.Is(err, errors.ErrUnsupported) || err.Error() != "SO_X needs Linux 5.11 or later" {
		t.Errorf("ENOPROTOOPT: %v", err)
	}
	other := os.NewSyscallError("setsockopt", unix.EPERM)
	if err := missingOption(other, "SO_X", "5.11"); err != other {
		t.Errorf("EPERM: %v", err)
	}
	if err := missingOption(nil, "SO_X", "5.11"); err != nil {
		t.Error(err)
	}
}
