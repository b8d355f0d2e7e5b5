package inmemory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"time"
)

// A session is a connection with the link below it.
type session struct {
	ctx            context.Context
	link           link
	client, server conn
	calls          func() (uint64, error) // system calls so far; nil: not counted
}

// A reading is what the process had used at one moment.
type reading struct {
	at      time.Time
	cpu     time.Duration
	mallocs uint64
	frames  uint64
	calls   uint64
}

func (s *session) read() (reading, error) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	cpu, err := cpuTime()
	now := reading{at: time.Now(), cpu: cpu, mallocs: m.Mallocs, frames: s.link.Frames()}
	if s.calls != nil && err == nil {
		now.calls, err = s.calls()
	}
	return now, err
}

// since writes the difference of two readings into a result.
func (r *Result) since(from, to reading) {
	r.Elapsed = to.at.Sub(from.at)
	r.CPU = to.cpu - from.cpu
	r.Mallocs = to.mallocs - from.mallocs
	r.Frames = to.frames - from.frames
	r.Calls = to.calls - from.calls
}

// warmUp is how long a load runs before it is measured: long enough for the
// congestion window to open.
func warmUp(d time.Duration) time.Duration { return min(d/4, 300*time.Millisecond) }

// readSize is the length in bytes of the receiver's buffer in bulk.
const readSize = 256 << 10

// bulk sends from client to server as fast as it goes.
func bulk(s *session, r *Result, d time.Duration) error {
	var arrived atomic.Uint64
	var stop atomic.Bool
	type outcome struct {
		n   uint64
		err error
	}
	sent, received := make(chan outcome, 1), make(chan outcome, 1)
	go func() {
		n, err := sendBulk(s.client, r.Size, &stop)
		sent <- outcome{n, err}
	}()
	go func() {
		n, err := receiveBulk(s.server, &arrived)
		received <- outcome{n, err}
	}()
	// If one side fails, the other must not wait for it.
	var out, in outcome
	wait := func(t time.Duration) bool {
		select {
		case <-time.After(t):
			return true
		case out = <-sent:
			sent <- out
		case in = <-received:
			received <- in
		}
		return false
	}
	var from, to reading
	var fromBytes, toBytes uint64
	var readErr error
	if wait(warmUp(d)) {
		fromBytes = arrived.Load()
		from, readErr = s.read()
		// A stall may be longer than d, until a segment is sent again say.
		for readErr == nil && toBytes <= fromBytes && wait(d) {
			toBytes = arrived.Load()
			to, readErr = s.read()
		}
	}
	stop.Store(true)
	if readErr != nil || in.err != nil {
		s.client.Close()
	}
	if readErr != nil || out.err != nil {
		s.server.Close()
	}
	out, in = <-sent, <-received
	if err := errors.Join(readErr, out.err, in.err); err != nil {
		return err
	}
	if out.n != in.n {
		return fmt.Errorf("%d bytes were sent and %d arrived", out.n, in.n)
	}
	r.since(from, to)
	r.Bytes = toBytes - fromBytes
	return nil
}

func sendBulk(c conn, size int, stop *atomic.Bool) (n uint64, err error) {
	for !stop.Load() {
		b := patternAt(n, size)
		m, err := c.Write(b)
		n += uint64(m)
		if err != nil {
			return n, fmt.Errorf("write: %w", err)
		}
	}
	return n, c.CloseWrite()
}

func receiveBulk(c conn, arrived *atomic.Uint64) (n uint64, err error) {
	buf := make([]byte, readSize)
	for {
		m, err := c.Read(buf)
		if bad := firstDifference(buf[:m], n); bad >= 0 {
			return n, fmt.Errorf("the byte at %d is not the one that was sent", n+uint64(bad))
		}
		n += uint64(m)
		arrived.Store(n)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("read: %w", err)
		}
	}
}

// opsPerLook is the number of exchanges between two looks at the clock.
const opsPerLook = 16

// rr sends size bytes from the client, which waits until the server has sent
// them back, one exchange after the other.
func rr(s *session, r *Result, d time.Duration) error {
	served := make(chan error, 1)
	go func() {
		err := serveEcho(s.server, r.Size)
		if err != nil {
			s.server.Close() // or the client waits for an answer
		}
		served <- err
	}()
	exchanges := func(d time.Duration) (n uint64, err error) {
		buf := make([]byte, r.Size)
		for end := time.Now().Add(d); time.Now().Before(end); {
			for range opsPerLook {
				offset := n * uint64(r.Size)
				if _, err := s.client.Write(patternAt(offset, r.Size)); err != nil {
					return n, fmt.Errorf("write: %w", err)
				}
				if _, err := io.ReadFull(s.client, buf); err != nil {
					return n, fmt.Errorf("read: %w", err)
				}
				if bad := firstDifference(buf, offset); bad >= 0 {
					return n, fmt.Errorf("exchange %d: the byte at %d is not the one that was sent", n, bad)
				}
				n++
			}
		}
		return n, nil
	}
	err := func() (err error) {
		if _, err = exchanges(warmUp(d)); err != nil {
			return err
		}
		from, err := s.read()
		if err != nil {
			return err
		}
		if r.Ops, err = exchanges(d); err != nil {
			return err
		}
		to, err := s.read()
		r.since(from, to)
		return err
	}()
	if err != nil {
		s.client.Close()
	} else {
		err = s.client.CloseWrite()
	}
	return errors.Join(err, <-served)
}

// serveEcho sends back what comes, size bytes at a time, until the end.
func serveEcho(c conn, size int) error {
	buf := make([]byte, size)
	for {
		switch _, err := io.ReadFull(c, buf); err {
		case nil:
		case io.EOF:
			return c.CloseWrite()
		default:
			return fmt.Errorf("echo: read: %w", err)
		}
		if _, err := c.Write(buf); err != nil {
			return fmt.Errorf("echo: write: %w", err)
		}
	}
}
