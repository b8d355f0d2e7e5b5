package stack

import (
	"math"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// giveUp is for how long what is left of a closed connection is sent again to a peer
// that does not take it: what Linux's 15 retries take (net.ipv4.tcp_retries2).
// Netstack gives up a segment after as many retries, and so a peer that is gone. But
// one that acknowledges its probes and offers no window keeps a connection for good;
// as long as that has an owner, it may (RFC 9293, 3.8.6.1).
const giveUp = 924600 * time.Millisecond

// boundRetries bounds for how long an endpoint that is being closed may live on: for
// d, or as long as is usual if d is 0.
//
// An open connection has no such bound unless its owner sets one. Netstack takes it
// for the time since the first timeout after which something was always under way,
// whatever was acknowledged since (firstRetransmittedSegXmitTime in
// pkg/tcpip/transport/tcp/snd.go): a long transfer would end with a loss. It also
// ends an idle connection with its first lost probe, if probes are rarer than that.
// Here the age of the connection goes on top, if there was a timeout.
func boundRetries(ep tcpip.Endpoint, born time.Time, d time.Duration) {
	if d == 0 {
		d = giveUp
	}
	if timeoutsOf(ep) != 0 {
		d += min(time.Since(born), math.MaxInt64-d)
	}
	setUserTimeout(ep, d)
}

func setUserTimeout(ep tcpip.Endpoint, d time.Duration) {
	v := tcpip.TCPUserTimeoutOption(d)
	_ = ep.SetSockOpt(&v) // known to the endpoint: it cannot fail
}

// timeoutsOf returns how often the endpoint's retransmission timer has expired.
func timeoutsOf(ep tcpip.Endpoint) uint64 {
	if st, ok := ep.Stats().(*tcp.Stats); ok {
		return st.SendErrors.Timeouts.Value()
	}
	return 0
}

// SetUserTimeout sets for how long data may stay unacknowledged before the
// connection ends with ETIMEDOUT, as TCP_USER_TIMEOUT of Linux does; it may take
// twice as long where data was lost before and some has been under way ever since.
// It also ends an idle connection whose peer has answered no keepalive probe for that
// long, and one whose peer offers no window. With zero, the default, a segment is
// sent 15 times again, which takes some 15 minutes. The error is EINVAL if d is below
// 0. It may be called at any time.
func (c *TCPConn) SetUserTimeout(d time.Duration) error {
	return c.set(func() tcpip.Error {
		if d < 0 {
			return &tcpip.ErrInvalidOptionValue{}
		}
		c.impatience.end()
		c.impatience = newImpatience(c.ep, &c.stack.guard, d)
		return nil
	})
}

// An impatience is the user timeout of an endpoint. It takes that away from netstack
// while it would be counted from too early (see boundRetries), and counts itself.
type impatience struct {
	ep    tcpip.Endpoint
	guard *guard
	d     time.Duration // the user timeout

	mu    sync.Mutex // held by look; below it are the endpoint's lock and leaves
	timer *time.Timer
	ended bool
	set   time.Duration // what netstack has: d, none or over
	una   uint32        // what was acknowledged when last looked at
	since time.Time     // when that was first seen
	clean uint64        // timeouts of retransmission when nothing was under way last
}

const (
	// looks is how often an impatience looks, in a user timeout: between the
	// timeout of retransmission that netstack counts from and the one that it would
	// end the connection at are some that see what is acknowledged meanwhile.
	looks = 4

	none time.Duration = 0
	over time.Duration = 1 // the next timeout of retransmission is the last
)

// newImpatience sets a user timeout. The result is nil if netstack can be left alone
// with it.
func newImpatience(ep tcpip.Endpoint, g *guard, d time.Duration) *impatience {
	i := &impatience{ep: ep, guard: g, d: d, since: time.Now(), set: d}
	una, nxt, ok := i.progress()
	if i.una = una; d != none && ok && una != nxt && timeoutsOf(ep) != 0 {
		i.set = none // maybe it is being counted already
	}
	setUserTimeout(ep, i.set)
	if d == none {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.timer = time.AfterFunc(d/looks, i.look)
	return i
}

// progress returns the first byte that is not acknowledged, and the first that is
// not sent. It reports false for a flow that the ledger knows nothing of.
func (i *impatience) progress() (una, nxt uint32, ok bool) {
	t, flow, ok := i.guard.flowOf(i.ep)
	if !ok {
		return 0, 0, false
	}
	return t.progress(flow)
}

func (i *impatience) look() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return
	}
	i.timer.Reset(max(i.d/looks, time.Millisecond))
	una, nxt, ok := i.progress()
	now, set := time.Now(), i.set
	switch {
	case !ok || una == nxt: // netstack counts from the next timeout on
		i.clean, i.since, set = timeoutsOf(i.ep), now, i.d
	case una != i.una:
		if i.since = now; timeoutsOf(i.ep) != i.clean {
			set = none
		}
	case set == none && now.Sub(i.since) >= i.d:
		set = over
	}
	if i.una = una; set != i.set {
		i.set = set
		setUserTimeout(i.ep, set)
	}
}

// end returns the timeout; netstack may have another. A nil impatience has none.
func (i *impatience) end() time.Duration {
	if i == nil {
		return 0
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	i.timer.Stop()
	return i.d
}
