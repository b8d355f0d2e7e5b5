package stack

import (
	"errors"
	"io"
	"math"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
)

// infoOf returns, in a bubble, what Info tells once all has happened that can.
func infoOf(t testing.TB, c *TCPConn) TCPInfo {
	t.Helper()
	time.Sleep(time.Millisecond) // virtual: the pump, too, waits for synctest.Wait
	i, err := c.Info()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

const (
	infoDelay = 20 * time.Millisecond // each way
	infoTrip  = 2 * infoDelay
)

// infoPair returns a connection over a wire with infoDelay, in a bubble.
func infoPair(t *testing.T, host string) (ow *overWire, c, s *TCPConn) {
	ow = newOverWire(t, overWireOptions{bubble: true})
	c, s = ow.tcpPair(t, host)
	slow(t, ow, nil)
	return ow, c, s
}

// slow gives the wire its delay, and the way from port 0 a filter.
func slow(t *testing.T, ow *overWire, filter func(wire.Dir, []byte) wire.Verdict) {
	t.Helper()
	for dir, f := range []wire.Faults{{Delay: infoDelay, Filter: filter}, {Delay: infoDelay}} {
		if err := ow.w.SetFaults(wire.Dir(dir), f); err != nil {
			t.Fatal(err)
		}
	}
}

// echoOnce sends n bytes there and back.
func echoOnce(t *testing.T, c, s *TCPConn, n int) {
	t.Helper()
	go c.Write(make([]byte, n)) //nolint:errcheck // the reader tells
	if _, err := io.ReadFull(s, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	go s.Write(make([]byte, n)) //nolint:errcheck // the reader tells
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
}

// TestTCPInfoPath measures a path, and loses what is under way on it.
func TestTCPInfoPath(t *testing.T) {
	for _, host := range []string{addrB, addrB6} {
		t.Run(host, func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				ow, c, s := infoPair(t, host)
				i := infoOf(t, c)
				if i.State != TCPEstablished || i.Congestion != CongestionOpen || i.RTT != 0 || i.RTTVar != 0 ||
					i.RTO <= 0 || i.CongestionWindow < 2 || i.SlowStartThreshold != math.MaxInt32 || i.Unacknowledged != 0 {
					t.Errorf("at the beginning: %+v", i)
				}
				for range 20 {
					echoOnce(t, c, s, 100)
				}
				i = infoOf(t, c)
				if i.RTT < infoTrip || i.RTT > infoTrip+infoTrip/10 || i.RTTVar > infoTrip/2 || i.RTO < max(i.RTT, minRTOWAN) ||
					i.Unacknowledged != 0 || i.Retransmitted != 0 || i.Timeouts != 0 {
					t.Errorf("after round trips of %v: %+v", infoTrip, i)
				}
				const n = 5000
				if _, err := c.Write(make([]byte, n)); err != nil {
					t.Fatal(err)
				}
				if i = infoOf(t, c); i.Unacknowledged != n {
					t.Errorf("%d bytes under way: %+v", n, i)
				}
				if _, err := io.ReadFull(s, make([]byte, n)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				before := infoOf(t, c)
				if before.Unacknowledged != 0 {
					t.Errorf("nothing under way: %+v", before)
				}

				swallow(t, ow.w, wire.From0)
				if _, err := c.Write(make([]byte, n)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(before.RTO + before.RTO/2)
				i = infoOf(t, c)
				if i.State != TCPEstablished || i.Congestion != CongestionLoss || i.Timeouts != 1 || i.Retransmitted == 0 ||
					i.RTO != 2*before.RTO || i.CongestionWindow != 1 || i.SlowStartThreshold >= before.SlowStartThreshold ||
					i.Unacknowledged != n {
					t.Errorf("after a timeout: %+v; before %+v", i, before)
				}
				slow(t, ow, nil)
				if _, err := io.ReadFull(s, make([]byte, n)); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					echoOnce(t, c, s, 100)
				}
				if i = infoOf(t, c); i.Congestion != CongestionOpen || i.Unacknowledged != 0 {
					t.Errorf("after that: %+v", i)
				}
			})
		})
	}
}

// TestTCPInfoRecovery loses one frame of many and looks while it is sent again.
func TestTCPInfoRecovery(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		ow, c, s := infoPair(t, addrB)
		echoOnce(t, c, s, 100)
		before := infoOf(t, c)
		var lost atomic.Bool
		slow(t, ow, func(_ wire.Dir, f []byte) wire.Verdict {
			if payloadOf(f) > 0 && !lost.Swap(true) {
				return wire.Drop
			}
			return wire.Pass
		})
		const n = 12_000
		if _, err := c.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(infoTrip + infoTrip/2)
		i := infoOf(t, c)
		if i.Congestion != CongestionRecovery || i.Retransmitted == 0 || i.Timeouts != 0 || i.SlowStartThreshold >= before.SlowStartThreshold {
			t.Errorf("while it is sent again: %+v", i)
		}
		if _, err := io.ReadFull(s, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		echoOnce(t, c, s, 100)
		if i = infoOf(t, c); i.Congestion != CongestionOpen || i.Unacknowledged != 0 {
			t.Errorf("after that: %+v", i)
		}
	})
}

