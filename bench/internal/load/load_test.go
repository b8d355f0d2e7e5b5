package load

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serve runs a function for every connection to a port of its own on loopback.
func serve(t *testing.T, f func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); f(c) }()
		}
	}()
	return l.Addr().String()
}

func echo(c net.Conn) { io.Copy(c, c) } //nolint:errcheck // ends with the connection

func prepare(t *testing.T, spec Spec) *Session {
	t.Helper()
	s, err := Prepare(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Finish)
	return s
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		spec Spec
		want string
	}{
		{Spec{Kind: "dance", Network: "tcp", Conns: 1}, "no kind"},
		{Spec{Kind: RR, Network: "sctp", Conns: 1, Size: 1}, `over "sctp"`},
		{Spec{Kind: CRR, Network: "udp", Conns: 1, Size: 1}, `over "udp"`},
		{Spec{Kind: RR, Network: "tcp", Conns: 1}, "0 bytes"},
		{Spec{Kind: RR, Network: "tcp", Size: 1}, "0 connections"},
		{Spec{Kind: Idle, Network: "tcp", Conns: -1}, "-1 connections"},
	} {
		if _, err := Prepare(t.Context(), tc.spec); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want %q", tc.spec, err, tc.want)
		}
	}
	s := prepare(t, Spec{Kind: Idle, Network: "tcp"})
	for _, spec := range []Spec{{Kind: RR}, {Kind: RR, Duration: 1}, {Kind: Open, Duration: 1}, {Kind: "dance", Duration: 1}} {
		if _, err := s.Run(t.Context(), spec); err == nil {
			t.Errorf("%+v runs", spec)
		}
	}
}

func TestClosedLoop(t *testing.T) {
	spec := Spec{Kind: RR, Network: "tcp", Address: serve(t, echo), Size: 64, Conns: 20, Duration: 20 * time.Millisecond}
	r, err := prepare(t, spec).Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	h, err := r.Histogram()
	if err != nil {
		t.Fatal(err)
	}
	if r.Ops < 20 || r.Bytes != 64*r.Ops || r.Lost != 0 || h.TotalCount() != r.Ops || r.Elapsed < spec.Duration {
		t.Errorf("got %+v with %d latencies", r, h.TotalCount())
	}
}

