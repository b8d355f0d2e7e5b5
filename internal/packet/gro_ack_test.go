package packet

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// pureSeg is the i-th of pure ACKs that all say the next 100 bytes have come.
func pureSeg(v6 bool, i int) seg {
	s := baseSeg(v6)
	s.payload, s.ack, s.id = nil, s.ack+uint32(100*i), uint16(7*i)
	return s
}

// TestGROACKRules changes one thing in the second of three ACKs of which the last
// would make the others needless, and says how the three are then grouped.
func TestGROACKRules(t *testing.T) {
	all := "[[2 1 0]]"
	alone := "[[0] [1] [2]]"
	for _, c := range []struct {
		name   string
		v6     bool
		change func(s *seg)
		want   string
	}{
		{"nothing", false, func(s *seg) {}, all},
		{"nothing 6", true, func(s *seg) {}, all},
		{"padding", false, func(s *seg) { s.pad = 9 }, all},
		{"ID", false, func(s *seg) { s.id += 2 }, all},
		{"smaller window", false, func(s *seg) { s.window = 0 }, all},
		{"larger window", true, func(s *seg) { s.window++ }, all},
		{"MAC", false, func(s *seg) { s.mac = 1 }, alone},
		{"TOS", false, func(s *seg) { s.tos = 4 }, alone},
		{"ECN", true, func(s *seg) { s.tos = 3 }, alone},
		{"TTL", false, func(s *seg) { s.ttl-- }, alone},
		{"DF", false, func(s *seg) { s.frag = 0 }, alone},
		{"flow label", true, func(s *seg) { s.label = 1 }, alone},
		{"sequence number of a probe", false, func(s *seg) { s.seq-- }, alone},
		{"later sequence number", true, func(s *seg) { s.seq++ }, alone},
		{"PSH", false, func(s *seg) { s.flags |= PSH }, alone},
		{"SYN", false, func(s *seg) { s.flags |= SYN }, alone},
		{"FIN", true, func(s *seg) { s.flags |= FIN }, alone},
		{"RST", false, func(s *seg) { s.flags |= RST }, alone},
		{"URG", false, func(s *seg) { s.flags |= URG }, alone},
		{"ECE", true, func(s *seg) { s.flags |= ECE }, alone},
		{"CWR", false, func(s *seg) { s.flags |= CWR }, alone},
		{"AE", true, func(s *seg) { s.doff = 1 }, alone},
		{"urgent pointer", false, func(s *seg) { s.urgent = 1 }, alone},
		{"timestamp", false, func(s *seg) { s.opts = []byte{1, 1, 8, 10, 0, 0, 0, 3, 0, 0, 0, 2} }, alone},
		{"timestamp echo", true, func(s *seg) { s.opts = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 3} }, alone},
		{"no options", false, func(s *seg) { s.opts = nil }, alone},
		{"SACK", true, func(s *seg) { s.opts = append(slices.Clone(s.opts), 1, 1, 5, 10, 0, 0, 9, 0, 0, 0, 9, 9) }, alone},
		{"SACK alone", false, func(s *seg) { s.opts = []byte{1, 1, 5, 10, 0, 0, 9, 0, 0, 0, 9, 9} }, alone},
		{"IP options", false, func(s *seg) { s.ipOpts = []byte{1, 1, 1, 1} }, alone},
		{"extension header", true, func(s *seg) { s.ext = []byte{0, 0, 1, 4, 0, 0, 0, 0} }, alone},
		{"partial checksum", false, func(s *seg) { s.partial = true }, alone},
		{"data", true, func(s *seg) { s.payload = []byte{1} }, alone},
		{"the same number", false, func(s *seg) { s.ack -= 100 }, alone},
		{"an older number", false, func(s *seg) { s.ack -= 200 }, "[[0] [2 1]]"},
		{"a number behind the next", false, func(s *seg) { s.ack += 150 }, "[[1 0] [2]]"},
		{"the next number", true, func(s *seg) { s.ack += 100 }, "[[1 0] [2]]"},
		{"other flow", false, func(s *seg) { s.sport++ }, "[[2 0] [1]]"},
		{"other source", true, func(s *seg) { s.src++ }, "[[2 0] [1]]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var frames [][]byte
			for i := range 3 {
				s := pureSeg(c.v6, i)
				if i == 1 {
					c.change(&s)
				}
				frames = append(frames, s.frame())
			}
			var g GRO
			infos := plan(&g, frames, AcceptPartial)
			if got := fmt.Sprint(groups(&g)); got != c.want {
				t.Errorf("groups %v, want %v", got, c.want)
			}
			if n := 3 - len(g.Heads()); g.ACKs() != n {
				t.Errorf("%d needless, want %d", g.ACKs(), n)
			}
			for _, h := range g.Heads() {
				if f := frames[h][:infos[h].Payload]; g.Segments(int(h)) > 1 {
					p := bytes.Clone(f)
					if g.Patch(int(h), p, &infos[h]); !bytes.Equal(p, f) {
						t.Errorf("ACK %d is changed", h)
					}
				}
			}
			g.KeepACKs = true
			plan(&g, frames, AcceptPartial)
			if got := fmt.Sprint(groups(&g)); got != alone || g.ACKs() != 0 {
				t.Errorf("groups %v with each ACK kept", got)
			}
		})
	}
}

