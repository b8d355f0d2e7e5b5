package summary

import (
	"math"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/afxnet/afxnet/bench/internal/measure"
	"github.com/afxnet/afxnet/bench/internal/plan"
)

func sample(peer string, round int, metrics map[string]float64) Sample {
	return Sample{Workload: "rr", Params: plan.Params{"size": 64}, Peer: peer, Round: round, Metrics: metrics}
}

// TestRatioWithinRounds has a machine that slows down from round to round: the
// ratio is the same in each, and its interval has no width.
func TestRatioWithinRounds(t *testing.T) {
	var all []Sample
	for round := 0; round <= 7; round++ {
		drift := float64(int(1) << round)
		if round == 0 {
			drift = 1e6 // the discarded round must not show
		}
		all = append(all,
			sample("afxnet", round, map[string]float64{"p50_us": 5 * drift}),
			sample("kernel", round, map[string]float64{"p50_us": 10 * drift}))
	}
	rows := Rows(all)
	if len(rows) != 2 || rows[0].Peer != "kernel" || rows[1].Peer != "afxnet" {
		t.Fatalf("got %+v", rows)
	}
	f, ok := rows[1].Figure("p50_us")
	if !ok || f.Value != 5*16 || f.Rounds != 7 || f.Unit != "us" || f.Low >= f.High {
		t.Errorf("got %+v", f)
	}
	if f.Ratio == nil || f.Ratio.Value != 0.5 || f.Ratio.Low != 0.5 || f.Ratio.High != 0.5 {
		t.Errorf("the ratio is %+v", f.Ratio)
	}
	if _, ok := rows[1].Figure("gbit_s"); ok {
		t.Error("a figure that was not measured")
	}
}

func TestWithoutKernel(t *testing.T) {
	rows := Rows([]Sample{sample("afxnet", 1, map[string]float64{"p50_us": 5})})
	if f, ok := rows[0].Figure("p50_us"); !ok || f.Ratio != nil || f.Value != 5 {
		t.Errorf("got %+v", f)
	}
	// A kernel that has another case only is none for this one.
	other := sample("kernel", 1, map[string]float64{"p50_us": 1})
	other.Params = plan.Params{"size": 1}
	for _, r := range Rows([]Sample{other, sample("afxnet", 1, map[string]float64{"p50_us": 5})}) {
		if f, _ := r.Figure("p50_us"); r.Peer == "afxnet" && f.Ratio != nil {
			t.Errorf("got %+v", f)
		}
	}
}

// TestMissingRounds has peers that failed in different rounds.
func TestMissingRounds(t *testing.T) {
	rows := Rows([]Sample{
		sample("kernel", 1, map[string]float64{"p50_us": 10}), sample("kernel", 2, map[string]float64{"p50_us": 20}),
		sample("afxnet", 2, map[string]float64{"p50_us": 10}), sample("afxnet", 3, map[string]float64{"p50_us": 90}),
	})
	if f, _ := rows[1].Figure("p50_us"); f.Ratio == nil || f.Ratio.Value != 0.5 || f.Ratio.Rounds != 1 || f.Rounds != 2 {
		t.Errorf("got %+v, ratio %+v", f, f.Ratio)
	}
}

func TestCounts(t *testing.T) {
	k, a := sample("kernel", 0, nil), sample("afxnet", 0, nil)
	k.Counts, a.Counts = map[string]float64{"syscalls_per_op": 4}, map[string]float64{"syscalls_per_op": 1}
	rows := Rows([]Sample{k, a, sample("afxnet", 1, map[string]float64{"ops_s": 1})})
	if f, ok := rows[1].Figure("syscalls_per_op"); !ok || f.Value != 1 || f.HasInterval() || f.Ratio == nil || f.Ratio.Value != 0.25 {
		t.Errorf("got %+v", f)
	}
}

func latencies(micros ...int) *hdr.Histogram {
	h := measure.NewHistogram()
	for _, us := range micros {
		measure.Record(h, time.Duration(us)*time.Microsecond)
	}
	return h
}

// TestTail takes the p99.9 of all rounds together: one slow operation in a
// thousand is in it only if the thousand is from one histogram.
func TestTail(t *testing.T) {
	var all []Sample
	for round := 1; round <= 4; round++ {
		us := make([]int, 500)
		for i := range us {
			us[i] = 10
		}
		if round == 2 {
			us[0], us[1], us[2] = 1000, 1000, 1000 // 3 of 2000
		}
		for _, peer := range []string{"kernel", "afxnet"} {
			s := sample(peer, round, make(map[string]float64))
			h := latencies(us...)
			Latency(s.Metrics, h)
			var err error
			if s.Latencies, err = h.Encode(hdr.V2CompressedEncodingCookieBase); err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
	}
	for _, r := range Rows(all) {
		f, ok := r.Figure(p999)
		if !ok || math.Abs(f.Value-1000) > 2 || r.Samples != 2000 || r.Merged.TotalCount() != 2000 {
			t.Errorf("%s: %+v of %d", r.Peer, f, r.Samples)
		}
		if f.Ratio == nil || f.Ratio.Value != 1 {
			t.Errorf("%s: ratio %+v", r.Peer, f.Ratio)
		}
		if f, _ := r.Figure(most); math.Abs(f.Value-1000) > 2 || f.HasInterval() || f.Ratio != nil {
			t.Errorf("%s: longest %+v", r.Peer, f)
		}
		if p, _ := r.Figure("p50_us"); math.Abs(p.Value-10) > 0.1 {
			t.Errorf("%s: p50 %+v", r.Peer, p)
		}
	}
}

// TestNoLatencies has rounds whose histogram is empty, or none: what is missing is left
// out, and the rest is as it was.
func TestNoLatencies(t *testing.T) {
	empty, err := latencies().Encode(hdr.V2CompressedEncodingCookieBase)
	if err != nil {
		t.Fatal(err)
	}
	var all []Sample
	for round, b := range [][]byte{nil, empty, []byte("none"), nil} { // of round 0, which does not count, too
		s := sample("afxnet", round, map[string]float64{"ops_s": 1})
		s.Latencies = b
		all = append(all, s)
	}
	rows := Rows(all)
	if _, ok := rows[0].Figure(p999); ok || rows[0].Samples != 0 || rows[0].Merged != nil || rows[0].Rounds != 3 {
		t.Errorf("got %+v", rows[0])
	}
}

func TestUnit(t *testing.T) {
	for name, want := range map[string]string{
		"p50_us": "us", "ops_s": "1/s", "cpu_ms_s": "ms/s", "syscalls_sendto_s": "1/s", "peer_tx_wakeups_s": "1/s",
		"syscalls_sendto_per_op": "1", "ops_s_ratio_to_gvisor": "1",
	} {
		if got := Unit(name); got != want {
			t.Errorf("%s is in %s, want %s", name, got, want)
		}
	}
}

func TestOrder(t *testing.T) {
	rows := Rows([]Sample{sample("kernel", 1, map[string]float64{"zebra": 1, "gbit_s": 1, "p99_us": 1, "p50_us": 1, "ape": 1})})
	var names []string
	for _, f := range rows[0].Figures {
		names = append(names, f.Metric)
	}
	want := []string{"p50_us", "p99_us", "gbit_s", "ape", "zebra"}
	for i := range want {
		if i >= len(names) || names[i] != want[i] {
			t.Fatalf("got %v, want %v", names, want)
		}
	}
}
