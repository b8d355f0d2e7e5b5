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

	// calmAckPeriod is the period once the timer has fired calmAfter times in a row
	// for nothing: each time wakes a thread, and at ackPeriod that would disturb
	// every fifteenth of the exchanges that need it least.
	calmAckPeriod = 2 * time.Millisecond
	calmAfter     = 64
)

// An ACKPace is the rhythm of the timer behind ACKs that wait for a segment that
// makes them needless. It is for whoever drives a TCP and, like the device, has
// ACKs wait for that. Where answers come in time it slows down, until an ACK has to
// be sent. The zero value has seen neither.
type ACKPace struct {
	vain int // times in a row that the timer has fired for nothing, calmAfter at most
}

// Period returns half the longest time that one of so many ACKs waits.
func (p *ACKPace) Period(waiting int) time.Duration {
	least := ackPeriod
	if p.vain == calmAfter {
		least = calmAckPeriod
	}
	return min(max(least, time.Duration(waiting)*ackTurn), maxAckPeriod)
}

// Fired notes whether the timer found an ACK that had to be sent.
func (p *ACKPace) Fired(needed bool) {
	p.vain = min(p.vain+1, calmAfter)
	if needed {
		p.vain = 0
	}
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
