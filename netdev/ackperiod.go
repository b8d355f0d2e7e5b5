package netdev

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// ackPeriod is half the longest time that the ACK of a few flows is held.
	// The timer fires in this rhythm while there is something to hold, rather
	// than once per ACK, and sends what it has seen before. 500 us are far below
	// the 40 ms of the kernel's own delayed ACK and above the time that an
	// application needs for its answer.
	ackPeriod = 250 * time.Microsecond

	// Applications with many flows answer one after the other. So the period
	// grows by ackTurn, about what one answer takes, with each ACK that is held,
	// up to maxAckPeriod: none is held for longer than 20 ms, half the time of
	// the kernel's shortest delayed ACK.
	ackTurn      = 40 * time.Microsecond
	maxAckPeriod = 10 * time.Millisecond
)

// ACKPeriod returns half the longest time that one of so many ACKs waits for a
// segment that makes it needless. It is for whoever drives a TCP and, like the
// device, has ACKs wait for that.
func ACKPeriod(waiting int) time.Duration {
	return min(max(ackPeriod, time.Duration(waiting)*ackTurn), maxAckPeriod)
}

// ACKHold tells how many bytes of data may be unacknowledged for that long: less
// than this, two full segments of a peer with our MTU, however many options it
// puts into each (RFC 9293, 3.8.6.3, and RFC 5681, 4.2, want an ACK for every
// second one at least). 0 with Config.NoACKHold.
func (d *Device) ACKHold() int {
	if d.cfg.NoACKHold {
		return 0
	}
	return 2 * (d.MTU() - header.IPv6MinimumSize - header.TCPHeaderMaximumSize)
}
