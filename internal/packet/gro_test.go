package packet

import (
	"fmt"
	"slices"
	"testing"
)

func TestGROMergesBulk(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, size := range []int{1, 99, 100, 1448} {
			for _, idStep := range []uint16{0, 1} {
				t.Run(fmt.Sprintf("v6=%v/size=%d/id=%d", v6, size, idStep), func(t *testing.T) {
					r := newRand(t)
					s := baseSeg(v6)
					s.seq = -uint32(5 * size) // wraps
					s.id = 65530
					var frames [][]byte
					for i := range 40 {
						s.payload = randBytes(r, size)
						s.pad = i % 3
						if i == 39 {
							s.payload = s.payload[:(size+1)/2]
							s.flags |= PSH
						}
						frames = append(frames, s.frame())
						s.seq += uint32(size)
						s.id += idStep
					}
					var g GRO
					infos := plan(&g, frames, 0)
					checkPlan(t, &g, frames, infos, slices.Repeat([]bool{true}, 40), func(int) int64 { return 1 })
					if n := len(g.Heads()); n != 1 {
						t.Errorf("%d groups of one flow in order", n)
					}
				})
			}
		}
	}
}

// TestGROSizeLimit: 65535 bytes of IP packet, not one more.
func TestGROSizeLimit(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := baseSeg(v6)
		s.payload = make([]byte, 1448)
		var frames [][]byte
		for range 100 {
			frames = append(frames, s.frame())
			s.seq += 1448
			s.id++
		}
		var g GRO
		infos := plan(&g, frames, 0)
		checkPlan(t, &g, frames, infos, slices.Repeat([]bool{true}, 100), func(int) int64 { return 1 })
		if got := len(g.Heads()); got != 3 { // 45 + 45 + 10
			t.Errorf("%d groups", got)
		}
		if n := g.Segments(0); n != 45 {
			t.Errorf("first group has %d segments", n)
		}
	}
}

// TestGROCrowded has one set of the table overflow: flows are forgotten, not
// mixed up.
func TestGROCrowded(t *testing.T) {
	var g GRO
	var frames [][]byte
	for round := range 4 {
		for flow := range 64 {
			s := baseSeg(false)
			s.sport = uint16(flow)
			s.seq += uint32(100 * round)
			s.id += uint16(round)
			frames = append(frames, s.frame())
		}
	}
	infos := make([]Info, len(frames))
	for _, same := range []bool{false, true} {
		g.Reset()
		for i, f := range frames {
			infos[i] = mustParse(t, f)
			if same {
				infos[i].Hash = 77 // a full collision
			} else {
				infos[i].Hash = infos[i].Hash&^(groSets-1) | 5 // one set
			}
			g.Add(i, f, &infos[i])
		}
		checkPlan(t, &g, frames, infos, slices.Repeat([]bool{true}, len(frames)),
			func(i int) int64 { return int64(infos[i].SrcPort) })
	}
	if len(g.Heads()) != len(frames) {
		t.Errorf("interleaved flows of one hash merged: %d groups", len(g.Heads()))
	}
}

// TestGROGenerations runs over the end of the slots' generation counter.
func TestGROGenerations(t *testing.T) {
	s := baseSeg(false)
	first := s.frame()
	s.seq += 100
	second := s.frame()
	a, b := mustParse(t, first), mustParse(t, second)
	var g GRO
	g.Add(0, first, &a)
	for range 1<<16 + 10 {
		g.Reset()
		if g.Add(0, second, &b) {
			t.Fatal("merged with a frame of an earlier batch")
		}
		g.Reset()
		g.Add(0, first, &a)
	}
	if !g.Add(1, second, &b) {
		t.Error("not merged")
	}
}

func TestGROAllocs(t *testing.T) {
	frames := bulk(64, 1448)
	infos := make([]Info, len(frames))
	g := new(GRO)
	header := make([]byte, 128)
	if n := testing.AllocsPerRun(100, func() {
		g.Reset()
		for i, f := range frames {
			if Parse(f, &infos[i]) != OK || Verify(f, &infos[i], 0) != OK {
				t.Fatal("bad frame")
			}
			g.Add(i, f, &infos[i])
		}
		for _, h := range g.Heads() {
			copy(header, frames[h][:infos[h].Payload])
			g.Patch(int(h), header, &infos[h])
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// bulk makes n segments of one flow in order.
func bulk(n, size int) (frames [][]byte) {
	s := baseSeg(false)
	s.payload = make([]byte, size)
	for range n {
		frames = append(frames, s.frame())
		s.seq += uint32(size)
		s.id++
	}
	return frames
}

func BenchmarkGRO(b *testing.B) {
	frames := bulk(64, 1448)
	infos := plan(new(GRO), frames, 0)
	var g GRO
	b.Run("batch=64/len=1448", func(b *testing.B) {
		b.SetBytes(64 * 1448)
		b.ReportAllocs()
		for b.Loop() {
			g.Reset()
			for i, f := range frames {
				g.Add(i, f, &infos[i])
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/frame")
	})
}
