package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/afxnet/afxnet/bench/internal/measure"
)

// maxMessage holds every message of the workloads and every UDP datagram.
const maxMessage = 64 << 10

// exchange sends a message and waits for as many bytes to come back. lost is a
// datagram that did not, or was not sent in its time. The first byte of a datagram
// is made another one than that of the datagram before.
func exchange(c net.Conn, network string, msg, back []byte) (lost bool, err error) {
	if network == "udp" {
		msg[0]++
	}
	_, err = c.Write(msg)
	switch {
	case network == "udp" && isLost(err): // this process was stopped for so long
		return true, nil
	case err != nil:
		return false, err
	}
	if network == "tcp" {
		_, err := io.ReadFull(c, back[:len(msg)])
		return false, err
	}
	for {
		n, err := c.Read(back)
		switch {
		case isLost(err):
			return true, nil
		case err != nil:
			return false, err
		case n != len(msg):
			return false, fmt.Errorf("load: an answer of %d bytes to a datagram of %d", n, len(msg))
		case back[0] == msg[0]:
			return false, nil
		}
		// It answers one that counts as lost. Taken for the answer to this one,
		// it would shorten all latencies that follow.
	}
}

// exchangeSoon is exchange with a deadline for it alone.
func exchangeSoon(c net.Conn, network string, msg, back []byte) (lost bool, err error) {
	patience := exchangeTimeout
	if network == "udp" {
		patience = lostAfter
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return false, err
	}
	return exchange(c, network, msg, back)
}

// renewals is how many exchanges share a deadline, if they do not take half of it:
// setting one costs time, which would count.
const renewals = 256

// closedLoop has one exchange under way on every connection.
func (s *Session) closedLoop(ctx context.Context, spec Spec) (Result, error) {
	if len(s.conns) == 0 {
		return Result{}, fmt.Errorf("load: %s without connections", spec.Kind)
	}
	var (
		all       = measure.NewLatencies(min(len(s.conns), shards))
		ops, lost atomic.Int64
		failed    = make(chan error, 1)
		wg        sync.WaitGroup
		start     = time.Now()
		end       = start.Add(spec.Duration)
	)
	for i, c := range s.conns {
		wg.Go(func() {
			n, l, err := loop(ctx, c, spec, end, func(d time.Duration) { all.Record(i, d) })
			ops.Add(n)
			lost.Add(l)
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	select {
	case err := <-failed:
		return Result{}, err
	default:
	}
	r := Result{Ops: ops.Load(), Lost: lost.Load(), Elapsed: elapsed, Bytes: ops.Load() * int64(spec.Size)}
	return withLatencies(r, all.Merged())
}

// shards spreads the recording of many connections.
const shards = 16

func withLatencies(r Result, h *hdr.Histogram) (Result, error) {
	var err error
	r.Latencies, err = h.Encode(hdr.V2CompressedEncodingCookieBase)
	if err != nil {
		err = fmt.Errorf("load: encode latencies: %w", err)
	}
	return r, err
}

// leastTries is how many exchanges there are at least where none is answered.
const leastTries = 5

// loop exchanges messages on one connection until end, and until one was answered.
func loop(ctx context.Context, c net.Conn, spec Spec, end time.Time, record func(time.Duration)) (ops, lost int64, err error) {
	// A datagram's answer may be missing, a stream's only if something is broken.
	patience, every := exchangeTimeout, int64(renewals)
	if spec.Network == "udp" {
		patience, every = lostAfter, 32
	}
	msg, back := make([]byte, spec.Size), make([]byte, max(spec.Size, 2048))
	now := time.Now()
	var half time.Time // of the time that the deadline leaves
	for n := int64(0); ops == 0 && lost < leastTries || now.Before(end); n++ {
		if n%every == 0 || now.After(half) {
			if err := ctx.Err(); err != nil {
				return ops, lost, err
			}
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				return ops, lost, err
			}
			now = time.Now()
			half = now.Add(patience / 2)
		}
		start := now
		gone, err := exchange(c, spec.Network, msg, back)
		if err != nil {
			return ops, lost, err
		}
		now = time.Now()
		if gone {
			lost++
			n = -1 // a new deadline
			continue
		}
		ops++
		record(now.Sub(start))
	}
	return ops, lost, c.SetDeadline(time.Time{})
}

// connectExchange is one operation of crr.
func connectExchange(spec Spec, back []byte) (time.Duration, error) {
	start := time.Now()
	c, err := net.DialTimeout(spec.Network, spec.Address, dialTimeout)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := exchangeSoon(c, spec.Network, back[:spec.Size], back); err != nil {
		return 0, err
	}
	if err := c.Close(); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

func crr(ctx context.Context, spec Spec) (Result, error) {
	h := measure.NewHistogram()
	back := make([]byte, spec.Size)
	var r Result
	start := time.Now()
	for r.Elapsed < spec.Duration {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		d, err := connectExchange(spec, back)
		if err != nil {
			return r, err
		}
		r.Ops++
		measure.Record(h, d)
		r.Elapsed = time.Since(start)
	}
	r.Bytes = r.Ops * int64(spec.Size)
	return withLatencies(r, h)
}
