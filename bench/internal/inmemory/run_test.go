package inmemory

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"testing"
	"time"
)

// short is how long a run of a test is measured.
const short = 20 * time.Millisecond

// skipUnsupported skips what only a proper program can have: a test binary does
// not tell the versions of its modules, which stack/inline wants to know.
func skipUnsupported(tb testing.TB, err error) {
	tb.Helper()
	if errors.Is(err, errors.ErrUnsupported) {
		tb.Skip(err)
	}
}

// TestRun runs every kind with every load and odd sizes: the data is compared
// on the way.
func TestRun(t *testing.T) {
	for _, kind := range Kinds {
		for _, load := range Loads {
			for _, size := range []int{0, 1, 1461, 70001} {
				t.Run(fmt.Sprintf("%s/%s/%d", kind, load, size), func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					// A busy machine may give a short run nothing to measure.
					var r Result
					for d := short; r.Metrics() == nil; d *= 2 {
						var err error
						if r, err = Run(ctx, kind, load, size, d, nil); err != nil {
							skipUnsupported(t, err)
							t.Fatal(err)
						}
						if r.Elapsed < d {
							t.Errorf("a run of %v: %+v", d, r)
						}
					}
					if r.Kind != kind || r.Load != load || size != 0 && r.Size != size || len(r.Metrics()) != 4 {
						t.Errorf("result %+v, metrics %v", r, r.Metrics())
					}
				})
			}
		}
	}
}

func TestRunRefuses(t *testing.T) {
	for _, tc := range []struct {
		kind, load string
		size       int
		d          time.Duration
		want       string
	}{
		{"linux", "rr", 1, short, "kind"},
		{"gvisor", "crr", 1, short, "load"},
		{"gvisor", "rr", -1, short, "size"},
		{"gvisor", "rr", maxSize + 1, short, "size"},
		{"gvisor", "rr", 1, 0, "duration"},
	} {
		if _, err := Run(t.Context(), tc.kind, tc.load, tc.size, tc.d, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Run(%+v): %v, want an error about %s", tc, err, tc.want)
		}
	}
}

// TestRunCanceled ends runs that would take an hour.
func TestRunCanceled(t *testing.T) {
	for _, kind := range []string{"afxnet", "gvisor"} {
		for _, load := range Loads {
			ctx, cancel := context.WithTimeout(t.Context(), short)
			_, err := Run(ctx, kind, load, 0, time.Hour, nil)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s %s: %v", kind, load, err)
			}
		}
	}
}

// lateLink ends ctx while it accepts.
type lateLink struct {
	link
	end func()
}

func (l lateLink) Pair(context.Context) (client, server conn, err error) {
	l.end()
	return nil, nil, net.ErrClosed
}

// TestRunCanceledInAccept tells the end of the context from what it breaks off.
func TestRunCanceledInAccept(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if err := runOver(ctx, lateLink{end: cancel}, nil, nil, time.Hour); err != context.Canceled {
		t.Error(err)
	}
	if err := runOver(t.Context(), lateLink{end: func() {}}, nil, nil, time.Hour); err != net.ErrClosed {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	base := Result{Load: "bulk", Elapsed: time.Second, CPU: 2 * time.Second, Bytes: 1e9, Frames: 1e6, Mallocs: 1e6}
	r := base
	r.Bytes, r.CPU, r.Mallocs = 4e9, time.Second, 0
	want := []Metric{{"gbit_s", 32, "Gbit/s"}, {"cpu_ns_per_byte", 0.25, "ns"}, {"bytes_per_frame", 4000, "B"}, {"allocs_per_frame", 0, "allocs"}}
	for i, m := range r.Metrics() {
		if m != want[i] {
			t.Errorf("metric %+v, want %+v", m, want[i])
		}
	}
	if got := r.Ratios(base); got["gbit_s"] != 4 || got["cpu_ns_per_byte"] != 0.125 || got["allocs_per_frame"] != 0 {
		t.Errorf("ratios %v", got)
	}
	if got := base.Ratios(r); len(got) != 3 {
		t.Errorf("ratios to a base without allocations: %v", got)
	}
	ops := Result{Load: "rr", Elapsed: 2 * time.Second, CPU: time.Second, Ops: 1e6, Frames: 2e6, Mallocs: 5e6}
	for i, want := range []float64{5e5, 1, 5, 2} {
		if got := ops.Metrics()[i].Value; math.Abs(got-want) > 1e-9 {
			t.Errorf("%s is %v, want %v", ops.Metrics()[i].Name, got, want)
		}
	}
	if (Result{Load: "rr"}).Metrics() != nil {
		t.Error("metrics of nothing")
	}
}

// TestRunCounted counts the system calls of the time that is measured.
func TestRunCounted(t *testing.T) {
	var made uint64
	calls := func() (uint64, error) { made += 1000; return made, nil }
	if r, err := Run(t.Context(), "gvisor", "rr", 0, short, calls); err != nil || !r.Counted || r.Calls != 1000 {
		t.Errorf("got %+v, %v", r, err)
	}
	broken := func() (uint64, error) { return 0, errors.New("on purpose") }
	if _, err := Run(t.Context(), "gvisor", "rr", 0, short, broken); err == nil || !strings.Contains(err.Error(), "on purpose") {
		t.Errorf("got %v", err)
	}
	for name, r := range map[string]Result{
		"syscalls_per_op":    {Load: "rr", Elapsed: time.Second, Ops: 500, Calls: 1000, Counted: true},
		"syscalls_per_frame": {Load: "bulk", Elapsed: time.Second, Bytes: 1, Frames: 500, Calls: 1000, Counted: true},
	} {
		m := r.Metrics()
		if len(m) != 5 || m[4].Name != name || m[4].Value != 2 {
			t.Errorf("%s: got %v", name, m)
		}
	}
}

func TestPattern(t *testing.T) {
	const offset = period - 10
	b := append([]byte(nil), patternAt(offset, 1000)...)
	if bad := firstDifference(b, offset+3*period); bad != -1 {
		t.Errorf("the pattern differs at %d a period later", bad)
	}
	if bad := firstDifference(b, offset+1); bad < 0 {
		t.Error("a pattern that moved by a byte is not seen")
	}
	for _, i := range []int{0, 9, 10, 999} {
		b[i] ^= 0x40
		if bad := firstDifference(b, offset); bad != i {
			t.Errorf("a change at %d is found at %d", i, bad)
		}
		b[i] ^= 0x40
	}
	if n := len(patternAt(period-1, maxSize)); n != maxSize {
		t.Errorf("%d bytes", n)
	}
}
