package stat

import (
	"math"
	"slices"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Tails has the latencies of several rounds on one scale, so that a quantile of
// any of them together is one pass.
type Tails struct {
	values []int64   // ascending
	counts [][]int64 // by round, one for each value
	total  []int64   // by round
}

// NewTails takes one histogram per round; a nil one is a round without.
func NewTails(rounds []*hdr.Histogram) *Tails {
	t := &Tails{counts: make([][]int64, len(rounds)), total: make([]int64, len(rounds))}
	byRound := make([]map[int64]int64, len(rounds))
	for i, h := range rounds {
		byRound[i] = make(map[int64]int64)
		if h == nil {
			continue
		}
		for _, bar := range h.Distribution() {
			if bar.Count == 0 {
				continue
			}
			byRound[i][bar.To] += bar.Count
			t.total[i] += bar.Count
		}
	}
	for _, m := range byRound {
		for v := range m {
			t.values = append(t.values, v)
		}
	}
	slices.Sort(t.values)
	t.values = slices.Compact(t.values)
	for i, m := range byRound {
		t.counts[i] = make([]int64, len(t.values))
		for k, v := range t.values {
			t.counts[i][k] = m[v]
		}
	}
	return t
}

// Samples returns how many latencies there are.
func (t *Tails) Samples() (n int64) {
	for _, c := range t.total {
		n += c
	}
	return n
}

// Quantile returns the quantile q, from 0 to 1, of the latencies of some rounds
// together, in the histograms' unit. A round may be named more than once. NaN of
// none.
func (t *Tails) Quantile(rounds []int, q float64) float64 {
	var total int64
	for _, r := range rounds {
		total += t.total[r]
	}
	if total == 0 {
		return math.NaN()
	}
	want := max(int64(math.Ceil(q*float64(total))), 1)
	var seen int64
	for k, v := range t.values {
		for _, r := range rounds {
			seen += t.counts[r][k]
		}
		if seen >= want {
			return float64(v)
		}
	}
	return float64(t.values[len(t.values)-1])
}
