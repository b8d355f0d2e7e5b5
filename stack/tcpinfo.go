package stack

import (
	"fmt"
	"math"
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A TCPState is the state of a connection (RFC 9293, 3.3.2), with the numbers of
// Linux (include/net/tcp_states.h).
type TCPState uint8

// The states that a TCPConn can be in. TCPClose is the one after all others.
const (
	TCPEstablished TCPState = 1
	TCPFinWait1    TCPState = 4
	TCPFinWait2    TCPState = 5
	TCPTimeWait    TCPState = 6
	TCPClose       TCPState = 7
	TCPCloseWait   TCPState = 8
	TCPLastAck     TCPState = 9
	TCPClosing     TCPState = 11
)

// String returns the name that the RFC gives to the state.
func (s TCPState) String() string {
	switch s {
	case TCPEstablished:
		return "ESTABLISHED"
	case TCPFinWait1:
		return "FIN-WAIT-1"
	case TCPFinWait2:
		return "FIN-WAIT-2"
	case TCPTimeWait:
		return "TIME-WAIT"
	case TCPClose:
		return "CLOSED"
	case TCPCloseWait:
		return "CLOSE-WAIT"
	case TCPLastAck:
		return "LAST-ACK"
	case TCPClosing:
		return "CLOSING"
	}
	return fmt.Sprintf("TCPState(%d)", uint8(s))
}

// A TCPCongestion is what a sender makes of the acknowledgements that it gets, with
// the numbers of Linux (enum tcp_ca_state in include/uapi/linux/tcp.h). Its 2, CWR, is
// for ECN, which the stack does not use.
type TCPCongestion uint8

const (
	// CongestionOpen: nothing is amiss.
	CongestionOpen TCPCongestion = 0
	// CongestionDisorder: duplicate acknowledgements have come, too few to
	// tell a loss.
	CongestionDisorder TCPCongestion = 1
	// CongestionRecovery: they have told one, and what was lost is sent again.
	CongestionRecovery TCPCongestion = 3
	// CongestionLoss: the retransmission timer has expired.
	CongestionLoss TCPCongestion = 4
)

// String returns the name that Linux gives to the state.
func (c TCPCongestion) String() string {
	switch c {
	case CongestionOpen:
		return "Open"
	case CongestionDisorder:
		return "Disorder"
	case CongestionRecovery:
		return "Recovery"
	case CongestionLoss:
		return "Loss"
	}
	return fmt.Sprintf("TCPCongestion(%d)", uint8(c))
}

// TCPInfo is what a stack tells of a connection: of Linux's TCP_INFO what netstack
// knows. It does not tell the segment sizes, the window of either end, what waits to
// be sent, the least round trip time, rates and pacing, for how long the sender was
// busy or held up, which options the two have agreed on, and, without RACK, which is
// off, whether segments have come out of order.
type TCPInfo struct {
	State      TCPState
	Congestion TCPCongestion

	// RTT is the smoothed round trip time, and RTTVar its variation (RFC 6298).
	// Both are 0 until something that was sent after the handshake has been
	// acknowledged. From then on netstack has an RTT of no less than 1 ms, also
	// where it is some microseconds, and with peers that have timestamps it
	// measures in whole milliseconds. RTO is the time after which what is not
	// acknowledged is sent again; it doubles with every timeout.
	RTT, RTTVar, RTO time.Duration

	// CongestionWindow is how many segments may be under way, and
	// SlowStartThreshold the window from which on it grows slowly, in segments:
	// math.MaxInt32 before the first loss.
	CongestionWindow, SlowStartThreshold int

	// Unacknowledged is how many bytes have been sent and not acknowledged; the
	// end that CloseWrite sends counts as one. It is -1 where the stack does not
	// know: on a connection to an address of its own, on one that
	// Stats.UnjudgedFlows counts, on one that has sent nothing for a minute if
	// tens of thousands of others came, and in state TCPClose.
	Unacknowledged int

	// Retransmitted is how many segments have been sent again, SYNs not counted.
	// One may be several frames. Timeouts is how often the retransmission timer
	// has expired.
	Retransmitted, Timeouts uint64
}

// Info tells about the connection at this moment. It allocates nothing, but takes
// the lock that sending and receiving take. In TIME-WAIT, and after the connection
// has ended by a reset or a timeout, State says so and the rest is what it was last.
// After Close the error is net.ErrClosed in a *net.OpError. It may be called from
// any goroutine.
func (c *TCPConn) Info() (TCPInfo, error) {
	c.control.Lock()
	defer c.control.Unlock()
	if c.released || c.closed() {
		return TCPInfo{}, c.opErr("get", net.ErrClosed)
	}
	ep, ok := c.ep.(*tcp.Endpoint)
	if !ok {
		return TCPInfo{}, c.opErr("get", sysError("getsockopt", &tcpip.ErrUnknownProtocolOption{}))
	}
	var o tcpip.TCPInfoOption
	if terr := ep.GetSockOpt(&o); terr != nil {
		return TCPInfo{}, c.opErr("get", sysError("getsockopt", terr))
	}
	info := TCPInfo{
		State:              TCPState(o.State), // netstack has Linux's numbers
		Congestion:         congestionOf(o.CcState),
		RTT:                o.RTT,
		RTTVar:             o.RTTVar,
		RTO:                o.RTO,
		CongestionWindow:   int(o.SndCwnd),
		SlowStartThreshold: int(min(o.SndSsthresh, math.MaxInt32)),
		Unacknowledged:     -1,
		Timeouts:           timeoutsOf(ep),
	}
	if st, ok := ep.Stats().(*tcp.Stats); ok {
		info.Retransmitted = st.SendErrors.Retransmits.Value()
	}
	switch info.State {
	case TCPClose: // the account may be another's by then
	case TCPTimeWait: // and here, of a connection that has the same ports
		info.Unacknowledged = 0
	default:
		if t, flow, ok := c.stack.guard.flowOf(ep); ok {
			if una, nxt, ok := t.progress(flow); ok {
				info.Unacknowledged = int(nxt - una)
			}
		}
	}
	return info, nil
}

func congestionOf(s tcpip.CongestionControlState) TCPCongestion {
	switch s {
	case tcpip.RTORecovery:
		return CongestionLoss
	case tcpip.FastRecovery, tcpip.SACKRecovery:
		return CongestionRecovery
	case tcpip.Disorder:
		return CongestionDisorder
	}
	return CongestionOpen
}
