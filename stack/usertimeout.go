package stack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// giveUp is for how long data is sent again to a peer that does not acknowledge
// it, unless SetUserTimeout says otherwise: what Linux's 15 retries take
// (net.ipv4.tcp_retries2). Netstack has no bound of its own, and a connection
// that was closed with data unsent would stay for good.
const giveUp = 924600 * time.Millisecond

// boundRetries gives an endpoint the default. Those that are accepted have that of
// their listener.
func boundRetries(ep tcpip.Endpoint) {
	timeout := tcpip.TCPUserTimeoutOption(giveUp)
	_ = ep.SetSockOpt(&timeout) // known to the endpoint: it cannot fail
}

// SetUserTimeout sets for how long data may stay unacknowledged before the
// connection ends with ETIMEDOUT, as TCP_USER_TIMEOUT of Linux does. It also ends
// an idle connection whose peer has answered no keepalive probe for that long.
// Zero is the default, some 15 minutes, which does not depend on the peer. The
// error is EINVAL if d is below 0. It may be called at any time.
func (c *TCPConn) SetUserTimeout(d time.Duration) error {
	return c.set(func() tcpip.Error {
		if d < 0 {
			return &tcpip.ErrInvalidOptionValue{}
		}
		if d == 0 {
			d = giveUp
		}
		v := tcpip.TCPUserTimeoutOption(d)
		return c.ep.SetSockOpt(&v)
	})
}
