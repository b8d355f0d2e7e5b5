// Package load is the client: kernel sockets that drive the services of a peer,
// the same for every peer. A Session is prepared (connected and warmed up), runs
// any number of times, and is finished; only the runs are measured.
package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Kind is what the client does.
type Kind string

// The kinds.
const (
	RR     Kind = "rr"     // one request and its response at a time, on each connection
	CRR    Kind = "crr"    // connect, one exchange, close; one after the other
	Stream Kind = "stream" // send bytes, as many as go
	Source Kind = "source" // receive bytes, as many as come
	Open   Kind = "open"   // requests at fixed times, on all connections in turn
	Idle   Kind = "idle"   // nothing, with the connections open
)

// Spec says what to do. Conns is used when a session is prepared, Rate and
// Duration when it runs.
type Spec struct {
	Kind     Kind          `json:"kind"`
	Network  string        `json:"network"` // "tcp" or "udp"; udp only for rr
	Address  string        `json:"address"` // host and port
	Size     int           `json:"size"`    // bytes of a request, and of its response; at least 1
	Conns    int           `json:"conns"`   // connections, at least 1; for idle, 0 too
	Rate     float64       `json:"rate"`    // requests a second in total, for open
	Duration time.Duration `json:"duration"`
}

// Result is what a run did.
type Result struct {
	Ops     int64         `json:"ops"`     // operations completed; for bulk, MiB
	Bytes   int64         `json:"bytes"`   // payload bytes in the direction that counts
	Lost    int64         `json:"lost"`    // datagrams without an answer, requests unanswered at the end
	Elapsed time.Duration `json:"elapsed"` // from the first operation to the last
	// Latencies is an encoded HDR histogram in nanoseconds; nil where there
	// are none.
	Latencies []byte `json:"latencies,omitempty"`
}

// MiB is the operation of bulk workloads, in bytes.
const MiB = 1 << 20

// Histogram decodes the latencies; nil if there are none.
func (r Result) Histogram() (*hdr.Histogram, error) {
	if r.Latencies == nil {
		return nil, nil
	}
	h, err := hdr.Decode(r.Latencies)
	if err != nil {
		return nil, fmt.Errorf("load: latencies: %w", err)
	}
	return h, nil
}

func (s Spec) check() error {
	switch s.Kind {
	case RR, CRR, Stream, Source, Open, Idle:
	default:
		return fmt.Errorf("load: no kind %q", s.Kind)
	}
	switch {
	case s.Network != "tcp" && (s.Network != "udp" || s.Kind != RR):
		return fmt.Errorf("load: %s over %q", s.Kind, s.Network)
	case s.Size < 1 && (s.Kind == RR || s.Kind == CRR || s.Kind == Open):
		return fmt.Errorf("load: %s with messages of %d bytes", s.Kind, s.Size)
	case s.Conns < 1 && s.Kind != Idle, s.Conns < 0:
		return fmt.Errorf("load: %s with %d connections", s.Kind, s.Conns)
	}
	return nil
}

// Limits of what the client waits for. They end a run that hangs; a loaded
// machine stays far below.
const (
	dialTimeout     = 10 * time.Second
	exchangeTimeout = 10 * time.Second
	lostAfter       = 200 * time.Millisecond // a datagram on one link
	dialers         = 16                     // connections being opened at a time
)

// Session is a set of connections. One goroutine may use it.
type Session struct {
	spec  Spec
	conns []net.Conn
	stale bool // answers of an earlier run may still come
}

// Prepare connects and warms up: every connection has had an exchange.
func Prepare(ctx context.Context, spec Spec) (*Session, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	s := &Session{spec: spec}
	var err error
	switch spec.Kind {
	case RR, Open, Idle:
		err = s.connect(ctx)
		if err == nil && spec.Conns == 1 {
			err = s.warmUp()
		}
	case CRR:
		for range warmUps / 10 {
			if _, err = connectExchange(spec, make([]byte, spec.Size)); err != nil {
				break
			}
		}
	case Stream, Source:
		var c net.Conn
		if c, err = dial(ctx, spec); err == nil { // resolves the neighbour
			c.Close()
		}
	}
	if err != nil {
		s.Finish()
		return nil, err
	}
	return s, nil
}

// warmUps is how many exchanges a single connection makes before a run.
const warmUps = 200

func (s *Session) warmUp() error {
	msg, back := make([]byte, max(s.spec.Size, 1)), make([]byte, maxMessage)
	missing := 0
	for range warmUps {
		lost, err := exchangeSoon(s.conns[0], s.spec.Network, msg, back)
		if err != nil {
			return err
		}
		if lost {
			missing++
		}
		if missing == leastTries {
			return nil // the run will count what is lost
		}
	}
	return nil
}

// connect opens the connections and makes one exchange on each.
func (s *Session) connect(ctx context.Context) error {
	s.conns = make([]net.Conn, s.spec.Conns)
	errs := make([]error, dialers)
	var wg sync.WaitGroup
	for d := range dialers {
		wg.Go(func() {
			msg, back := make([]byte, max(s.spec.Size, 1)), make([]byte, maxMessage)
			for i := d; i < len(s.conns) && errs[d] == nil; i += dialers {
				c, err := dial(ctx, s.spec)
				if err != nil {
					errs[d] = err
					return
				}
				s.conns[i] = c
				if _, errs[d] = exchangeSoon(c, s.spec.Network, msg, back); errs[d] == nil {
					errs[d] = c.SetDeadline(time.Time{})
				}
			}
		})
	}
	wg.Wait()
	return first(errs)
}

// first returns the first of many errors, which are mostly the same.
func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func dial(ctx context.Context, spec Spec) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, spec.Network, spec.Address)
}

// Ready makes the session fit for a run: if answers of the one before may still
// come, it starts with new connections.
func (s *Session) Ready(ctx context.Context) error {
	if !s.stale {
		return nil
	}
	s.Finish()
	s.stale = false
	return s.connect(ctx)
}

// Run does the work once. spec's Rate and Duration count, and its Kind may be
// any that uses the connections of the session.
func (s *Session) Run(ctx context.Context, spec Spec) (r Result, err error) {
	defer func() { s.stale = s.stale || err != nil || r.Lost > 0 }()
	if spec.Duration <= 0 {
		return Result{}, fmt.Errorf("load: a run of %v", spec.Duration)
	}
	switch spec.Kind {
	case RR:
		return s.closedLoop(ctx, spec)
	case Open:
		return s.openLoop(ctx, spec)
	case CRR:
		return crr(ctx, spec)
	case Stream:
		return stream(ctx, spec)
	case Source:
		return source(ctx, spec)
	case Idle:
		start := time.Now()
		select {
		case <-time.After(spec.Duration):
		case <-ctx.Done():
		}
		return Result{Ops: 1, Elapsed: time.Since(start)}, ctx.Err()
	}
	return Result{}, fmt.Errorf("load: no kind %q", spec.Kind)
}

// Finish closes the connections.
func (s *Session) Finish() {
	for _, c := range s.conns {
		if c != nil {
			c.Close()
		}
	}
	s.conns = nil
}

// isLost tells whether an exchange failed because its time was over.
func isLost(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
