package inmemory

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Kinds are the implementations that Run knows, Loads what they can do.
var (
	Kinds = []string{"afxnet", "afxnet-block", "afxnet-spin", "inline", "inline-block", "inline-spin", "gvisor", "gvisor-gro", "gvisor-copy"}
	Loads = []string{"bulk", "rr"}
)

// A Metric is one figure of a Result.
type Metric struct {
	Name  string  `json:"metric"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// A Result is what one run measured, between its warm-up and its end.
type Result struct {
	Kind    string        `json:"kind"`
	Load    string        `json:"load"`
	Size    int           `json:"size"`    // bytes per Write
	Elapsed time.Duration `json:"elapsed"` // in nanoseconds
	CPU     time.Duration `json:"cpu"`     // user and system time of the process
	Bytes   uint64        `json:"bytes"`   // bulk: payload that arrived
	Ops     uint64        `json:"ops"`     // rr: exchanges
	Frames  uint64        `json:"frames"`  // that crossed, both directions
	Mallocs uint64        `json:"mallocs"` // heap objects allocated
	Calls   uint64        `json:"calls"`   // system calls, if they were counted
	Counted bool          `json:"counted"`
}

// Metrics returns the figures: for bulk gbit_s, cpu_ns_per_byte,
// bytes_per_frame and allocs_per_frame; for rr ops_s, cpu_us_per_op,
// allocs_per_op and frames_per_op. If system calls were counted, syscalls_per_frame or
// syscalls_per_op follows. There are none if nothing arrived.
func (r Result) Metrics() []Metric {
	seconds := r.Elapsed.Seconds()
	switch {
	case r.Load == "bulk" && r.Bytes > 0 && r.Frames > 0 && seconds > 0:
		bytes, frames := float64(r.Bytes), float64(r.Frames)
		return r.withCalls("syscalls_per_frame", frames, []Metric{
			{"gbit_s", bytes * 8 / 1e9 / seconds, "Gbit/s"},
			{"cpu_ns_per_byte", float64(r.CPU.Nanoseconds()) / bytes, "ns"},
			{"bytes_per_frame", bytes / frames, "B"},
			{"allocs_per_frame", float64(r.Mallocs) / frames, "allocs"},
		})
	case r.Load == "rr" && r.Ops > 0 && seconds > 0:
		ops := float64(r.Ops)
		return r.withCalls("syscalls_per_op", ops, []Metric{
			{"ops_s", ops / seconds, "1/s"},
			{"cpu_us_per_op", float64(r.CPU.Nanoseconds()) / 1e3 / ops, "us"},
			{"allocs_per_op", float64(r.Mallocs) / ops, "allocs"},
			{"frames_per_op", float64(r.Frames) / ops, "frames"},
		})
	}
	return nil
}

// withCalls adds the system calls to metrics, if they were counted.
func (r Result) withCalls(name string, per float64, metrics []Metric) []Metric {
	if r.Counted {
		metrics = append(metrics, Metric{name, float64(r.Calls) / per, "calls"})
	}
	return metrics
}

// Ratios returns r's metrics divided by those of base, by name. Metrics that
// base does not have, or has as 0, are left out.
func (r Result) Ratios(base Result) map[string]float64 {
	of := make(map[string]float64)
	for _, m := range base.Metrics() {
		of[m.Name] = m.Value
	}
	ratios := make(map[string]float64)
	for _, m := range r.Metrics() {
		if v := of[m.Name]; v != 0 {
			ratios[m.Name] = m.Value / v
		}
	}
	return ratios
}

// minSize and maxSize bound the bytes of a Write.
const (
	minSize = 1
	maxSize = 1 << 20
)

// Run makes two stacks of a kind, runs a load between them for d after a short
// warm-up, and takes them down again. size is the length of a Write in bytes,
// 1 to 1 MiB; zero means 64 for rr and 64 KiB for bulk.
//
// calls returns how many system calls the process has made so far; it is asked when the
// measuring begins and when it ends. If it is nil they are not counted.
//
// It fails if a byte arrives changed, or ctx ends. One call at a time: CPU time
// and allocations are those of the process.
func Run(ctx context.Context, kind, load string, size int, d time.Duration, calls func() (uint64, error)) (Result, error) {
	r := Result{Kind: kind, Load: load, Size: size, Counted: calls != nil}
	run, ok := map[string]func(*session, *Result, time.Duration) error{"bulk": bulk, "rr": rr}[load]
	if !ok {
		return r, fmt.Errorf("inmemory: load %q: one of %v", load, Loads)
	}
	if r.Size == 0 {
		r.Size = map[string]int{"bulk": 64 << 10, "rr": 64}[load]
	}
	if r.Size < minSize || r.Size > maxSize {
		return r, fmt.Errorf("inmemory: size %d bytes: from %d to %d", size, minSize, maxSize)
	}
	if d <= 0 {
		return r, fmt.Errorf("inmemory: duration %v: more than 0", d)
	}
	l, err := newLink(kind)
	if err != nil {
		return r, err
	}
	counted := func(s *session, r *Result, d time.Duration) error {
		s.calls = calls
		return run(s, r, d)
	}
	err = runOver(ctx, l, counted, &r, d)
	if cerr := l.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return r, fmt.Errorf("inmemory: %s %s: %w", kind, load, err)
	}
	return r, nil
}

// A link is two stacks that are joined.
type link interface {
	// Pair returns both ends of a new connection.
	Pair(ctx context.Context) (client, server conn, err error)
	// Frames counts those that crossed, both directions together.
	Frames() uint64
	Close() error
}

// A conn can be half closed.
type conn interface {
	net.Conn
	CloseWrite() error
}

func newLink(kind string) (link, error) {
	if _, ok := polls[kind]; ok {
		return newOurs(kind)
	}
	if o, ok := theirKinds[kind]; ok {
		return newTheirs(o)
	}
	return nil, fmt.Errorf("inmemory: kind %q: one of %v", kind, Kinds)
}

func runOver(ctx context.Context, l link, run func(*session, *Result, time.Duration) error, r *Result, d time.Duration) error {
	client, server, err := l.Pair(ctx)
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // Accept was broken off by it
	}
	if err != nil {
		return err
	}
	// Whoever reads or writes hears of the end.
	end := func() { client.Close(); server.Close() }
	stop := context.AfterFunc(ctx, end)
	defer stop()
	defer end()
	err = run(&session{ctx: ctx, link: l, client: client, server: server}, r, d)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
