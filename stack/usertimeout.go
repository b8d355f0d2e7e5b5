package stack

import (
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

// boundRetries bounds for how long an endpoint that is being closed may live on.
//
// An open connection has no such bound unless its owner sets one. Netstack takes it
// for the time since the first timeout after which something was always under way,
// whatever was acknowledged since (firstRetransmittedSegXmitTime in
// pkg/tcpip/transport/tcp/snd.go): a long transfer would end with a loss. It also
// ends an idle connection with its first lost probe, if probes are rarer than that.
// Here the age of the connection goes on top, if there was a timeout.
func boundRetries(ep tcpip.Endpoint, born time.Time) {
	var timeout tcpip.TCPUserTimeoutOption
	if _ = ep.GetSockOpt(&timeout); timeout == 0 { // known to the endpoint, as below: it cannot fail
		timeout = tcpip.TCPUserTimeoutOption(giveUp)
	}
	if st, ok := ep.Stats().(*tcp.Stats); ok && st.SendErrors.Timeouts.Value() != 0 {
		timeout += tcpip.TCPUserTimeoutOption(time.Since(born))
	}
	_ = ep.SetSockOpt(&timeout)
}

// SetUserTimeout sets for how long data may stay unacknowledged before the
// connection ends with ETIMEDOUT, as TCP_USER_TIMEOUT of Linux does. It also ends
// an idle connection whose peer has answered no keepalive probe for that long, and
// one whose peer offers no window. With zero, the default, a segment is sent 15 times
// again, which takes some 15 minutes. The error is EINVAL if d is below 0. It may be
// called at any time.
func (c *TCPConn) SetUserTimeout(d time.Duration) error {
	return c.set(func() tcpip.Error {
		if d < 0 {
			return &tcpip.ErrInvalidOptionValue{}
		}
		v := tcpip.TCPUserTimeoutOption(d)
		return c.ep.SetSockOpt(&v)
	})
}
