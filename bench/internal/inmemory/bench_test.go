package inmemory

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkWire runs each kind with each load, for profiles. The bench proper
// interleaves the kinds.
func BenchmarkWire(b *testing.B) {
	for _, load := range Loads {
		for _, kind := range Kinds {
			b.Run(load+"/"+kind, func(b *testing.B) { measure(b, kind, load, func() (link, error) { return newLink(kind) }) })
		}
	}
}

// BenchmarkOptions compares the choices for gVisor's stacks: the reason for
// the values of theirKinds.
func BenchmarkOptions(b *testing.B) {
	for _, load := range Loads {
		for _, queue := range []int{512, 4096, 32768} {
			for _, gso := range []bool{false, true} {
				for _, gro := range []bool{false, true} {
					o := theirOptions{queue: queue, gso: gso, gro: gro}
					b.Run(fmt.Sprintf("%s/queue=%d/gso=%v/gro=%v", load, queue, gso, gro), func(b *testing.B) {
						measure(b, "gvisor", load, func() (link, error) { return newTheirs(o) })
					})
				}
			}
		}
	}
}

// measure makes one run per iteration and reports the last one's metrics.
func measure(b *testing.B, kind, load string, open func() (link, error)) {
	r := Result{Kind: kind, Load: load, Size: map[string]int{"bulk": 64 << 10, "rr": 64}[load]}
	for b.Loop() {
		l, err := open()
		if err != nil {
			skipUnsupported(b, err)
			b.Fatal(err)
		}
		run := map[string]func(*session, *Result, time.Duration) error{"bulk": bulk, "rr": rr}[load]
		if err := runOver(b.Context(), l, run, &r, 1e9); err != nil {
			b.Error(err)
		}
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, m := range r.Metrics() {
		b.ReportMetric(m.Value, m.Name)
	}
}
