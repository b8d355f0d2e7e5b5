package packet

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// split cuts b at random places, empty pieces included.
func split(r *rand.Rand, b []byte, pieces int) (parts [][]byte) {
	for ; pieces > 1; pieces-- {
		n := r.IntN(len(b) + 1)
		parts = append(parts, b[:n])
		b = b[n:]
	}
	return append(parts, b)
}

// template is the headers of a segment as netstack hands them over: length
// fields that may have wrapped, and a checksum that is none.
func template(s *seg) (header []byte, l4 int) {
	payload := s.payload
	s.payload = nil
	header = s.frame()
	s.payload = payload
	l4 = 34 + len(s.ipOpts)
	if s.v6 {
		l4 = 54
	}
	header[16], header[17] = 0xab, 0xcd
	if s.v6 {
		header[16], header[17] = 0, 0
		header[18], header[19] = 0xab, 0xcd
	} else {
		header[24], header[25] = 1, 2
	}
	header[l4+16], header[l4+17] = 0x12, 0x34
	return header, l4
}

// TestCutter compares with naiveCut, for all flags and random cuts.
func TestCutter(t *testing.T) {
	r := newRand(t)
	lengths := []int{0, 1, 2, 63, 64, 1447, 1448, 1449, 2896, 4343, 65483, 65535}
	for range 400 {
		lengths = append(lengths, r.IntN(65536))
	}
	for _, n := range lengths {
		s := baseSeg(r.IntN(2) == 0)
		s.payload = randBytes(r, n)
		s.seq = r.Uint32()
		s.id = uint16(r.Uint32())
		s.flags = uint8(r.Uint32())
		s.opts = [][]byte{nil, s.opts, make([]byte, 40)}[r.IntN(3)]
		mss := []int{1448, 536, 1 + r.IntN(9000), 1 + r.IntN(100), n, n + 1}[r.IntN(6)]
		if mss == 1 {
			mss = 7
		}
		if min(n, mss) > 65000 {
			mss = 65000
		}
		checkCut(t, r, &s, mss)
	}
	s := baseSeg(false)
	s.payload = randBytes(r, 300)
	checkCut(t, r, &s, 0)
	s.flags = ACK | FIN | PSH | CWR
	s.ipOpts = []byte{1, 1, 1, 1}
	header, l4 := template(&s)
	compareCut(t, header, l4, [][]byte{s.payload}, s.payload, 100)
}

func checkCut(t *testing.T, r *rand.Rand, s *seg, mss int) {
	t.Helper()
	header, l4 := template(s)
	compareCut(t, header, l4, split(r, s.payload, 1+r.IntN(6)), s.payload, mss)
}

func compareCut(t *testing.T, header []byte, l4 int, parts [][]byte, payload []byte, mss int) {
	t.Helper()
	before := slices.Clone(header)
	want := naiveCut(header, 14, l4, payload, mss)
	var c Cutter
	if r := c.Init(header, 14, l4, parts, mss); r != OK {
		t.Fatalf("init: %v", r)
	}
	dst := make([]byte, 66000)
	for i, w := range want {
		if c.Segments() != len(want)-i || c.FrameLen() != len(w) {
			t.Fatalf("%d frames left, next of %d bytes, want %d, %d", c.Segments(), c.FrameLen(), len(want)-i, len(w))
		}
		if n := c.Next(dst[:len(w)-1]); n != 0 {
			t.Fatalf("%d bytes written where there is no room", n)
		}
		n := c.Next(dst[:len(w)+i%2])
		if !bytes.Equal(dst[:n], w) {
			t.Fatalf("payload %d, mss %d, frame %d:\n% x\nwant\n% x", len(payload), mss, i, dst[:min(n, 80)], w[:min(len(w), 80)])
		}
		checkSums(t, dst[:n], l4)
	}
	if n := c.Next(dst); n != 0 || c.Segments() != 0 || c.FrameLen() != 0 {
		t.Fatalf("%d bytes after the last frame", n)
	}
	if c.header != nil || c.parts != nil {
		t.Error("slices kept after the last frame")
	}
	if !bytes.Equal(header, before) {
		t.Error("template changed")
	}
}

func TestCutterFlags(t *testing.T) {
	s := baseSeg(true)
	s.flags = FIN | PSH | ACK | CWR | ECE
	s.payload = make([]byte, 250)
	header, l4 := template(&s)
	var c Cutter
	c.Init(header, 14, l4, [][]byte{s.payload}, 100)
	dst := make([]byte, 2048)
	for i, want := range []uint8{ACK | CWR | ECE, ACK | ECE, FIN | PSH | ACK | ECE} {
		info := mustParse(t, dst[:c.Next(dst)])
		if info.Flags != want || info.Seq != s.seq+uint32(100*i) {
			t.Errorf("frame %d: flags %#x, seq %d", i, info.Flags, info.Seq)
		}
	}
}

