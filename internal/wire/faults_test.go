package wire

import (
	"bytes"
	"math/bits"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/afxnet/afxnet/internal/raced"
)

// run sends n frames of size bytes through f, one every gap, and returns what
// arrived and when.
func run(t *testing.T, seed uint64, f Faults, n, size int, gap time.Duration) (got [][]byte, at []time.Duration, st DirStats) {
	t.Helper()
	raced.Bubble(t, func(t *testing.T) {
		w := newWire(t, Config{Seed: seed, Faults: [2]Faults{From0: f}})
		start := time.Now()
		w.Port(1).OnReceive(func(frame []byte) {
			got = append(got, bytes.Clone(frame))
			at = append(at, time.Since(start))
		})
		for i := range n {
			w.Port(0).Send(numbered(uint64(i), size))
			if gap > 0 {
				time.Sleep(gap)
			}
		}
		if err := w.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		st = checkStats(t, w)[From0]
		if st.Delivered+st.DeliveredCorrupt != uint64(len(got)) {
			t.Errorf("%d arrived: %+v", len(got), st)
		}
	})
	return got, at, st
}

func numbers(frames [][]byte) (n []uint64) {
	for _, f := range frames {
		n = append(n, number(f))
	}
	return n
}

// within tells whether got is within five standard deviations of n trials.
func within(got uint64, n int, p float64) bool {
	d := float64(got) - float64(n)*p
	return d*d <= 25*float64(n)*p*(1-p)
}

func TestLoss(t *testing.T) {
	const n = 20000
	_, _, st := run(t, 1, Faults{Loss: 0.1}, n, 8, 0)
	if !within(st.Lost, n, 0.1) || st.Delivered != n-st.Lost {
		t.Errorf("%+v", st)
	}
	got, _, st := run(t, 1, Faults{Loss: 0.01, LossBurst: 3}, n, 8, 0)
	bursts := uint64(0)
	prev := ^uint64(0)
	for _, i := range numbers(got) {
		if gap := i - prev - 1; gap%3 != 0 {
			t.Fatalf("%d frames lost in a row before %d", gap, i)
		} else {
			bursts += gap / 3
		}
		prev = i
	}
	if !within(bursts, n, 0.01) {
		t.Errorf("%d bursts: %+v", bursts, st)
	}
}

func TestSeed(t *testing.T) {
	f := Faults{Loss: 0.1, Duplicate: 0.1, Corrupt: 0.2, CorruptBits: 5, Jitter: time.Millisecond, Reorder: 0.1, ReorderBy: 2}
	a, atA, _ := run(t, 7, f, 500, 60, time.Microsecond)
	b, atB, _ := run(t, 7, f, 500, 60, time.Microsecond)
	c, _, _ := run(t, 8, f, 500, 60, time.Microsecond)
	if !slices.EqualFunc(a, b, bytes.Equal) || !slices.Equal(atA, atB) {
		t.Error("one seed, two results")
	}
	if slices.EqualFunc(a, c, bytes.Equal) {
		t.Error("two seeds, one result")
	}
}

func TestDuplicate(t *testing.T) {
	const n = 10000
	got, _, st := run(t, 2, Faults{Duplicate: 0.3}, n, 8, 0)
	if !within(st.Duplicated, n, 0.3) || st.Delivered != n+st.Duplicated || !slices.IsSorted(numbers(got)) {
		t.Errorf("%+v", st)
	}
}

func TestCorrupt(t *testing.T) {
	const n = 10000
	for _, width := range []int{0, 9} {
		got, _, st := run(t, 3, Faults{Corrupt: 0.25, CorruptBits: width}, n, 40, 0)
		if !within(st.DeliveredCorrupt, n, 0.25) {
			t.Errorf("%+v", st)
		}
		bad := uint64(0)
		for i, f := range got { // none is lost, so the number is the index
			flipped, first, last := 0, -1, 0
			for j, b := range numbered(uint64(i), 40) {
				if x := b ^ f[j]; x != 0 {
					flipped += bits.OnesCount8(x)
					if first < 0 {
						first = j*8 + bits.LeadingZeros8(x)
					}
					last = j*8 + 7 - bits.TrailingZeros8(x)
				}
			}
			if flipped == 0 {
				continue
			}
			bad++
			if want := max(width, 1); flipped != want || last-first+1 != want {
				t.Fatalf("frame %d: %d bits flipped from %d to %d", i, flipped, first, last)
			}
		}
		if bad != st.DeliveredCorrupt {
			t.Errorf("%d frames differ, %d were counted", bad, st.DeliveredCorrupt)
		}
	}
}

func TestFilter(t *testing.T) {
	f := Faults{Filter: func(dir Dir, frame []byte) Verdict {
		if dir == From0 && number(frame)%3 == 1 {
			return Drop
		}
		return Pass
	}}
	got, _, st := run(t, 1, f, 9, 8, 0)
	if st.Filtered != 3 || !slices.Equal(numbers(got), []uint64{0, 2, 3, 5, 6, 8}) {
		t.Errorf("%v: %+v", numbers(got), st)
	}
}

func TestDelay(t *testing.T) {
	_, at, _ := run(t, 1, Faults{Delay: 20 * time.Millisecond}, 4, 8, time.Millisecond)
	if want := []time.Duration{20e6, 21e6, 22e6, 23e6}; !slices.Equal(at, want) {
		t.Errorf("at %v, want %v", at, want)
	}
	for _, gap := range []time.Duration{time.Microsecond, 2 * time.Millisecond} {
		got, at, _ := run(t, 1, Faults{Delay: time.Millisecond, Jitter: time.Millisecond}, 1000, 8, gap)
		if !slices.IsSorted(numbers(got)) || !slices.IsSorted(at) {
			t.Error("jitter has changed the order")
		}
		early := 0
		for i, a := range at {
			d := a - time.Duration(i)*gap
			if d < time.Millisecond || d >= 2*time.Millisecond {
				t.Fatalf("frame %d took %v", i, d)
			}
			if d < 1500*time.Microsecond {
				early++
			}
		}
		if gap > time.Millisecond && !within(uint64(early), 1000, 0.5) {
			t.Errorf("%d of 1000 came early", early)
		}
	}
}