// TestGROACKRepeats: duplicates are counted by who gets them, so each goes up,
// and so does the one they repeat; what comes behind them starts anew.
func TestGROACKRepeats(t *testing.T) {
	for _, c := range []struct {
		steps []int // by how many hundred bytes the number grows
		want  string
	}{
		{[]int{0, 1, 1, 1}, "[[3 2 1 0]]"},
		{[]int{0, 0, 0, 1}, "[[0] [1] [2] [3]]"},
		{[]int{0, 1, 0, 0, 1, 1}, "[[1 0] [2] [3] [5 4]]"},
		{[]int{0, 1, 0, 1, 0}, "[[1 0] [2] [3] [4]]"},
	} {
		s := pureSeg(false, 0)
		var frames [][]byte
		for _, n := range c.steps {
			s.ack += uint32(100 * n)
			frames = append(frames, s.frame())
		}
		var g GRO
		plan(&g, frames, 0)
		if got := fmt.Sprint(groups(&g)); got != c.want {
			t.Errorf("steps %v: groups %s, want %s", c.steps, got, c.want)
		}
	}
}

// TestGROACKWraps: numbers are compared as RFC 9293 (3.4) says.
func TestGROACKWraps(t *testing.T) {
	s := pureSeg(true, 0)
	s.ack = 0xffffff00
	frames := [][]byte{s.frame()}
	s.ack += 0x200
	frames = append(frames, s.frame())
	s.ack += 1 << 31
	frames = append(frames, s.frame())
	var g GRO
	plan(&g, frames, 0)
	if got, want := fmt.Sprint(groups(&g)), "[[1 0] [2]]"; got != want {
		t.Errorf("groups %s, want %s", got, want)
	}
}

// TestGROACKsAndData: the two do not mix, and an ACK between segments closes
// their group.
func TestGROACKsAndData(t *testing.T) {
	data, ack := baseSeg(false), pureSeg(false, 0)
	frames := [][]byte{data.frame()}
	data.seq, data.id = data.seq+100, data.id+1
	frames = append(frames, data.frame())
	ack.seq = data.seq + 100
	for range 3 {
		ack.ack += 50
		frames = append(frames, ack.frame())
	}
	data.seq, data.id, data.ack = data.seq+100, data.id+1, ack.ack
	frames = append(frames, data.frame())
	data.seq, data.id = data.seq+100, data.id+1
	frames = append(frames, data.frame())
	var g GRO
	infos := plan(&g, frames, 0)
	checkPlan(t, &g, frames, infos, slices.Repeat([]bool{true}, len(frames)), func(int) int64 { return 1 })
	if got, want := fmt.Sprint(groups(&g)), "[[0 1] [4 3 2] [5 6]]"; got != want {
		t.Errorf("groups %s, want %s", got, want)
	}
}

// TestGROACKModel sends random ACKs of several flows: what goes up has the last
// word of each flow, and says of repeats all that was said.
func TestGROACKModel(t *testing.T) {
	r := newRand(t)
	var g GRO
	needless, total := 0, 0
	for range 300 {
		frames := ackBatch(r, 1+r.IntN(MaxBatch))
		infos := plan(&g, frames, 0)
		checkPlan(t, &g, frames, infos, slices.Repeat([]bool{true}, len(frames)), func(i int) int64 { return int64(infos[i].SrcPort) })
		repeats, last := map[uint16]int{}, map[uint16]uint32{}
		count := func(i int, by int) {
			p := infos[i].SrcPort
			if ack, ok := last[p]; ok && ack == infos[i].Ack {
				repeats[p] += by
			}
			last[p] = infos[i].Ack
		}
		for i := range frames {
			count(i, 1)
		}
		said := last
		last = map[uint16]uint32{}
		for _, h := range g.Heads() {
			count(int(h), -1)
		}
		for p, n := range repeats {
			if n != 0 {
				t.Errorf("flow %d: %d repeats are missing", p, n)
			}
		}
		for p, ack := range said {
			if last[p] != ack {
				t.Errorf("flow %d: the last to go up is %d, that came %d", p, last[p], ack)
			}
		}
		needless, total = needless+g.ACKs(), total+len(frames)
	}
	if needless < total/10 {
		t.Errorf("only %d of %d ACKs made needless", needless, total)
	}
}

// ackBatch makes n pure ACKs of a few flows.
func ackBatch(r *rand.Rand, n int) (frames [][]byte) {
	flows := make([]seg, 1+r.IntN(5))
	for i := range flows {
		flows[i] = pureSeg(r.IntN(2) == 0, 0)
		flows[i].sport, flows[i].ack = uint16(i), r.Uint32()
	}
	for len(frames) < n {
		f := &flows[r.IntN(len(flows))]
		for range 1 + r.IntN(8) {
			if r.IntN(6) != 0 {
				f.ack += 1 + uint32(r.IntN(3000))
			}
			f.window += uint16(r.IntN(3))
			if r.IntN(20) == 0 {
				f.opts = []byte{1, 1, 8, 10, 0, 0, 0, byte(r.Uint32()), 0, 0, 0, 2}
			}
			frames = append(frames, f.frame())
		}
	}
	return frames[:n]
}

// checkACKs holds for every group of pure ACKs, newest first.
func checkACKs(tb testing.TB, g *GRO, frames [][]byte, infos []Info, list []int) {
	tb.Helper()
	p := merge(g, frames, infos, list[0])
	if !bytes.Equal(p, frames[list[0]][:infos[list[0]].End]) {
		tb.Fatalf("group %v became % x", list, p)
	}
	for k, i := range list {
		info := &infos[i]
		if info.PayloadLen() != 0 || info.Flags != ACK || info.Seq != infos[list[0]].Seq {
			tb.Fatalf("frame %d is in a group of ACKs: %+v", i, *info)
		}
		if k > 0 && int32(infos[list[k-1]].Ack-info.Ack) <= 0 {
			tb.Fatalf("ACK of %d is taken for newer than %d", infos[list[k-1]].Ack, info.Ack)
		}
	}
}
