package xsk

import "syscall"

// Statistics is what a socket has counted since Open. It is cheap enough to be
// always on: the data path adds to a few words once per batch.
type Statistics struct {
	Kernel KernelStatistics

	RXFrames, RXBytes uint64 // packets handed out by Receive
	RXBadDescs        uint64 // RX descriptors refused: outside the region, or a frame not lent
	RXContinued       uint64 // packets over several frames that were dropped: not asked for, without an end, with a refused part, or too long
	RXWakeups         uint64 // recvfrom calls because the fill ring asked
	RXBusyPolls       uint64 // recvfrom calls because the RX ring was empty, to run the NAPI
	RXWakeupErrors    uint64 // recvfrom calls that failed
	FillShortage      uint64 // times Refill had fewer frames than room

	TXFrames, TXBytes uint64        // packets published to the TX ring
	TXMore            uint64        // frames published beyond the first of each packet
	TXRequests        uint64        // packets with which something was asked for
	TXTimestampsLost  uint64        // timestamps that nobody took in time
	TXCompletions     uint64        // frames that came back
	TXStrays          uint64        // completions of frames that were not out: kept out
	TXDeviceDrops     uint64        // packets the device dropped: EBUSY from sendto
	TXWakeups         uint64        // sendto calls
	TXWakeupsSpared   uint64        // Flush calls without one, because the kernel did not ask
	TXStalls          uint64        // Flush calls that ended with packets left and no progress, where no driver goes on by itself
	TXWakeupErrors    uint64        // sendto calls that failed for good
	TXLastError       syscall.Errno // the errno of the last of them
}

// Statistics reads all counters; any goroutine may call it. The kernel's part
// is a system call, whose error is an *OpError; after Close it is what it was then.
func (s *Socket) Statistics() (Statistics, error) {
	r, t := &s.rx.st, &s.tx.st
	st := Statistics{
		RXFrames: r.frames.Load(), RXBytes: r.bytes.Load(),
		RXBadDescs:     r.badDescs.Load(),
		RXContinued:    r.continuedDrops.Load(),
		RXWakeups:      r.wakeups.Load(),
		RXBusyPolls:    r.busyPolls.Load(),
		RXWakeupErrors: r.wakeupErrors.Load(),
		FillShortage:   r.shortage.Load(),

		TXFrames: t.frames.Load(), TXBytes: t.bytes.Load(),
		TXMore:          t.more.Load(),
		TXRequests:      t.requests.Load(),
		TXCompletions:   t.completions.Load(),
		TXStrays:        t.strays.Load(),
		TXDeviceDrops:   t.deviceDrops.Load(),
		TXWakeups:       t.wakeups.Load(),
		TXWakeupsSpared: t.wakeupsSpared.Load(),
		TXStalls:        t.stalls.Load(),
		TXWakeupErrors:  t.wakeupErrors.Load(),
		TXLastError:     syscall.Errno(t.lastWakeupErrn.Load()),
	}
	if s.tx.times != nil {
		st.TXTimestampsLost = s.tx.times.lost.Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		st.Kernel = s.last
		return st, nil
	}
	var err error
	if st.Kernel, err = s.kernel.Statistics(); err != nil {
		err = s.opError("read statistics", err, "")
	}
	return st, err
}
