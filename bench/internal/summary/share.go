package summary

import (
	"math"

	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/stat"
)

// Metrics that compare a peer with one that is not the kernel's.
const (
	// RatioToRaw is throughput as a share of what AF_XDP carries for the same
	// client, from the ratios within each round.
	RatioToRaw = "gbit_s_ratio_to_raw"
	// gapClosed behind the name of a metric is how far a peer gets from the
	// kernel's figure, 0, to that of the responder without a stack, 1. It is
	// computed from the medians of the ratios to the kernel within each round:
	// in a single round the two may be too close to divide by.
	gapClosed = "_gap_closed"
	// ratioToFull behind the name of a metric is that of a peer which lacks a
	// mechanism to that of the one which has all: what the mechanism is worth.
	ratioToFull = "_ratio_to_" + peers.Full
)

// worth are the metrics of which ratioToFull is given.
var worth = []string{"p50_us", "p99_us", "ops_s", "gbit_s", "cpu_us_per_op", "server_cpu_us_per_op"}

// gaps are the metrics of which a closed gap is given.
var gaps = []string{"p50_us", "ops_s"}

// shares returns the figures that compare v with peers other than the kernel: the
// two without a stack, and the one with every mechanism.
func (v *series) shares(of map[string]*series) (figures []Figure) {
	if raw := of[peers.Raw]; raw != nil {
		if e := stat.Estimated(v.ratios("gbit_s", raw, v.order())); e.Rounds > 0 {
			figures = append(figures, Figure{Metric: RatioToRaw, Unit: Unit(RatioToRaw), Estimate: e})
		}
	}
	if full := of[peers.Full]; full != nil && peers.Lacks(v.row.Peer) != "" {
		for _, metric := range worth {
			if e := stat.Estimated(v.ratios(metric, full, v.order())); e.Rounds > 0 {
				figures = append(figures, Figure{Metric: metric + ratioToFull, Unit: "1", Estimate: e})
			}
		}
	}
	kernel, floor := of[peers.Kernel], of[peers.Floor]
	if kernel == nil || floor == nil || v.row.Params["loop"] == "open" {
		return figures
	}
	for _, metric := range gaps {
		if e, ok := v.gap(metric, kernel, floor); ok {
			figures = append(figures, Figure{Metric: metric + gapClosed, Unit: "1", Estimate: e})
		}
	}
	return figures
}

// ratios returns the ratios of a metric to another series in these rounds, for
// those that both have it in.
func (v *series) ratios(metric string, to *series, rounds []int) (ratios []float64) {
	for _, round := range rounds {
		x, ok := v.rounds[round].Metrics[metric]
		if y, has := to.rounds[round].Metrics[metric]; ok && has && y != 0 {
			ratios = append(ratios, x/y)
		}
	}
	return ratios
}

// gap is the part of the way from kernel to floor.
func (v *series) gap(metric string, kernel, floor *series) (stat.Estimate, bool) {
	var rounds []int
	for _, round := range v.order() {
		one := []int{round}
		if len(v.ratios(metric, kernel, one)) != 0 && len(floor.ratios(metric, kernel, one)) != 0 {
			rounds = append(rounds, round)
		}
	}
	if len(rounds) == 0 {
		return stat.Estimate{}, false
	}
	mine, best := v.ratios(metric, kernel, rounds), floor.ratios(metric, kernel, rounds)
	e := stat.Bootstrap(len(rounds), func(drawn []int) float64 {
		x, f := make([]float64, len(drawn)), make([]float64, len(drawn))
		for i, r := range drawn {
			x[i], f[i] = mine[r], best[r]
		}
		return (stat.Median(x) - 1) / (stat.Median(f) - 1)
	}, gapDraws)
	if math.IsNaN(e.Value) || math.IsInf(e.Value, 0) {
		return e, false
	}
	return e, true
}

// gapDraws is how many resamples an interval is made of: enough that its ends move by
// less than the figures that are shown.
const gapDraws = 1000
