// Package summary turns the samples of all rounds into figures: medians over
// rounds, ratios to the kernel within each round, and 95% intervals of both. See
// package stat for the method.
package summary

import (
	"slices"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/plan"
	"github.com/afxnet/afxnet/bench/internal/stat"
)

// A Sample is one case of one peer in one round.
type Sample struct {
	Workload string
	Params   plan.Params
	Peer     string
	Round    int // from 1; 0 is the one that is discarded but for its Counts

	Metrics map[string]float64
	Counts  map[string]float64 // system calls, counted in round 0 only

	// Latencies is an encoded HDR histogram in nanoseconds, of a few KB where a
	// decoded one has 221; nil for bulk.
	Latencies []byte
}

// A Figure is one metric of one case and peer.
type Figure struct {
	Metric string
	Unit   string
	stat.Estimate
	Ratio *stat.Estimate // to the kernel's; nil without one
}

// A Row has the figures of one peer in one case.
type Row struct {
	Workload string
	Params   plan.Params
	Peer     string
	Figures  []Figure       // in the order of the metrics
	Rounds   int            // in which the case was measured
	Samples  int64          // latencies in all rounds
	Merged   *hdr.Histogram // all of them; nil without
}

// Figure returns the figure of a metric.
func (r Row) Figure(metric string) (Figure, bool) {
	i := slices.IndexFunc(r.Figures, func(f Figure) bool { return f.Metric == metric })
	if i < 0 {
		return Figure{}, false
	}
	return r.Figures[i], true
}

// series is one case of one peer in all rounds.
type series struct {
	row     Row
	rounds  map[int]Sample
	counted map[string]float64
	decoded map[int]*hdr.Histogram // by round, where there are latencies; while its case is summarised
}

// Rows summarises samples. Rows come in the order of the cases' first samples,
// peers in the order of package peers.
func Rows(samples []Sample) []Row {
	var (
		order []string // cases
		all   = make(map[string]map[string]*series)
	)
	for _, s := range samples {
		id := s.Workload + " " + s.Params.String()
		if all[id] == nil {
			all[id] = make(map[string]*series)
			order = append(order, id)
		}
		v := all[id][s.Peer]
		if v == nil {
			v = &series{row: Row{Workload: s.Workload, Params: s.Params, Peer: s.Peer}, rounds: make(map[int]Sample)}
			all[id][s.Peer] = v
		}
		if s.Counts != nil {
			v.counted = s.Counts
		}
		if s.Round > 0 {
			v.rounds[s.Round] = s
		}
	}
	var rows []Row
	for _, id := range order {
		for _, v := range all[id] {
			v.decode()
		}
		kernel := all[id][peers.Kernel]
		for _, name := range inOrder(all[id]) {
			r := all[id][name].summarise(kernel)
			r.Figures = append(r.Figures, all[id][name].shares(all[id])...)
			slices.SortFunc(r.Figures, func(a, b Figure) int { return byMetric(a.Metric, b.Metric) })
			rows = append(rows, r)
		}
		delete(all, id) // with the histograms, which would fill the memory if all were kept
	}
	return rows
}

// decode decodes the latencies. What cannot be decoded, which load.Result.Histogram has
// refused before, is not there.
func (v *series) decode() {
	v.decoded = make(map[int]*hdr.Histogram)
	for round, s := range v.rounds {
		if s.Latencies == nil {
			continue
		}
		if h, err := hdr.Decode(s.Latencies); err == nil && h.TotalCount() != 0 {
			v.decoded[round] = h
		}
	}
}

// inOrder returns the names in a case as package peers has them, and then those
// that it does not have by the alphabet.
func inOrder(of map[string]*series) (names []string) {
	for _, name := range peers.Names() {
		if of[name] != nil {
			names = append(names, name)
		}
	}
	known := len(names)
	for name := range of {
		if !slices.Contains(names[:known], name) {
			names = append(names, name)
		}
	}
	slices.Sort(names[known:])
	return names
}

