// Package stat computes what the tables show: medians over rounds, and their 95%
// intervals.
//
// The interval of a median goes from one round's value to another's, of ranks between
// which the true median lies in 95% of all cases or more, whatever the rounds are drawn
// from. A ratio is computed within each round first, so that what makes a whole round
// slow, such as the machine's own drift, cancels out.
//
// What is no median of one value per round has the percentile bootstrap: rounds are
// drawn with replacement, as many as there are, the figure of each draw is taken, and
// the middle 95% of these are the interval. The draws come from a fixed seed: the same
// rounds give the same interval. With some ten rounds it holds the truth less often
// than it says, a median in 90% of all cases.
package stat

import (
	"math"
	"math/rand/v2"
	"slices"
)

// confidence is how often an interval holds the truth, or what a bootstrap takes for it.
const confidence = 0.95

// Median returns the median of values, which it does not change; NaN of none.
func Median(values []float64) float64 {
	return Quantile(values, 0.5)
}

// Quantile returns the value below which a share q, from 0 to 1, of the values
// lies, interpolated between neighbours; NaN of none.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Clone(values)
	slices.Sort(s)
	return quantileSorted(s, q)
}

func quantileSorted(s []float64, q float64) float64 {
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 >= len(s) {
		return s[len(s)-1]
	}
	part := at - float64(i)
	return s[i]*(1-part) + s[i+1]*part
}

// An Estimate is a median over rounds with its interval.
type Estimate struct {
	Value     float64
	Low, High float64 // the 95% interval; both are Value with fewer than 6 rounds
	Rounds    int
}

// HasInterval tells whether there were rounds enough for an interval.
func (e Estimate) HasInterval() bool { return e.Rounds >= minRounds }

// minRounds is the least of which an interval of 95% can be: of 5, not even that from
// the least to the most holds the true median more often than in 1-2/2^5, 94%.
const minRounds = 6

// Estimated returns the median of one value per round, with its interval.
func Estimated(rounds []float64) Estimate {
	v := slices.Sorted(slices.Values(rounds))
	e := Estimate{Value: Median(v), Rounds: len(v)}
	e.Low, e.High = e.Value, e.Value
	if e.HasInterval() {
		k := outside(len(v))
		e.Low, e.High = v[k], v[len(v)-1-k]
	}
	return e
}

// outside returns how many of n values, at least minRounds, lie below the interval of
// their median, and as many above. The true median has k of them or fewer below itself
// as seldom as a coin that is tossed n times shows heads k times or fewer.
func outside(n int) (k int) {
	tail := 0.0
	for heads := range n {
		tail += math.Exp(logFactorial(n) - logFactorial(heads) - logFactorial(n-heads) - float64(n)*math.Ln2)
		if tail > (1-confidence)/2 {
			break
		}
		k = heads
	}
	return k
}

func logFactorial(n int) float64 {
	v, _ := math.Lgamma(float64(n) + 1)
	return v
}

// Bootstrap returns what f makes of all n rounds, with the interval of what it
// makes of resampled ones. f is given the numbers of the rounds drawn.
func Bootstrap(n int, f func(drawn []int) float64, draws int) Estimate {
	drawn := make([]int, n)
	for i := range drawn {
		drawn[i] = i
	}
	e := Estimate{Value: f(drawn), Rounds: n}
	e.Low, e.High = e.Value, e.Value
	if n < minRounds {
		return e
	}
	random := rand.New(rand.NewPCG(uint64(n), 0x6265_6e63_6800_0001))
	got := make([]float64, draws)
	for k := range got {
		for i := range drawn {
			drawn[i] = random.IntN(n)
		}
		got[k] = f(drawn)
	}
	slices.Sort(got)
	e.Low = quantileSorted(got, (1-confidence)/2)
	e.High = quantileSorted(got, (1+confidence)/2)
	return e
}
