package stat

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

func TestQuantile(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{[]float64{3}, 0.5, 3},
		{[]float64{4, 1, 3}, 0.5, 3},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{4, 1, 3, 2}, 0, 1},
		{[]float64{4, 1, 3, 2}, 1, 4},
		{[]float64{0, 10}, 0.9, 9},
	} {
		before := slices.Clone(tc.values)
		if got := Quantile(tc.values, tc.q); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("quantile %v of %v is %v, want %v", tc.q, tc.values, got, tc.want)
		}
		if !slices.Equal(before, tc.values) {
			t.Errorf("%v was changed to %v", before, tc.values)
		}
	}
	if got := Median(nil); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %v", got)
	}
}

// TestEstimatedCovers draws rounds from a known distribution, many times: the
// interval has to hold the true median as often as it says, or more, by what so many
// trials can tell.
func TestEstimatedCovers(t *testing.T) {
	const trials, truth = 1000, 100.0
	random := rand.New(rand.NewPCG(1, 2))
	for _, rounds := range []int{minRounds, 7, 10, 11, 15, 40} {
		hits := 0
		for range trials {
			v := make([]float64, rounds)
			for i := range v {
				v[i] = truth + 10*random.NormFloat64()
			}
			e := Estimated(v)
			if e.Low > e.Value || e.High < e.Value || e.Rounds != rounds {
				t.Fatalf("got %+v", e)
			}
			if e.Low <= truth && truth <= e.High {
				hits++
			}
		}
		if share := float64(hits) / trials; share < confidence-0.02 || share > 0.999 {
			t.Errorf("the interval of %d rounds holds the truth in %.1f%% of %d trials", rounds, 100*share, trials)
		}
	}
}

// TestOutside has ranks that tables of the binomial distribution give.
func TestOutside(t *testing.T) {
	for n, want := range map[int]int{6: 0, 8: 0, 9: 1, 10: 1, 11: 1, 12: 2, 20: 5, 2000: 955} {
		if got := outside(n); got != want {
			t.Errorf("%d of %d, want %d", got, n, want)
		}
	}
}

func TestBootstrapIsReproducible(t *testing.T) {
	v := []float64{1, 5, 2, 8, 3, 9, 4}
	mean := func(drawn []int) (sum float64) {
		for _, r := range drawn {
			sum += v[r] / float64(len(drawn))
		}
		return sum
	}
	a, b := Bootstrap(len(v), mean, 100), Bootstrap(len(v), mean, 100)
	if a != b || a.Low >= a.Value || a.High <= a.Value {
		t.Errorf("got %+v, then %+v", a, b)
	}
}

func TestEstimatedFewRounds(t *testing.T) {
	for _, v := range [][]float64{{7}, {9, 7, 9}, {9, 9, 7, 9, 9}} {
		if e := Estimated(v); e.HasInterval() || e.Low != e.Value || e.High != e.Value {
			t.Errorf("%v: got %+v", v, e)
		}
	}
	if e := Estimated([]float64{2, 2, 2, 2, 2, 2}); !e.HasInterval() || e.Low != 2 || e.High != 2 {
		t.Errorf("got %+v", e)
	}
	if e := Estimated(nil); !math.IsNaN(e.Value) {
		t.Errorf("got %+v", e)
	}
}

// TestTails compares with the library's own merge.
func TestTails(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	merged := hdr.New(1, 1e10, 3)
	var rounds []*hdr.Histogram
	all := []int{}
	for i := range 5 {
		h := hdr.New(1, 1e10, 3)
		for range 2000 {
			if err := h.RecordValue(1000 + int64(random.ExpFloat64()*50000)); err != nil {
				t.Fatal(err)
			}
		}
		merged.Merge(h)
		rounds, all = append(rounds, h), append(all, i)
	}
	tails := NewTails(append(rounds, nil))
	if tails.Samples() != merged.TotalCount() {
		t.Errorf("%d samples, want %d", tails.Samples(), merged.TotalCount())
	}
	for _, q := range []float64{0.001, 0.5, 0.9, 0.999, 1} {
		got, want := tails.Quantile(all, q), float64(merged.ValueAtQuantile(q*100))
		if math.Abs(got-want) > want*0.002 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	// A round twice weighs twice: the median of one round is that of its double.
	if a, b := tails.Quantile([]int{2}, 0.5), tails.Quantile([]int{2, 2}, 0.5); a != b {
		t.Errorf("%v, doubled %v", a, b)
	}
	if got := tails.Quantile([]int{5}, 0.5); !math.IsNaN(got) {
		t.Errorf("a round without latencies has the median %v", got)
	}
}
