package stack

import (
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/netdev"
)

// owedPeriod is half the longest time that a few endpoints may owe an
// acknowledgement, and longestOwed that of many.
var owedPeriod, longestOwed = new(netdev.ACKPace).Period(1), new(netdev.ACKPace).Period(1 << 20)

// advance lets virtual time pass, and all happen that can then: it goes on when
// nobody has anything left to do. The pump is the one who may call synctest.Wait.
func advance(d time.Duration) {
	<-time.NewTimer(d).C
	<-time.NewTimer(1).C
}

// TestOwedTimer has an endpoint settle what it owes after one period and before
// two, once for each time it owes, and no timer run after that.
func TestOwedTimer(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		var o owed
		var sends, flushes atomic.Int32
		var owes atomic.Bool
		o.init(func(gstack.TransportEndpoint) bool { sends.Add(1); return owes.Load() }, func() { flushes.Add(1) })
		ep := new(tcp.Endpoint)
		for i := range int32(10) {
			owes.Store(i%2 != 0) // or has sent something else
			for range 3 {
				o.add(ep)
			}
			if advance(owedPeriod - 2); sends.Load() != i {
				t.Fatalf("round %d: %d sent before one period", i, sends.Load())
			}
			if advance(owedPeriod + 2); sends.Load() != i+1 || flushes.Load() != (i+1)/2 {
				t.Fatalf("round %d: %d sent, %d flushes after two periods", i, sends.Load(), flushes.Load())
			}
			advance(2 * owedPeriod)
			o.mu.Lock()
			if o.armed {
				t.Error("a timer runs")
			}
			o.mu.Unlock()
		}
		was := sends.Load()
		for range 10 { // what it sends by itself settles what it owes
			o.add(ep)
			ep.Stats().(*tcp.Stats).SegmentsSent.Increment()
			if advance(3 * owedPeriod); sends.Load() != was {
				t.Fatal("an endpoint is asked for what it has sent")
			}
		}
		for range 500 {
			o.add(ep)
			o.add(new(tcp.Endpoint))
		}
		start, before := time.Now(), sends.Load()
		for sends.Load() == before {
			advance(owedPeriod)
		}
		if d := time.Since(start); d < longestOwed || d > 2*longestOwed {
			t.Errorf("of many, one waits for %v", d)
		}
		o.add(ep)
		before = sends.Load()
		o.close()
		o.add(ep)
		if advance(time.Second); sends.Load() != before {
			t.Error("something is sent after close")
		}
	})
}

// TestOwedAllocs holds the noting of what is owed to no allocation.
func TestOwedAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	var o owed
	o.init(func(gstack.TransportEndpoint) bool { return false }, func() {})
	defer o.close()
	eps := []*tcp.Endpoint{new(tcp.Endpoint), new(tcp.Endpoint), new(tcp.Endpoint)}
	if n := testing.AllocsPerRun(1000, func() {
		for _, ep := range eps {
			o.add(ep)
		}
		o.round()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestOwed counts the segments that both ends of a connection make. An exchange
// takes one each; an acknowledgement that nothing carries is made in time, once,
// and leaves at once.
func TestOwed(t *testing.T) {
	for _, hold := range []bool{true, false} {
		for _, host := range []string{addrB, addrB6} {
			t.Run(fmt.Sprintf("hold=%t/%s", hold, host), func(t *testing.T) {
				raced.Bubble(t, func(t *testing.T) {
					o := overWireOptions{chosen: true, bubble: true}
					for i := range o.config {
						o.config[i].Device.NoACKHold = !hold
						o.config[i].Device.NoLateArm = true // each packet is taken at once
					}
					ow := newOverWire(t, o)
					c, s := ow.tcpPair(t, host)
					made := func(i int) uint64 { return ow.s[i].ns.Stats().TCP.SegmentsSent.Value() }
					msg := make([]byte, 64)
					send := func(from, to *TCPConn) {
						t.Helper()
						if _, err := from.Write(msg); err != nil {
							t.Fatal(err)
						}
						if _, err := io.ReadFull(to, msg); err != nil {
							t.Fatal(err)
						}
						advance(1)
					}
					send(c, s)
					send(s, c)
					const n = 100
					was := [2]uint64{made(0), made(1)}
					for range n {
						send(c, s)
						send(s, c)
					}
					// A segment that comes while a user has the endpoint is not
					// processed inline.
					least, most := uint64(n), uint64(n+n/10)
					if !hold {
						least, most = 2*n, 2*n
					}
					a, b := made(0)-was[0], made(1)-was[1]
					if min(a, b) < least || max(a, b) > most {
						t.Errorf("%d and %d segments for %d exchanges, want %d to %d", a, b, n, least, most)
					}
					if !hold {
						return
					}
					advance(2 * owedPeriod)
					if more := made(0) - was[0] - a; more != 1 || made(1)-was[1] != b {
						t.Errorf("%d and %d segments more, want one for the last answer", more, made(1)-was[1]-b)
					}
					early := 0
					for i := range 20 { // requests that nobody answers
						was, frames := made(1), ow.w.Stats()[wire.From1].Sent
						send(c, s)
						if made(1) != was {
							early++
						}
						advance(2 * owedPeriod)
						if got := ow.w.Stats()[wire.From1].Sent - frames; made(1) != was+1 || got != 1 {
							t.Errorf("request %d: %d segments made, %d frames sent, want 1", i, made(1)-was, got)
						}
						advance(time.Second)
						if made(1) != was+1 {
							t.Errorf("request %d is acknowledged again", i)
						}
					}
					if early > 5 {
						t.Errorf("%d of 20 requests are acknowledged at once", early)
					}
					was = [2]uint64{made(0), made(1)}
					send(c, s)
					send(c, s) // the second is not to wait for the third
					advance(2 * owedPeriod)
					if a, b := made(0)-was[0], made(1)-was[1]; a != 2 || b < 1 || b > 2 {
						t.Errorf("%d and %d segments for two requests", a, b)
					}
					if r := ow.s[0].ns.Stats().TCP.Retransmits.Value(); r != 0 {
						t.Errorf("%d segments sent again", r)
					}
				})
			})
		}
	}
}

// TestOwedQueues has the data of all connections come by one queue. The
// acknowledgements of half of them, some 8, leave by the other, and not later.
func TestOwedQueues(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		o := overWireOptions{chosen: true, bubble: true, chunks: 2048}
		for i := range o.config {
			o.config[i].Device.NoLateArm = true // each packet is taken at once
			o.wire.Ports[i].Queues = 2
			o.wire.Ports[i].RSS = func([]byte) int { return 0 }
		}
		ow := newOverWire(t, o)
		msg := make([]byte, 64)
		send := func(from, to *TCPConn) {
			t.Helper()
			if _, err := from.Write(msg); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(to, msg); err != nil {
				t.Fatal(err)
			}
			advance(1)
		}
		for i := range 16 {
			c, s := ow.tcpPair(t, addrB)
			send(c, s)
			send(s, c)
			for range 3 { // requests that nobody answers
				advance(20 * owedPeriod)
				frames := ow.w.Stats()[wire.From1].Sent
				send(c, s)
				advance(2 * owedPeriod)
				if got := ow.w.Stats()[wire.From1].Sent - frames; got != 1 {
					t.Errorf("connection %d: %d frames sent after two periods, want 1", i, got)
				}
			}
		}
	})
}
