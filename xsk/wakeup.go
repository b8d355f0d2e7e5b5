package xsk

import "syscall"

// defaultTXBudget is what it is changed to where nobody says otherwise: three
// segments of 64 KB in frames of an MTU of 1500. The system call lasts until all
// are sent, and the goroutine scheduler does not know of it.
const defaultTXBudget = 128

// Flush publishes the queued packets and wakes the kernel if it asks for that,
// or if the socket prefers busy polling, by which the driver does its work then.
// It returns the number of descriptors still in the TX ring: 0 nearly always in
// copy mode; a zero-copy driver works on after Flush has returned. If some are
// left and nothing else will be sent, call Flush again after Wait(tx) or a
// while: there is no other wakeup.
//
// What one sendto does in copy mode (Linux 6.18 net/xdp/xsk.c,
// __xsk_generic_xmit): it takes at most a budget of descriptors and says
// EAGAIN if there are more; EAGAIN too if the device's queue, the socket's send
// buffer or the completion ring is full; EBUSY if the device dropped a packet,
// whose frames it completes; and it stops at an invalid descriptor with 0, or at
// once on a queue that the device only receives on. So
// Flush goes on while each call makes progress, which it does at most
// ceil(descriptors / budget) times, plus one for each packet dropped. A packet
// that a budget ends in is kept, and sent when the next call has the rest.
//
// A zero-copy driver is woken once by each Flush that finds packets in the TX
// ring, and works until there are none, or the device is full, and then from the
// device's interrupts. igb and virtio_net always ask to be woken, since they
// never clear the flag (Linux 6.18 drivers/net/ethernet/intel/igb/igb_main.c,
// igb_clean_tx_irq; drivers/net/virtio_net.c, virtnet_xsk_xmit): with them system
// calls are saved by queueing more packets for each Flush, and by nothing else.
func (t *TX) Flush() (left int) {
	if t.st.queued != 0 {
		t.tx.Submit()
		t.st.frames.Add(t.st.queued)
		t.st.bytes.Add(t.st.queuedBytes)
		t.st.queued, t.st.queuedBytes = 0, 0
		if t.st.queuedMore != 0 {
			t.st.more.Add(t.st.queuedMore)
			t.st.queuedMore = 0
		}
		if t.st.queuedRequests != 0 {
			t.st.requests.Add(t.st.queuedRequests)
			t.st.queuedRequests = 0
		}
	}
	pending := t.tx.Pending()
	if pending == 0 {
		return 0
	}
	if !t.tx.NeedsWakeup() && !t.busy {
		t.st.wakeupsSpared.Add(1)
		return int(pending)
	}
	if t.async {
		t.wake()
		now := t.tx.Pending()
		if now >= pending {
			// The completion ring may be what is full: there is room when the
			// next Flush asks again.
			t.Reclaim()
		}
		return int(now)
	}
	// Each call that is followed by another has taken at least one packet.
	for calls := pending; ; calls-- {
		e := t.wake()
		if t.down != 0 {
			return int(t.tx.Pending())
		}
		now := t.tx.Pending()
		// After EBUSY one packet is gone, though the consumer index may not
		// say so yet: it is published with the next packet that is sent.
		progress := now < pending || e == syscall.EBUSY
		if now == 0 || calls == 0 || !t.tx.NeedsWakeup() {
			return int(now)
		}
		// Without progress the completion ring may be what is full: make room,
		// and if that does not help either, leave it to a later Flush.
		if !progress && t.Reclaim() == 0 {
			t.st.stalls.Add(1)
			return int(now)
		}
		pending = min(pending, now)
	}
}

// wake makes the kernel look at the TX ring and notes what came of it: after it,
// t.down is set if it failed for good.
func (t *TX) wake() syscall.Errno {
	e := t.kernel.WakeTX()
	t.st.wakeups.Add(1)
	// There may be a queue by now: then some were taken.
	if t.muted = e == 0 && t.mute != nil && t.tx.Pending() != 0; t.muted {
		e = errMute
	}
	if !transient(e) {
		t.st.wakeupErrors.Add(1)
		t.st.lastWakeupErrn.Store(uint32(e))
		t.down = e
		return e
	}
	t.down = 0
	if e == syscall.EBUSY {
		t.st.deviceDrops.Add(1)
	}
	return e
}

// errMute is the errno of a wakeup on a queue that the device has for receiving
// only: the kernel leaves the TX ring as it is, and says 0.
const errMute = syscall.ENXIO

// transient tells whether a wakeup's errno is part of normal work:
//
//	0        done
//	EAGAIN   more left than one budget, or something was full
//	EBUSY    a packet was dropped by the device (TX), or NAPI is running (RX)
//	ENOBUFS  no memory for an skb just now
//	EINTR    a signal came first
func transient(e syscall.Errno) bool {
	switch e {
	case 0, syscall.EAGAIN, syscall.EBUSY, syscall.ENOBUFS, syscall.EINTR:
		return true
	}
	return false
}
