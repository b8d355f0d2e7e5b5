package packet

import (
	"fmt"
	"slices"
	"testing"
)

// TestGRORules changes one thing in the second of three segments that would
// merge, and says how the three are then grouped.
func TestGRORules(t *testing.T) {
	plain := [][]int{{0, 1, 2}}
	alone := [][]int{{0}, {1}, {2}}
	firstTwo := [][]int{{0, 1}, {2}}
	for _, c := range []struct {
		name   string
		v6     bool
		change func(s *seg)
		want   [][]int
	}{
		{"nothing", false, func(s *seg) {}, plain},
		{"nothing 6", true, func(s *seg) {}, plain},
		{"padding", false, func(s *seg) { s.pad = 9 }, plain},
		{"MAC", false, func(s *seg) { s.mac = 1 }, alone},
		{"TOS", false, func(s *seg) { s.tos = 4 }, alone},
		{"ECN", false, func(s *seg) { s.tos = 3 }, alone},
		{"ECN 6", true, func(s *seg) { s.tos = 3 }, alone},
		{"TTL", false, func(s *seg) { s.ttl-- }, alone},
		{"hop limit", true, func(s *seg) { s.ttl-- }, alone},
		{"DF", false, func(s *seg) { s.frag = 0 }, alone},
		{"reserved bit", false, func(s *seg) { s.frag |= 0x8000 }, alone},
		{"flow label", true, func(s *seg) { s.label = 1 }, alone},
		{"flow label, high bits", true, func(s *seg) { s.label = 0x10000 }, alone},
		{"ID", false, func(s *seg) { s.id += 2 }, alone},
		{"ACK number", false, func(s *seg) { s.ack++ }, alone},
		{"window", true, func(s *seg) { s.window++ }, alone},
		{"no ACK flag", false, func(s *seg) { s.flags = PSH }, alone},
		{"SYN", false, func(s *seg) { s.flags |= SYN }, alone},
		{"FIN", false, func(s *seg) { s.flags |= FIN }, alone},
		{"RST", true, func(s *seg) { s.flags |= RST }, alone},
		{"URG", false, func(s *seg) { s.flags |= URG }, alone},
		{"ECE", false, func(s *seg) { s.flags |= ECE }, alone},
		{"CWR", true, func(s *seg) { s.flags |= CWR }, alone},
		{"AE", true, func(s *seg) { s.doff = 1 }, alone},
		{"timestamp", false, func(s *seg) { s.opts = []byte{1, 1, 8, 10, 0, 0, 0, 3, 0, 0, 0, 2} }, alone},
		{"timestamp echo", true, func(s *seg) { s.opts = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 3} }, alone},
		{"no options", false, func(s *seg) { s.opts = nil }, alone},
		{"more options", true, func(s *seg) { s.opts = append(slices.Clone(s.opts), 1, 1, 1, 1) }, alone},
		{"IP options", false, func(s *seg) { s.ipOpts = []byte{1, 1, 1, 1} }, alone},
		{"extension header", true, func(s *seg) { s.ext = []byte{0, 0, 1, 4, 0, 0, 0, 0} }, alone},
		{"gap", false, func(s *seg) { s.seq++ }, alone},
		{"overlap", true, func(s *seg) { s.seq-- }, alone},
		{"urgent pointer", false, func(s *seg) { s.urgent = 1 }, alone},
		{"partial checksum", false, func(s *seg) { s.partial = true }, alone},
		{"PSH", false, func(s *seg) { s.flags |= PSH }, firstTwo},
		{"shorter", true, func(s *seg) { s.payload = s.payload[1:] }, firstTwo},
		{"longer", false, func(s *seg) { s.payload = make([]byte, 101) }, alone},
		{"pure ACK", false, func(s *seg) { s.payload = nil }, alone},
		{"duplicate", false, func(s *seg) { s.seq -= 100 }, alone},
		{"other flow", false, func(s *seg) { s.sport++ }, [][]int{{0, 2}, {1}}},
		{"other source", true, func(s *seg) { s.src++ }, [][]int{{0, 2}, {1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var frames [][]byte
			for i := range 3 {
				s := baseSeg(c.v6)
				s.seq += uint32(100 * i)
				s.id += uint16(i)
				if i == 1 {
					c.change(&s)
				}
				if i == 2 && len(c.want[0]) == 2 && c.want[0][1] == 2 {
					s.seq -= 100 // follows the first
					s.id--
				}
				frames = append(frames, s.frame())
			}
			var g GRO
			plan(&g, frames, AcceptPartial)
			if got := groups(&g); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("groups %v, want %v", got, c.want)
			}
		})
	}
}

func groups(g *GRO) (all [][]int) {
	for _, h := range g.Heads() {
		all = append(all, members(g, int(h)))
	}
	return all
}

// TestGROFlushes: a frame of the flow that cannot merge closes the group, even
// if what follows is contiguous with the group.
func TestGROFlushes(t *testing.T) {
	for name, change := range map[string]func(*seg){
		"pure ACK":   func(s *seg) { s.payload = nil },
		"FIN":        func(s *seg) { s.flags |= FIN },
		"IP options": func(s *seg) { s.ipOpts = []byte{1, 1, 1, 1} },
		"old data":   func(s *seg) { s.seq -= 100 },
		"other MAC":  func(s *seg) { s.mac = 3 },
		"PSH":        func(s *seg) { s.flags |= PSH; s.seq -= 100 },
	} {
		t.Run(name, func(t *testing.T) {
			var frames [][]byte
			for i := range 3 {
				s := baseSeg(false)
				if i == 2 {
					s.seq += 100
					s.id++
				}
				if i == 1 {
					s.seq += 100
					s.id++
					change(&s)
				}
				frames = append(frames, s.frame())
			}
			var g GRO
			plan(&g, frames, AcceptPartial)
			if got := groups(&g); len(got[0]) != 1 {
				t.Errorf("groups %v", got)
			}
		})
	}
}

func TestGROIDRule(t *testing.T) {
	for _, c := range []struct {
		df   bool
		ids  [4]uint16
		want string
	}{
		{true, [4]uint16{5, 5, 5, 5}, "[[0 1 2 3]]"},
		{true, [4]uint16{5, 6, 7, 8}, "[[0 1 2 3]]"},
		{true, [4]uint16{65535, 0, 1, 2}, "[[0 1 2 3]]"},
		{true, [4]uint16{5, 5, 6, 7}, "[[0 1] [2 3]]"},
		{true, [4]uint16{5, 6, 6, 6}, "[[0 1] [2 3]]"},
		{true, [4]uint16{5, 4, 3, 2}, "[[0] [1] [2] [3]]"},
		{false, [4]uint16{5, 6, 7, 8}, "[[0 1 2 3]]"},
		{false, [4]uint16{5, 5, 5, 5}, "[[0] [1] [2] [3]]"},
	} {
		var frames [][]byte
		for i, id := range c.ids {
			s := baseSeg(false)
			s.seq += uint32(100 * i)
			s.id = id
			if !c.df {
				s.frag = 0
			}
			frames = append(frames, s.frame())
		}
		var g GRO
		plan(&g, frames, AcceptPartial)
		if got := fmt.Sprint(groups(&g)); got != c.want {
			t.Errorf("DF %v, IDs %v: groups %s, want %s", c.df, c.ids, got, c.want)
		}
	}
}