// summarise computes the figures, with ratios to another series, which may be
// nil.
func (v *series) summarise(kernel *series) Row {
	r := v.row
	r.Rounds = len(v.rounds)
	names := make(map[string]bool)
	for _, s := range v.rounds {
		for name := range s.Metrics {
			names[name] = true
		}
	}
	for name := range names {
		if name != p999 {
			r.Figures = append(r.Figures, v.figure(name, kernel))
		}
	}
	for name, n := range v.counted {
		f := Figure{Metric: name, Unit: Unit(name), Estimate: single(n)}
		if kernel != nil {
			if k, ok := kernel.counted[name]; ok && k != 0 {
				ratio := single(n / k)
				f.Ratio = &ratio
			}
		}
		r.Figures = append(r.Figures, f)
	}
	v.tail(&r, kernel)
	return r
}

// single is what was measured once.
func single(v float64) stat.Estimate { return stat.Estimate{Value: v, Low: v, High: v, Rounds: 1} }

// figure is the median of one metric over the rounds.
func (v *series) figure(name string, kernel *series) Figure {
	var values []float64
	for _, round := range v.order() {
		if x, ok := v.rounds[round].Metrics[name]; ok {
			values = append(values, x)
		}
	}
	f := Figure{Metric: name, Unit: Unit(name), Estimate: stat.Estimated(values)}
	if kernel == nil {
		return f
	}
	if ratios := v.ratios(name, kernel, v.order()); len(ratios) > 0 {
		e := stat.Estimated(ratios)
		f.Ratio = &e
	}
	return f
}

// tailDraws is fewer than for gaps: each draw merges histograms, and the tail's
// interval is wide.
const tailDraws = 300

// tail adds what comes from the latencies of all rounds together.
func (v *series) tail(r *Row, kernel *series) {
	rounds := v.order()
	rounds = slices.DeleteFunc(rounds, func(round int) bool { return v.decoded[round] == nil })
	mine := v.latencies(rounds)
	t := stat.NewTails(mine)
	r.Samples = t.Samples()
	if r.Samples == 0 {
		return
	}
	for _, h := range mine {
		if r.Merged == nil {
			r.Merged = h.Clone()
		} else {
			r.Merged.Merge(h)
		}
	}
	r.Figures = append(r.Figures, Figure{Metric: most, Unit: Unit(most), Estimate: single(float64(r.Merged.Max()) / 1e3)})
	q := func(drawn []int) float64 { return t.Quantile(drawn, 0.999) / 1e3 }
	f := Figure{Metric: p999, Unit: Unit(p999), Estimate: stat.Bootstrap(len(rounds), q, tailDraws)}
	if kernel != nil {
		both := slices.DeleteFunc(slices.Clone(rounds), func(round int) bool { return kernel.decoded[round] == nil })
		if len(both) > 0 {
			t, k := stat.NewTails(v.latencies(both)), stat.NewTails(kernel.latencies(both))
			e := stat.Bootstrap(len(both), func(drawn []int) float64 {
				return t.Quantile(drawn, 0.999) / k.Quantile(drawn, 0.999)
			}, tailDraws)
			f.Ratio = &e
		}
	}
	r.Figures = append(r.Figures, f)
}

func (v *series) latencies(rounds []int) []*hdr.Histogram {
	all := make([]*hdr.Histogram, len(rounds))
	for i, round := range rounds {
		all[i] = v.decoded[round]
	}
	return all
}

// order returns the numbers of the rounds, ascending.
func (v *series) order() []int {
	rounds := make([]int, 0, len(v.rounds))
	for r := range v.rounds {
		rounds = append(rounds, r)
	}
	slices.Sort(rounds)
	return rounds
}

// Latency adds the metrics of a histogram in nanoseconds to m.
func Latency(m map[string]float64, h *hdr.Histogram) {
	if h == nil || h.TotalCount() == 0 {
		return
	}
	for _, q := range quantiles {
		m[q.name] = float64(h.ValueAtQuantile(q.q*100)) / 1e3
	}
}