func TestRate(t *testing.T) {
	// 1000 bytes at 8 Mbit/s take 1 ms; 3500 bytes fit.
	got, at, st := run(t, 1, Faults{Rate: 8e6, QueueBytes: 3500, Delay: 5 * time.Millisecond}, 6, 1000, 0)
	if want := []time.Duration{6e6, 7e6, 8e6}; !slices.Equal(at, want) || !slices.Equal(numbers(got), []uint64{0, 1, 2}) || st.QueueFull != 3 {
		t.Errorf("%v at %v: %+v", numbers(got), at, st)
	}
	// A frame every 0.5 ms: every other one finds no room once it is full.
	got, at, st = run(t, 1, Faults{Rate: 8e6, QueueBytes: 2000}, 100, 1000, 500*time.Microsecond)
	for i, a := range at {
		if want := time.Duration(i+1) * time.Millisecond; a != want {
			t.Fatalf("frame %d at %v, want %v", i, a, want)
		}
	}
	if len(got) != 51 && len(got) != 52 || st.QueueFull != uint64(100-len(got)) {
		t.Errorf("%d arrived: %+v", len(got), st)
	}
	// A frame beyond the bound passes alone; the slowest rate does not overflow.
	if _, _, st = run(t, 1, Faults{Rate: 8e6, QueueBytes: 10}, 3, 1000, 2*time.Millisecond); st.Delivered != 3 {
		t.Errorf("%+v", st)
	}
	if span(65535, 1) != 65535*8*time.Second || span(1<<40, 1) < 0 || span(1500, 100e9) != 120 {
		t.Error("span", span(65535, 1), span(1<<40, 1), span(1500, 100e9))
	}
}

func TestReorder(t *testing.T) {
	const n = 5000
	got, at, st := run(t, 5, Faults{Reorder: 0.05, ReorderBy: 3, ReorderDelay: time.Second}, n, 8, time.Microsecond)
	if !within(st.Reordered, n, 0.05) || st.Delivered != n || !slices.IsSorted(at) {
		t.Errorf("%+v", st)
	}
	// The held ones have to be seen after exactly three that were not held.
	nums, held := numbers(got), uint64(0)
	late := map[uint64]bool{}
	high := uint64(0)
	for i, x := range nums {
		if i > 0 && x < high {
			late[x] = true
			held++
		}
		high = max(high, x)
	}
	if held != st.Reordered {
		t.Errorf("%d late, %d counted", held, st.Reordered)
	}
	for i, x := range nums {
		if !late[x] || at[i] > n*time.Microsecond {
			continue // at the end nobody passes: the delay ends it
		}
		passed := 0
		for _, y := range nums[:i] {
			if y > x && !late[y] {
				passed++
			}
		}
		if passed != 3 {
			t.Fatalf("%d was passed by %d frames", x, passed)
		}
	}
	// By time: each held one comes exactly that later.
	got, at, _ = run(t, 5, Faults{Reorder: 0.3, ReorderDelay: 5 * time.Millisecond}, 50, 8, time.Millisecond)
	for i, x := range numbers(got) {
		if d := at[i] - time.Duration(x)*time.Millisecond; d != 0 && d != 5*time.Millisecond {
			t.Errorf("frame %d came after %v", x, d)
		}
	}
	if slices.IsSorted(numbers(got)) {
		t.Error("nothing was reordered")
	}
	// The last frame of all is not held for ever.
	if _, at, _ = run(t, 5, Faults{Reorder: 1, ReorderBy: 9}, 1, 8, 0); !slices.Equal(at, []time.Duration{10 * time.Millisecond}) {
		t.Errorf("at %v", at)
	}
}

// TestFaultsChange keeps frames in order when a delay goes away.
func TestFaultsChange(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		w, s := pair(t, Config{Faults: [2]Faults{{Delay: time.Second}}}, 8)
		send := func(i uint64) {
			queue(s[0], numbered(i, 60))
			if left := s[0].TX().Flush(); left != 0 {
				t.Errorf("%d left", left)
			}
		}
		send(1)
		send(2)
		if err := w.SetFaults(From0, Faults{}); err != nil {
			t.Fatal(err)
		}
		send(3)
		if st := w.Stats()[From0]; st.InFlight != 3 {
			t.Errorf("%+v", st)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		send(4)
		if got := numbers(receive(s[1])); !slices.Equal(got, []uint64{1, 2, 3, 4}) {
			t.Errorf("got %v", got)
		}
		if f := w.Faults(From0); f.some() {
			t.Errorf("%+v", f)
		}
		audit(t, s[0])
	})
}

// TestHeldForReuse has many frames on their way at once: few are kept when they
// have arrived.
func TestHeldForReuse(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		w := newWire(t, Config{Faults: [2]Faults{From0: {Delay: time.Millisecond}}})
		for i := range 4 * mostFree {
			w.Port(0).Send(numbered(uint64(i), 1000))
		}
		if err := w.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		l := w.Port(0).out
		l.mu.Lock()
		defer l.mu.Unlock()
		held := len(l.free)
		for _, fl := range l.due[:cap(l.due)] {
			if fl != nil {
				held++
			}
		}
		if held == 0 || held > mostFree {
			t.Errorf("%d frames are held, want 1 to %d", held, mostFree)
		}
	})
}