// TestTCPInfoStates ends a connection, one end after the other.
func TestTCPInfoStates(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		_, c, s := infoPair(t, addrB)
		want := func(what string, cs, ss TCPState, unacknowledged int) {
			t.Helper()
			i, j := infoOf(t, c), infoOf(t, s)
			if i.State != cs || j.State != ss || i.Unacknowledged != unacknowledged {
				t.Errorf("%s: %v with %d bytes under way, %v; want %v with %d, %v", what,
					i.State, i.Unacknowledged, j.State, cs, unacknowledged, ss)
			}
		}
		echoOnce(t, c, s, 100)
		time.Sleep(time.Second)
		want("open", TCPEstablished, TCPEstablished, 0)
		c.CloseWrite() //nolint:errcheck // the state tells
		want("FIN under way", TCPFinWait1, TCPEstablished, 1)
		time.Sleep(infoTrip)
		want("FIN acknowledged", TCPFinWait2, TCPCloseWait, 0)
		before := infoOf(t, c)
		s.CloseWrite() //nolint:errcheck // the state tells
		want("other FIN under way", TCPFinWait2, TCPLastAck, 0)
		time.Sleep(infoTrip)
		want("both acknowledged", TCPTimeWait, TCPClose, 0)
		if i := infoOf(t, c); i.RTT < infoTrip || i.RTT != before.RTT || i.CongestionWindow != before.CongestionWindow {
			t.Errorf("in TIME-WAIT: %+v; before %+v", i, before)
		}
		time.Sleep(5 * time.Minute)
		want("long after", TCPClose, TCPClose, -1)
		c.Close()
		_, err := c.Info()
		wantOp(t, err, "get", net.ErrClosed)
	})
}

// TestTCPInfoBothClose has both ends close at the same time.
func TestTCPInfoBothClose(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		_, c, s := infoPair(t, addrB)
		c.CloseWrite() //nolint:errcheck // the state tells
		s.CloseWrite() //nolint:errcheck // the state tells
		time.Sleep(infoDelay + infoDelay/2)
		for _, c := range []*TCPConn{c, s} {
			if i := infoOf(t, c); i.State != TCPClosing {
				t.Errorf("%v, want %v", i.State, TCPClosing)
			}
		}
	})
}

// TestTCPInfoReset has the peer reset the connection.
func TestTCPInfoReset(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		_, c, s := infoPair(t, addrB)
		echoOnce(t, c, s, 100)
		before := infoOf(t, c)
		s.SetLinger(0) //nolint:errcheck // the reset tells
		s.Close()
		_, err := c.Read(make([]byte, 1))
		wantOp(t, err, "read", syscall.ECONNRESET)
		if i := infoOf(t, c); i.State != TCPClose || i.RTT != before.RTT || i.Unacknowledged != -1 {
			t.Errorf("%+v; before %+v", i, before)
		}
	})
}

// TestTCPInfoLoopback asks about a connection that never reaches the link.
func TestTCPInfoLoopback(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1", addrA, addrA6} {
		p := newPair(t)
		l, err := p.a.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := p.a.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c, s := conn.(*TCPConn), peer.(*TCPConn)
		echoOnce(t, c, s, 100)
		echoOnce(t, c, s, 100) // its first segment acknowledges the last one before
		for _, c := range []*TCPConn{c, s} {
			i, err := c.Info()
			if err != nil || i.State != TCPEstablished || i.RTT < time.Millisecond || i.CongestionWindow <= 0 || i.Unacknowledged != -1 {
				t.Errorf("%s: %+v, %v", host, i, err)
			}
		}
		c.Close()
		s.Close()
		l.Close()
	}
}

// TestTCPInfoMeanwhile asks, and sets options, while the connection is at work and
// until it is closed.
func TestTCPInfoMeanwhile(t *testing.T) {
	ow := newOverWire(t, overWireOptions{})
	c, s := ow.tcpPair(t, addrB)
	done := make(chan error)
	go func() {
		for ttl := 1; ; ttl = ttl%255 + 1 {
			if _, err := c.Info(); err != nil {
				done <- err
				return
			}
			if err := errors.Join(c.SetTTL(ttl), c.SetTOS(ttl)); err != nil && !errors.Is(err, net.ErrClosed) {
				done <- err
				return
			}
		}
	}()
	for range raced.Few(200, 20) {
		echoOnce(t, c, s, 20_000)
	}
	c.Close()
	wantOp(t, <-done, "get", net.ErrClosed)
}

func TestTCPInfoAllocs(t *testing.T) {
	p := newPair(t)
	c, _ := p.connect(t, "tcp", addrB)
	got := testing.AllocsPerRun(raced.Few(1000, 100), func() {
		if _, err := c.Info(); err != nil {
			t.Fatal(err)
		}
	})
	if got != 0 && !raceEnabled {
		t.Errorf("%v allocations, want 0", got)
	}
}

// TestTCPInfoNames has a name for each number that Linux has and we use.
func TestTCPInfoNames(t *testing.T) {
	for s, want := range map[TCPState]string{TCPEstablished: "ESTABLISHED", TCPFinWait1: "FIN-WAIT-1", TCPFinWait2: "FIN-WAIT-2",
		TCPTimeWait: "TIME-WAIT", TCPClose: "CLOSED", TCPCloseWait: "CLOSE-WAIT", TCPLastAck: "LAST-ACK", TCPClosing: "CLOSING", 99: "TCPState(99)"} {
		if s.String() != want {
			t.Errorf("%d is %q, want %q", uint8(s), s, want)
		}
	}
	for c, want := range map[TCPCongestion]string{CongestionOpen: "Open", CongestionDisorder: "Disorder", CongestionRecovery: "Recovery",
		CongestionLoss: "Loss", 99: "TCPCongestion(99)"} {
		if c.String() != want {
			t.Errorf("%d is %q, want %q", uint8(c), c, want)
		}
	}
}
