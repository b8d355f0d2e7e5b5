package xsk

import (
	"fmt"
	"time"
)

// # Busy polling
//
// The NAPI of a queue is the part of its driver that takes packets from the
// device. Usually an interrupt runs it. On a socket that busy polls, system
// calls run it too (sk_busy_loop in xsk_recvmsg and xsk_sendmsg, Linux
// net/xdp/xsk.c), on the CPU of the caller: no interrupt, no softirq on another
// CPU. Since they are how packets come, and how frames come back,
//
//	RX.Receive   with an empty RX ring calls recvfrom and looks again
//	TX.Flush     calls sendto although the driver does not ask for it
//	TX.Free      short of frames that are with the device calls sendto
//
// the last two if polling is preferred, as only then nobody else is sure to run
// the NAPI soon.

// BusyPoll are the options that let system calls on a socket run the NAPI of its
// queue. The zero value leaves it to the device's interrupts.
//
// To have the interrupts stay off while somebody polls, set Prefer and, on the
// device, how long they may: see the package documentation.
type BusyPoll struct {
	// Time is SO_BUSY_POLL: whole microseconds, from 1 us to 1 s; zero is off.
	// Calls on an AF_XDP socket never block, and run the NAPI once however
	// long that is.
	Time time.Duration

	// Budget is SO_BUSY_POLL_BUDGET: the most packets that one call takes from
	// the device, from 1 to 65535. Zero means 64; the kernel's own is 8.
	Budget int

	// Prefer is SO_PREFER_BUSY_POLL: the device's interrupts stay masked as
	// long as calls come often enough, and sendto leaves a zero-copy driver's
	// wakeup to the NAPI.
	Prefer bool
}

const (
	// defaultBusyBudget is what NAPI takes at most when an interrupt runs it
	// (NAPI_POLL_WEIGHT in Linux include/linux/netdevice.h).
	defaultBusyBudget = 64
	maxBusyBudget     = 1<<16 - 1 // the kernel has 16 bits for it
	maxBusyTime       = time.Second
)

// withDefaults fills in what is zero and checks the rest.
func (b BusyPoll) withDefaults() (BusyPoll, error) {
	if b.Time == 0 {
		if b != (BusyPoll{}) {
			return b, fmt.Errorf("xsk: Config.BusyPoll: %+v: Time is zero, which is off", b)
		}
		return b, nil
	}
	if b.Time < 0 || b.Time > maxBusyTime || b.Time%time.Microsecond != 0 {
		return b, fmt.Errorf("xsk: Config.BusyPoll.Time: %v: whole microseconds, up to %v", b.Time, maxBusyTime)
	}
	if b.Budget == 0 {
		b.Budget = defaultBusyBudget
	}
	if b.Budget < 0 || b.Budget > maxBusyBudget {
		return b, fmt.Errorf("xsk: Config.BusyPoll.Budget: %d packets: from 1 to %d", b.Budget, maxBusyBudget)
	}
	return b, nil
}

// BusyPolling is what a socket got of BusyPoll.
type BusyPolling struct {
	// BusyPoll is zero if it was not asked for. Time and Prefer are read back
	// from the kernel; Budget is what it accepted, for it does not tell.
	BusyPoll

	// NAPI is the id of the NAPI that is run (SO_INCOMING_NAPI_ID), by which
	// the kernel's netdev netlink family knows its settings.
	NAPI uint32
}

// On tells whether calls run a NAPI.
func (b BusyPolling) On() bool { return b.Time > 0 && b.NAPI != 0 }

// BusyPoll tells whether and how the socket busy polls.
func (s *Socket) BusyPoll() BusyPolling { return s.kernel.BusyPoll() }

// peekBusy is Peek of the RX ring, empty a moment ago, after the NAPI has run.
func (r *RX) peekBusy(n int) (first, got uint32) {
	r.st.busyPolls.Add(1)
	if e := r.kernel.WakeRX(); !transient(e) {
		r.st.wakeupErrors.Add(1)
	}
	return r.rx.Peek(uint32(n))
}

// reclaimBusy is Reclaim, which found nothing, after the NAPI has run.
func (t *TX) reclaimBusy() {
	if t.lent != 0 {
		t.wake()
		t.Reclaim()
	}
}
