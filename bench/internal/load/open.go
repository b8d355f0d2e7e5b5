package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/afxnet/afxnet/bench/internal/measure"
)

// drainFor is how long an open loop waits for the answers that are missing when
// its time is over.
const drainFor = 2 * time.Second

// startFor is the time to start the reader of one connection, some twice what it
// takes: requests that are due before the readers are there would be late, and with
// many connections the p99 would be of these.
const startFor = 5 * time.Microsecond

// openLoop sends requests at fixed times, whether or not the answers to those
// before have come, each on the next connection. A latency counts from the time
// at which the request should have been sent: if the client or a connection is
// held up, the wait is in it. A request whose answer is missing at the end counts
// as lost, and with the time that it was waited for as a latency: without these,
// a server that answers only what is easy would be the fastest.
func (s *Session) openLoop(ctx context.Context, spec Spec) (Result, error) {
	if len(s.conns) == 0 || spec.Rate <= 0 {
		return Result{}, fmt.Errorf("load: open loop of %v requests/s on %d connections", spec.Rate, len(s.conns))
	}
	o := &opener{
		spec:     spec,
		interval: time.Duration(float64(time.Second) / spec.Rate),
		all:      measure.NewLatencies(shards),
		stride:   len(s.conns),
	}
	total := int64(spec.Duration / o.interval)
	if total < 1 {
		return Result{}, fmt.Errorf("load: open loop of %v requests/s sends none in %v", spec.Rate, spec.Duration)
	}
	var readers sync.WaitGroup
	o.start = time.Now().Add(time.Millisecond + time.Duration(len(s.conns))*startFor)
	deadline := o.start.Add(spec.Duration + drainFor)
	errs, last := make([]error, len(s.conns)), make([]time.Duration, len(s.conns))
	for i, c := range s.conns {
		if err := c.SetDeadline(deadline); err != nil {
			return Result{}, err
		}
		// Connection i carries the requests i, i+stride, and so on.
		n := (total - int64(i) + int64(o.stride) - 1) / int64(o.stride)
		readers.Go(func() { last[i], errs[i] = o.read(c, i, n) })
	}
	sendErr := o.send(ctx, s.conns, total)
	if sendErr != nil {
		for _, c := range s.conns {
			c.Close() // the readers wait for answers that will not come
		}
	}
	readers.Wait()
	if err := first(append([]error{sendErr}, errs...)); err != nil {
		return Result{}, err
	}
	done := o.answered.Load()
	// Not the wait for answers that did not come: one would be worth seconds.
	elapsed := max(slices.Max(last), spec.Duration)
	r := Result{Ops: done, Lost: total - done, Elapsed: elapsed, Bytes: done * int64(spec.Size)}
	return withLatencies(r, o.all.Merged())
}

// opener is one run of an open loop. Request k is due at start + k*interval.
type opener struct {
	spec     Spec
	start    time.Time
	interval time.Duration
	stride   int
	all      *measure.Latencies
	answered atomic.Int64
}

func (o *opener) due(k int64) time.Time { return o.start.Add(time.Duration(k) * o.interval) }

// overdue returns for how long request k of connection i has been due.
func (o *opener) overdue(now time.Time, i int, k int64) time.Duration {
	return now.Sub(o.due(int64(i) + k*int64(o.stride)))
}

// send is the only sender. It has a thread of its own and sleeps in the kernel,
// since the timers of the Go runtime are a millisecond coarse. What it has not sent
// when the time for answers is over is lost, and no error.
func (o *opener) send(ctx context.Context, conns []net.Conn, total int64) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer precise()()
	msg := make([]byte, o.spec.Size)
	for k := range total {
		if k%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if wait := time.Until(o.due(k)); wait > 0 {
			sleep(wait)
		}
		if _, err := conns[k%int64(len(conns))].Write(msg); isLost(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// read takes the n answers of connection i, which come in the order of the
// requests, and returns when the last one came, since the start. Those missing at the
// deadline, which is after all are due, are no error.
func (o *opener) read(c net.Conn, i int, n int64) (last time.Duration, err error) {
	back := make([]byte, o.spec.Size)
	for k := range n {
		if _, err := io.ReadFull(c, back); isLost(err) {
			for ; k < n; k++ {
				o.all.Record(i, o.overdue(time.Now(), i, k))
			}
			return last, nil
		} else if err != nil {
			return last, err
		}
		now := time.Now()
		last = now.Sub(o.start)
		o.all.Record(i, o.overdue(now, i, k))
		o.answered.Add(1)
	}
	return last, nil
}
