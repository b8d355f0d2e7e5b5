package measure

import (
	"sync"
	"testing"
	"time"
)

func TestParseLink(t *testing.T) {
	const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      200       2    0    0    0     0       0          0
  afx0: 1234567    8901    0    0    0     0          0         0  7654321    1098    0    0    0     0       0          0
`
	l, err := parseLink([]byte(text), "afx0")
	if want := (Link{RXFrames: 8901, TXFrames: 1098, RXBytes: 1234567, TXBytes: 7654321}); err != nil || l != want {
		t.Errorf("got %+v, %v, want %+v", l, err, want)
	}
	if _, err := parseLink([]byte(text), "afx"); err == nil {
		t.Error("a device that is not there is no error")
	}
	if _, err := parseLink([]byte("afx0: 1 2 3\n"), "afx0"); err == nil {
		t.Error("a line that is cut short is no error")
	}
}

func TestParseMachine(t *testing.T) {
	m, err := parseMachine("cpu  100 20 300 4000 50 6 70 8 0 0\ncpu0 1 2 3\n")
	want := Machine{Busy: (100 + 20 + 300 + 6 + 70) * tick, SoftIRQ: 70 * tick, Stolen: 8 * tick}
	if err != nil || m != want {
		t.Errorf("got %+v, %v, want %+v", m, err, want)
	}
	for _, text := range []string{"", "cpu 1 2\n", "intr 1 2 3 4 5 6 7 8 9\n", "cpu 1 2 3 4 5 6 x 8\n"} {
		if _, err := parseMachine(text); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
}

// TestSelf uses something between two readings and wants to see it.
func TestSelf(t *testing.T) {
	before := Self("")
	var kept [][]byte
	for range 1000 {
		kept = append(kept, make([]byte, 10<<10))
	}
	d := Self("").Sub(before)
	if d.Mallocs < 1000 || d.AllocBytes < 1000*10<<10 {
		t.Errorf("%d allocations were made, %+v was seen", len(kept), d)
	}
	if d.CPU < 0 || d.Voluntary < 0 || d.Resident > before.Resident+1<<30 {
		t.Errorf("got %+v", d)
	}
}

func TestUsageSub(t *testing.T) {
	a := Usage{CPU: 5, Resident: 10, Counters: map[string]uint64{"x": 7}, Link: Link{RXFrames: 9}}
	b := Usage{CPU: 2, Resident: 30, Counters: map[string]uint64{"x": 3}, Link: Link{RXFrames: 4}}
	if d := a.Sub(b); d.CPU != 3 || d.Resident != 0 || d.Counters["x"] != 4 || d.Link.RXFrames != 5 {
		t.Errorf("got %+v", d)
	}
}

func TestLatencies(t *testing.T) {
	l := NewLatencies(4)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 100 {
				l.Record(i, time.Duration(k+1)*time.Microsecond)
			}
		})
	}
	wg.Wait()
	l.Record(0, -time.Second) // a clock that went back
	l.Record(0, time.Hour)
	h := l.Merged()
	if h.TotalCount() != 802 {
		t.Errorf("%d latencies, want 802", h.TotalCount())
	}
	if p := h.ValueAtQuantile(50); p < 49_000 || p > 52_000 {
		t.Errorf("the median is %d ns", p)
	}
	if h.Max() < int64(maxLatency)*99/100 || h.Min() > 2 {
		t.Errorf("from %d to %d ns", h.Min(), h.Max())
	}
}