func TestCRR(t *testing.T) {
	spec := Spec{Kind: CRR, Network: "tcp", Address: serve(t, echo), Size: 64, Conns: 1, Duration: 10 * time.Millisecond}
	r, err := prepare(t, spec).Run(t.Context(), spec)
	if err != nil || r.Ops < 1 {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestOpenLoopCountsFromDueTime has a server that answers nothing before it has
// all requests. A client that waited for answers would never send them, and one
// that counted from the sending would not see the wait of those sent late.
func TestOpenLoopCountsFromDueTime(t *testing.T) {
	const requests, size = 50, 8
	const interval = time.Millisecond
	address := serve(t, func(c net.Conn) {
		b := make([]byte, requests*size)
		if _, err := io.ReadFull(c, b[:size]); err != nil { // the exchange when connecting
			return
		}
		c.Write(b[:size]) //nolint:errcheck // the client notices
		for n := 1; n < warmUps+1; n++ {
			if _, err := io.ReadFull(c, b[:size]); err != nil {
				return
			}
			c.Write(b[:size]) //nolint:errcheck // the client notices
		}
		if _, err := io.ReadFull(c, b); err == nil {
			c.Write(b) //nolint:errcheck // the client notices
		}
		io.Copy(io.Discard, c) //nolint:errcheck // until the client is gone
	})
	spec := Spec{Kind: Open, Network: "tcp", Address: address, Size: size, Conns: 1,
		Rate: float64(time.Second / interval), Duration: requests * interval}
	r := runOpen(t, spec)
	h, err := r.Histogram()
	if err != nil {
		t.Fatal(err)
	}
	if r.Ops != requests || r.Lost != 0 {
		t.Errorf("%d of %d requests answered, %d lost", r.Ops, requests, r.Lost)
	}
	// Request k waits at least until the last is due.
	for k := range int64(requests) {
		waits := time.Duration(requests-1-k) * interval
		atLeast := float64(h.ValueAtQuantile(100 * float64(requests-k) / requests))
		if atLeast < float64(waits)*0.99 {
			t.Errorf("the latency of rank %d is %v, at least %v is right", requests-k, time.Duration(atLeast), waits)
		}
	}
}

// runOpen is a run that loses nothing. A machine that stalls for drainFor has one lose
// requests, three times in a row not.
func runOpen(t *testing.T, spec Spec) (r Result) {
	t.Helper()
	for range 3 {
		var err error
		if r, err = prepare(t, spec).Run(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if r.Lost == 0 {
			break
		}
		t.Logf("%d answered, %d lost", r.Ops, r.Lost)
	}
	return r
}

// TestOpenLoopLateSender is stopped until the time for answers is over, before it has
// sent a request: all are lost.
func TestOpenLoopLateSender(t *testing.T) {
	c, err := net.Dial("tcp", serve(t, echo))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	o := &opener{spec: Spec{Size: 8}, start: time.Now(), interval: time.Microsecond}
	if err := o.send(t.Context(), []net.Conn{c}, 2); err != nil {
		t.Error(err)
	}
}

// TestOpenLoopLost counts requests that stay unanswered, and starts anew after
// them.
func TestOpenLoopLost(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for answers that do not come")
	}
	var silent atomic.Bool
	address := serve(t, func(c net.Conn) {
		b := make([]byte, 8)
		for {
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			if !silent.Load() {
				c.Write(b) //nolint:errcheck // the client notices
			}
		}
	})
	spec := Spec{Kind: Open, Network: "tcp", Address: address, Size: 8, Conns: 2, Rate: 1000, Duration: 10 * time.Millisecond}
	s := prepare(t, spec)
	silent.Store(true)
	r, err := s.Run(t.Context(), spec)
	silent.Store(false)
	if err != nil || r.Ops != 0 || r.Lost != 10 || r.Elapsed >= drainFor {
		t.Fatalf("got %+v, %v, want 10 lost, and no time with the wait for them", r, err)
	}
	h, err := r.Histogram()
	if err != nil {
		t.Fatal(err)
	}
	if h.TotalCount() != 10 || h.Min() < int64(drainFor)*99/100 {
		t.Errorf("%d latencies from %v on, want those of 10 that were waited for", h.TotalCount(), time.Duration(h.Min()))
	}
	for try := 0; try < 3 && r.Lost != 0; try++ { // as in runOpen
		if err := s.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r, err = s.Run(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	if r.Ops != 10 || r.Lost != 0 {
		t.Errorf("after that: got %+v", r)
	}
}

// TestOpenLoopStart wants the first request to be due when all readers have had the
// time to start.
func TestOpenLoopStart(t *testing.T) {
	const conns = 400
	r, lead := runStart(t, conns)
	for try := 1; try < 3 && r.Lost != 0; try++ { // as in runOpen
		t.Logf("%d answered, %d lost", r.Ops, r.Lost)
		r, lead = runStart(t, conns)
	}
	if r.Ops != 10 || lead < conns*startFor {
		t.Errorf("the first of %d requests comes after %v, want %v", r.Ops, lead, conns*startFor)
	}
}

// runStart is a run of ten requests. lead is the time until the server has the first, if
// it answered any.
func runStart(t *testing.T, conns int) (r Result, lead time.Duration) {
	t.Helper()
	var exchanges atomic.Int64
	first := make(chan time.Time, 1)
	address := serve(t, func(c net.Conn) {
		b := make([]byte, 8)
		for {
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			if exchanges.Add(1) == int64(conns)+1 { // after those when connecting
				first <- time.Now()
			}
			c.Write(b) //nolint:errcheck // the client notices
		}
	})
	spec := Spec{Kind: Open, Network: "tcp", Address: address, Size: 8, Conns: conns, Rate: 1000, Duration: 10 * time.Millisecond}
	s := prepare(t, spec)
	before := time.Now()
	r, err := s.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if r.Ops > 0 {
		lead = (<-first).Sub(before)
	}
	return r, lead
}

// TestLateSender is stopped until the time of a datagram is over, before it has sent
// it: that one is lost.
func TestLateSender(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c, err := net.Dial("udp", silent.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if lost, err := exchange(c, "udp", make([]byte, 8), make([]byte, 64)); !lost || err != nil {
		t.Errorf("lost %v, %v", lost, err)
	}
}

// TestLateDatagram has a server that answers one datagram of a run when it has the
// next, and each a while after it came: no latency is shorter than that. If the machine
// stalls, the run may be over before there are two.
func TestLateDatagram(t *testing.T) {
	const delay = 5 * time.Millisecond
	r := runLate(t, delay)
	for try := 1; try < 3 && r.Ops < 2; try++ {
		t.Logf("%d answered, %d lost", r.Ops, r.Lost)
		r = runLate(t, delay)
	}
	h, err := r.Histogram()
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost < 1 || r.Ops < 2 || h.Min() < int64(delay)*99/100 {
		t.Errorf("%d answered, %d lost, latencies from %v on, want %v at least", r.Ops, r.Lost, time.Duration(h.Min()), delay)
	}
}

// runLate is a run with such a server.
func runLate(t *testing.T, delay time.Duration) Result {
	t.Helper()
	const late = warmUps + 3
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b, held := make([]byte, 64), make([]byte, 64)
		for n := 1; ; n++ {
			got, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if n == late {
				copy(held, b)
				continue
			}
			if n == late+1 {
				c.WriteTo(held[:got], from) //nolint:errcheck // the client notices
			}
			if n > warmUps+1 {
				<-time.After(delay)
			}
			c.WriteTo(b[:got], from) //nolint:errcheck // the client notices
		}
	}()
	spec := Spec{Kind: RR, Network: "udp", Address: c.LocalAddr().String(), Size: 8, Conns: 1, Duration: 2 * lostAfter}
	r, err := prepare(t, spec).Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSlow has a server that takes its time for each datagram: none is lost, however
// many share a deadline. A machine that stalls may lose one, three times in a row not.
func TestSlow(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 64)
		for n := 1; ; n++ {
			got, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if n > warmUps+1 {
				<-time.After(10 * time.Millisecond)
			}
			c.WriteTo(b[:got], from) //nolint:errcheck // the client notices
		}
	}()
	spec := Spec{Kind: RR, Network: "udp", Address: c.LocalAddr().String(), Size: 8, Conns: 1, Duration: 2 * lostAfter}
	s := prepare(t, spec)
	for range 3 {
		r, err := s.Run(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if r.Lost == 0 {
			return
		}
		t.Logf("%d answered, %d lost", r.Ops, r.Lost)
	}
	t.Error("a server that is slow loses datagrams each time")
}

// TestStalled ends with servers that take what comes and say nothing.
func TestStalled(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for answers that do not come")
	}
	address := serve(t, func(c net.Conn) { io.Copy(io.Discard, c) }) //nolint:errcheck // until the client is gone
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	var wg sync.WaitGroup
	for _, kind := range []Kind{RR, CRR} {
		wg.Go(func() {
			spec := Spec{Kind: kind, Network: "tcp", Address: address, Size: 8, Conns: 1}
			if _, err := Prepare(t.Context(), spec); !isLost(err) {
				t.Errorf("%s: got %v, want a time that is over", kind, err)
			}
		})
	}
	spec := Spec{Kind: RR, Network: "udp", Address: silent.LocalAddr().String(), Size: 8, Conns: 1, Duration: time.Millisecond}
	if r, err := prepare(t, spec).Run(t.Context(), spec); err != nil || r.Ops != 0 || r.Lost != leastTries {
		t.Errorf("udp: got %+v, %v, want %d lost", r, err, leastTries)
	}
	wg.Wait()
}

// TestRunFails has a server that hangs up in the middle.
func TestRunFails(t *testing.T) {
	address := serve(t, func(c net.Conn) { io.CopyN(c, c, 64*(warmUps+10)) }) //nolint:errcheck // then it closes
	spec := Spec{Kind: RR, Network: "tcp", Address: address, Size: 64, Conns: 1, Duration: time.Minute}
	if r, err := prepare(t, spec).Run(t.Context(), spec); err == nil {
		t.Errorf("got %+v", r)
	}
}

func TestRunCanceled(t *testing.T) {
	spec := Spec{Kind: RR, Network: "tcp", Address: serve(t, echo), Size: 1, Conns: 1, Duration: time.Hour}
	s := prepare(t, spec)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Run(ctx, spec); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
