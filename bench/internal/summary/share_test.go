package summary

import (
	"math"
	"testing"
)

// TestShares has a machine that slows down from round to round, and a kernel that
// is as fast as the floor in one of them.
func TestShares(t *testing.T) {
	var all []Sample
	for round := 0; round <= 5; round++ {
		drift := float64(int(1) << round)
		floor := 6.0
		if round == 2 {
			floor = 10
		}
		for peer, v := range map[string]float64{"kernel": 10, "floor": floor, "afxnet": 7} {
			all = append(all, sample(peer, round, map[string]float64{"p50_us": v * drift}))
		}
		for peer, v := range map[string]float64{"kernel": 40, "raw": 10, "afxnet": 9} {
			s := sample(peer, round, map[string]float64{"gbit_s": v / drift})
			s.Workload = "stream"
			all = append(all, s)
		}
	}
	for _, r := range Rows(all) {
		for metric, want := range map[string]map[string]float64{
			"gbit_s_ratio_to_raw": {"stream kernel": 4, "stream raw": 1, "stream afxnet": 0.9},
			"p50_us_gap_closed":   {"rr kernel": 0, "rr floor": 1, "rr afxnet": 0.75},
			"ops_s_gap_closed":    nil,
		} {
			f, ok := r.Figure(metric)
			value, has := want[r.Workload+" "+r.Peer]
			if ok != has || math.Abs(f.Value-value) > 1e-9 || ok && (f.Rounds != 5 || f.Unit != "1" || f.Ratio != nil) {
				t.Errorf("%s %s: %s is %+v (%v), want %v (%v)", r.Workload, r.Peer, metric, f, ok, value, has)
			}
		}
	}
}

// TestNoGap leaves out what says nothing.
func TestNoGap(t *testing.T) {
	var all []Sample
	for _, peer := range []string{"kernel", "floor", "afxnet"} {
		s := sample(peer, 1, map[string]float64{"p50_us": 5})
		all = append(all, s) // the floor is no faster than the kernel
		s.Workload, s.Params = "many", map[string]any{"loop": "open"}
		s.Metrics = map[string]float64{"p50_us": float64(len(peer))}
		all = append(all, s)
	}
	for _, r := range Rows(all) {
		if f, ok := r.Figure("p50_us_gap_closed"); ok {
			t.Errorf("%s %s: got %+v", r.Workload, r.Peer, f)
		}
	}
}

// TestWorth compares peers that lack a mechanism with the one that has all.
func TestWorth(t *testing.T) {
	var all []Sample
	for round := 1; round <= 6; round++ {
		for peer, v := range map[string]float64{"kernel": 10, "inline": 8, "afxnet": 12, "no-gro": 4} {
			all = append(all, sample(peer, round, map[string]float64{"p50_us": v * float64(round)}))
		}
	}
	want := map[string]float64{"afxnet": 1.5, "no-gro": 0.5}
	for _, r := range Rows(all) {
		f, ok := r.Figure("p50_us_ratio_to_inline")
		if value, has := want[r.Peer]; ok != has || f.Value != value || ok && !f.HasInterval() {
			t.Errorf("%s: got %+v (%v), want %v", r.Peer, f, ok, value)
		}
	}
}
