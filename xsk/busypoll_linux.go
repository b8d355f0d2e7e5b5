package xsk

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The steps of Open that are about busy polling.
const (
	stepSetBusyPoll  = "set busy polling"
	stepReadBusyPoll = "read busy polling"
)

// errNoNAPI says that busy polling would do nothing.
var errNoNAPI = fmt.Errorf("the kernel knows no NAPI of the queue: %w", errors.ErrUnsupported)

// setBusyPoll asks for busy polling, before bind: kernels before 6.13 look for
// the NAPI in the first sendto that may busy poll.
func (k *kernelSocket) setBusyPoll(b BusyPoll) error {
	if b.Time == 0 {
		return nil
	}
	err := missingOption(k.sock.SetBusyPoll(int(b.Time/time.Microsecond)), "SO_BUSY_POLL (CONFIG_NET_RX_BUSY_POLL)", "3.11")
	if err == nil {
		err = missingOption(k.sock.SetBusyPollBudget(b.Budget), "SO_BUSY_POLL_BUDGET", "5.11")
	}
	if err == nil && b.Prefer {
		err = missingOption(k.sock.SetPreferBusyPoll(), "SO_PREFER_BUSY_POLL", "5.11")
	}
	return err
}

// missingOption is err, or what it means if the kernel does not have the option.
func missingOption(err error, option, minKernel string) error {
	if errors.Is(err, unix.ENOPROTOOPT) {
		return &UnsupportedError{Feature: option, MinKernel: minKernel}
	}
	return err
}

// readBusyPoll notes what the bound socket got, and fails if it is nothing.
func (k *kernelSocket) readBusyPoll(asked BusyPoll) error {
	if asked.Time == 0 {
		return nil
	}
	us, err := k.sock.BusyPoll()
	if err != nil {
		return err
	}
	got := BusyPolling{BusyPoll: BusyPoll{Time: time.Duration(us) * time.Microsecond, Budget: asked.Budget}}
	if got.Prefer, err = k.sock.PreferBusyPoll(); err != nil {
		return err
	}
	if got.NAPI, err = k.sock.NAPI(); err == nil && got.NAPI == 0 && k.zerocopy {
		k.sock.WakeTX() // see setBusyPoll; there is nothing to send
		got.NAPI, err = k.sock.NAPI()
	}
	if err != nil {
		return err
	}
	if k.busy = got; !got.On() {
		return errNoNAPI
	}
	return nil
}

// busyPollRemedy says what to do about an error of the two.
func busyPollRemedy(err error) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return "busy polling needs CAP_NET_ADMIN in the initial user namespace: run with it, or leave BusyPoll unset"
	case errors.Is(err, errNoNAPI):
		return "the driver has none or does not link it to the queue, as veth; in copy mode Linux 6.15 or later is needed, too: leave BusyPoll unset"
	}
	return ""
}
