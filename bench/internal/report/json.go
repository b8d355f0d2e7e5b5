package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"

	"github.com/afxnet/afxnet/bench/internal/plan"
	"github.com/afxnet/afxnet/bench/internal/stat"
	"github.com/afxnet/afxnet/bench/internal/summary"
)

// line is one figure in the JSON form.
type line struct {
	Workload string      `json:"workload"`
	Peer     string      `json:"peer"`
	Params   plan.Params `json:"params"`
	Metric   string      `json:"metric"`
	Value    float64     `json:"value"`
	Unit     string      `json:"unit"`
	Ratio    *float64    `json:"ratio_to_kernel"`
}

// JSON writes the environment as one line, then a line for each figure. The ends
// of a figure's 95% interval are lines of their own, with _ci_low and _ci_high
// behind the metric's name: value is the figure's, ratio_to_kernel the ratio's.
// Without an interval of its own a ratio is null there. The number of latencies in
// all rounds is the metric samples, that of the rounds is rounds.
func JSON(w io.Writer, env Environment, rows []summary.Row) error {
	out := json.NewEncoder(w)
	if err := out.Encode(env); err != nil {
		return fmt.Errorf("report: environment: %w", err)
	}
	for _, r := range rows {
		for _, l := range lines(r) {
			if math.IsNaN(l.Value) || math.IsInf(l.Value, 0) {
				continue // JSON has no form for it, and it says nothing
			}
			if err := out.Encode(l); err != nil {
				return fmt.Errorf("report: %s %s %s: %w", r.Workload, r.Peer, l.Metric, err)
			}
		}
	}
	return nil
}

func lines(r summary.Row) (all []line) {
	l := line{Workload: r.Workload, Peer: r.Peer, Params: r.Params}
	for _, f := range r.Figures {
		l.Unit = f.Unit
		l.Metric, l.Value, l.Ratio = f.Metric, f.Value, pick(f.Ratio, func(e stat.Estimate) float64 { return e.Value })
		all = append(all, l)
		if !f.HasInterval() {
			continue
		}
		if f.Ratio != nil && !f.Ratio.HasInterval() {
			f.Ratio = nil // too few rounds have both
		}
		l.Metric, l.Value, l.Ratio = f.Metric+"_ci_low", f.Low, pick(f.Ratio, func(e stat.Estimate) float64 { return e.Low })
		all = append(all, l)
		l.Metric, l.Value, l.Ratio = f.Metric+"_ci_high", f.High, pick(f.Ratio, func(e stat.Estimate) float64 { return e.High })
		all = append(all, l)
	}
	if r.Samples > 0 {
		l.Metric, l.Value, l.Unit, l.Ratio = "samples", float64(r.Samples), "1", nil
		all = append(all, l)
	}
	l.Metric, l.Value, l.Unit, l.Ratio = "rounds", float64(r.Rounds), "1", nil
	return append(all, l)
}

// pick returns a part of an estimate that is there and finite.
func pick(e *stat.Estimate, part func(stat.Estimate) float64) *float64 {
	if e == nil {
		return nil
	}
	v := part(*e)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
