package stack

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/afxnet/afxnet/internal/goroutine"
)

// A clock is netstack's clock. A goroutine can stop it for itself, so that it is read
// once for much that is done at once.
//
// Netstack reads it 12 times for a segment that comes and one that answers it, a
// tenth of all that it does for them. Linux reads its own once for either
// (tcp_mstamp_refresh in net/ipv4/tcp_output.c, 6.18).
//
// # Who may stop it
//
// Whoever has an endpoint locked, until he lets go of it: time may not run backward
// for a connection. It would show in the timestamps that are sent, and a peer drops
// segments with older ones than it has seen (RFC 7323, 5.3), and in round-trip times.
// Whoever locks the endpoint next reads the clock later.
type clock struct {
	tcpip.Clock
	holds [1 << clockBits]clockHold
}

// systemClock makes the clock that stacks read. A test that counts has another.
var systemClock = func() tcpip.Clock { return plainTimers{tcpip.NewStdClock()} }

// plainTimers is netstack's standard clock, whose timers take two pieces of memory
// each, with timers of one. A connection has some four.
type plainTimers struct{ tcpip.Clock }

// AfterFunc implements tcpip.Clock.
func (plainTimers) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	return (*plainTimer)(time.AfterFunc(d, f))
}

// A plainTimer is a timer of the runtime's as netstack wants it.
type plainTimer time.Timer

// Stop implements tcpip.Timer.
func (t *plainTimer) Stop() bool { return (*time.Timer)(t).Stop() }

// Reset implements tcpip.Timer.
func (t *plainTimer) Reset(d time.Duration) { (*time.Timer)(t).Reset(d) }

// There is room for 2^clockBits holders.
const clockBits = 6

// A clockHold is for the goroutines whose IDs come to the same place, one at a time:
// for another the clock goes on.
type clockHold struct {
	holder atomic.Uintptr      // 0: nobody
	now    tcpip.MonotonicTime // only the holder looks at it
	_      cpu.CacheLinePad
}

// hold is the place of a goroutine.
func (c *clock) hold(g uintptr) *clockHold {
	const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: spreads addresses
	return &c.holds[uint64(g)*golden>>(64-clockBits)]
}

// stop has the clock stand still for the goroutine that calls, until it calls run.
// If it does so already, it stands at the present time then.
func (c *clock) stop() {
	g := goroutine.ID()
	h := c.hold(g)
	if g == 0 || h.holder.Load() != g && !h.holder.CompareAndSwap(0, g) {
		return
	}
	h.now = c.Clock.NowMonotonic()
}

// run ends what stop began, if it did.
func (c *clock) run() {
	g := goroutine.ID()
	if h := c.hold(g); g != 0 && h.holder.Load() == g {
		h.holder.Store(0)
	}
}

// NowMonotonic implements tcpip.Clock.
func (c *clock) NowMonotonic() tcpip.MonotonicTime {
	g := goroutine.ID()
	if h := c.hold(g); g != 0 && h.holder.Load() == g {
		return h.now
	}
	return c.Clock.NowMonotonic()
}