func TestCutterInitErrors(t *testing.T) {
	s4, s6 := baseSeg(false), baseSeg(true)
	h4, _ := template(&s4)
	h6, _ := template(&s6)
	big := [][]byte{make([]byte, 40000), make([]byte, 40000)}
	for _, c := range []struct {
		name   string
		header []byte
		l3, l4 int
		parts  [][]byte
		mss    int
		want   Reason
	}{
		{"good", h4, 14, 34, big, 1448, OK},
		{"empty", nil, 0, 0, nil, 0, BadHeader},
		{"negative offset", h4, -1, 34, nil, 0, BadHeader},
		{"l4 before l3", h4, 34, 14, nil, 0, BadHeader},
		{"l4 past header", h4, 14, 1 << 30, nil, 0, BadHeader},
		{"no room for TCP", h4[:50], 14, 34, nil, 0, BadHeader},
		{"options cut", h4[:60], 14, 34, nil, 0, BadHeader},
		{"bytes behind", append(slices.Clone(h4), 0), 14, 34, nil, 0, BadHeader},
		{"IPv6 at IPv4's offsets", h6, 14, 34, nil, 0, BadHeader},
		{"UDP", edit(h4, put(23, 17)), 14, 34, nil, 0, BadHeader},
		{"extension header", edit(h6, put(20, 0)), 14, 54, nil, 0, BadHeader},
		{"header length", edit(h4, put(14, 0x46)), 14, 34, nil, 0, BadHeader},
		{"version", edit(h4, put(14, 0x55)), 14, 34, nil, 0, BadHeader},
		{"mss", h6, 14, 54, nil, -1, BadMSS},
		{"one frame too long", h6, 14, 54, big, 0, BadTotalLength},
		{"mss too long", h4, 14, 34, big, 65535, BadTotalLength},
	} {
		t.Run(c.name, func(t *testing.T) {
			var cutter Cutter
			if r := cutter.Init(c.header, c.l3, c.l4, c.parts, c.mss); r != c.want {
				t.Errorf("init = %v, want %v", r, c.want)
			}
			if c.want != OK && (cutter.Segments() != 0 || cutter.Next(make([]byte, 2048)) != 0) {
				t.Error("frames after an error")
			}
		})
	}
}

// TestCutThenMerge: what the Cutter cuts, GRO makes whole.
func TestCutThenMerge(t *testing.T) {
	r := newRand(t)
	for _, v6 := range []bool{false, true} {
		for range 50 {
			s := baseSeg(v6)
			s.flags = ACK | PSH
			s.payload = randBytes(r, 2+r.IntN(60000))
			mss := max(len(s.payload)/200, 1+r.IntN(len(s.payload)))
			header, l4 := template(&s)
			var c Cutter
			if r := c.Init(header, 14, l4, split(r, s.payload, 3), mss); r != OK {
				t.Fatal(r)
			}
			var frames [][]byte
			for c.Segments() > 0 {
				dst := make([]byte, 66000)
				frames = append(frames, dst[:c.Next(dst)])
			}
			var g GRO
			infos := plan(&g, frames, 0)
			if len(g.Heads()) != 1 {
				t.Fatalf("%d groups of %d frames", len(g.Heads()), len(frames))
			}
			if got, want := merge(&g, frames, infos, 0), s.frame(); !bytes.Equal(got, want) {
				t.Fatalf("merged\n% x\nwant\n% x", got[:80], want[:80])
			}
		}
	}
}

func TestCopy(t *testing.T) {
	parts := [][]byte{[]byte("ab"), nil, []byte("cde")}
	dst := make([]byte, 6)
	if n := Copy(dst, parts); n != 5 || string(dst[:n]) != "abcde" {
		t.Errorf("%d bytes: %q", n, dst)
	}
	if n := Copy(dst[:4], parts); n != 0 {
		t.Errorf("%d bytes written to 4", n)
	}
	if n := Copy(nil, nil); n != 0 {
		t.Errorf("%d bytes of nothing", n)
	}
}

func TestCutterAllocs(t *testing.T) {
	s := baseSeg(false)
	header, l4 := template(&s)
	parts := [][]byte{make([]byte, 30001), make([]byte, 30000)}
	dst := make([]byte, 2048)
	c := new(Cutter)
	if n := testing.AllocsPerRun(100, func() {
		c.Init(header, 14, l4, parts, 1448)
		for c.Next(dst) > 0 {
		}
		Copy(dst, parts)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzCutter(f *testing.F) {
	s4, s6 := baseSeg(false), baseSeg(true)
	h4, _ := template(&s4)
	h6, _ := template(&s6)
	f.Add(h4, 14, 34, []byte("some payload"), uint8(3), 5)
	f.Add(h6, 14, 54, []byte("some payload"), uint8(0), 0)
	f.Fuzz(func(t *testing.T, header []byte, l3, l4 int, payload []byte, at uint8, mss int) {
		k := min(int(at), len(payload))
		var c Cutter
		if c.Init(header, l3, l4, [][]byte{payload[:k], payload[k:]}, mss) != OK {
			return
		}
		dst := make([]byte, 1<<17)
		want := naiveCut(header, l3, l4, payload, mss)
		for i, w := range want {
			if n := c.Next(dst); !bytes.Equal(dst[:n], w) {
				t.Fatalf("frame %d:\n% x\nwant\n% x", i, dst[:n], w)
			}
		}
		if c.Next(dst) != 0 {
			t.Error("more frames than expected")
		}
	})
}

func BenchmarkCutter(b *testing.B) {
	for _, c := range []struct{ payload, mss int }{{0, 1448}, {64, 1448}, {1448, 1448}, {65160, 1448}, {65160, 8948}} {
		b.Run(fmt.Sprintf("len=%d/mss=%d", c.payload, c.mss), func(b *testing.B) {
			s := baseSeg(false)
			header, l4 := template(&s)
			payload := make([]byte, c.payload)
			parts := [][]byte{payload}
			frames := make([]byte, 64*4096) // like UMEM: no frame is warm
			if c.mss > 4096 {
				frames = make([]byte, 64*16384)
			}
			step := len(frames) / 64
			var cut Cutter
			b.SetBytes(int64(c.payload))
			b.ReportAllocs()
			for i := 0; b.Loop(); {
				cut.Init(header, 14, l4, parts, c.mss)
				for cut.Segments() > 0 {
					cut.Next(frames[i%64*step:])
					i++
				}
			}
		})
	}
}
