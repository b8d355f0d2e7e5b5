package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// plan runs one batch through g. Frames that do not parse or verify are left
// out, as in netdev. Random frames that have to merge need options 0: with
// AcceptPartial one in 65536 passes for partial and stands apart.
func plan(g *GRO, frames [][]byte, opts VerifyOptions) []Info {
	infos := make([]Info, len(frames))
	g.Reset()
	for i, f := range frames {
		if Parse(f, &infos[i]) != OK || Verify(f, &infos[i], opts) != OK {
			infos[i].Kind = Other
			continue
		}
		g.Add(i, f, &infos[i])
	}
	return infos
}

// members lists the frames of a group.
func members(g *GRO, head int) (list []int) {
	for i := head; i >= 0; i = g.Next(i) {
		list = append(list, i)
	}
	return list
}

// merge builds the packet of a group as netdev does, in one piece.
func merge(g *GRO, frames [][]byte, infos []Info, head int) []byte {
	info := &infos[head]
	if g.Segments(head) == 1 {
		return frames[head][:info.End]
	}
	p := append([]byte(nil), frames[head][:info.Payload]...)
	g.Patch(head, p, info)
	for _, i := range members(g, head) {
		p = append(p, frames[i][infos[i].Payload:infos[i].End]...)
	}
	return p
}

// checkPlan holds for every batch: each frame is in one group, order within a
// group and of heads, sizes, checksums, and cutting a merged packet again gives
// the frames that went in. flow names the flow of frame i, or is negative.
func checkPlan(tb testing.TB, g *GRO, frames [][]byte, infos []Info, added []bool, flow func(i int) int64) {
	tb.Helper()
	taken := make([]bool, len(frames))
	last := map[int64]int{}
	acks, first := 0, -1
	for _, h := range g.Heads() {
		head := int(h)
		list := members(g, head)
		whole := len(list) > 1
		if whole && infos[head].PayloadLen() == 0 {
			checkACKs(tb, g, frames, infos, list)
			slices.Reverse(list) // the newest is the head
			acks += len(list) - 1
			whole = false
		}
		if len(list) != g.Segments(head) || !slices.IsSorted(list) {
			tb.Fatalf("group %v of %d segments", list, g.Segments(head))
		}
		if list[0] < first {
			tb.Fatalf("group %v after one that begins with frame %d", list, first)
		}
		first = list[0]
		for _, i := range list {
			if taken[i] || !added[i] {
				tb.Fatalf("frame %d taken twice, or never added", i)
			}
			taken[i] = true
			if f := flow(i); f >= 0 {
				if prev, ok := last[f]; ok && prev > i {
					tb.Fatalf("flow %d: frame %d delivered after %d", f, i, prev)
				}
				last[f] = i
			}
		}
		if whole {
			checkMerged(tb, g, frames, infos, list)
		}
	}
	if !slices.Equal(taken, added) {
		tb.Fatalf("frames taken %v, added %v", taken, added)
	}
	if g.ACKs() != acks {
		tb.Fatalf("%d ACKs needless, counted %d", acks, g.ACKs())
	}
}

func checkMerged(tb testing.TB, g *GRO, frames [][]byte, infos []Info, list []int) {
	tb.Helper()
	info := &infos[list[0]]
	p := merge(g, frames, infos, list[0])
	if len(p)-EthernetLen > 65535 {
		tb.Fatalf("merged to %d bytes", len(p))
	}
	total := 0
	for _, i := range list {
		total += infos[i].PayloadLen()
	}
	if total != len(p)-int(info.Payload) {
		tb.Fatalf("merged payload has %d bytes, segments %d", len(p)-int(info.Payload), total)
	}
	partial := info.Marks&Partial != 0
	if partial {
		addrs := p[26:34]
		if info.Kind == TCP6 {
			addrs = p[22:54]
		}
		tcp := p[info.L4:]
		want := onesSub(naiveTransport(addrs, ProtoTCP, tcp), naiveSum(tcp))
		if got := binary.BigEndian.Uint16(tcp[16:]); got != want {
			tb.Fatalf("partial checksum %#x, want %#x", got, want)
		}
	} else {
		checkSums(tb, p, int(info.L4))
	}
	again := mustParse(tb, p)
	if again.PayloadLen() != total {
		tb.Fatalf("merged packet parses to %+v", again)
	}
	cuts := naiveCut(p[:info.Payload], 14, int(info.L4), p[info.Payload:], info.PayloadLen())
	if len(cuts) != len(list) {
		tb.Fatalf("cut into %d frames, was merged from %d", len(cuts), len(list))
	}
	fixedID := info.Kind == TCP4 && infos[list[1]].ID == info.ID
	for k, i := range list {
		got, want := cuts[k], append([]byte(nil), frames[i][:infos[i].End]...)
		for _, f := range [][]byte{got, want} {
			if partial {
				f[info.L4+16], f[info.L4+17] = 0, 0
			}
			if fixedID {
				clear(f[18:20])
				clear(f[24:26])
			}
		}
		if !bytes.Equal(got, want) {
			tb.Fatalf("cut %d of group %v:\n% x\nwas\n% x", k, list, got, want)
		}
	}
}

// TestGROModel sends random streams with random faults and checks what comes
// out against what went in.
func TestGROModel(t *testing.T) {
	r := newRand(t)
	var g GRO
	merged, total := 0, 0
	for range 300 {
		frames := randomBatch(r, 1+r.IntN(MaxBatch))
		infos := make([]Info, len(frames))
		added := make([]bool, len(frames))
		g.Reset()
		for i, f := range frames {
			if Parse(f, &infos[i]) == OK && Verify(f, &infos[i], AcceptPartial) == OK {
				g.Add(i, f, &infos[i])
				added[i] = true
				total++
			}
		}
		merged += total - len(g.Heads())
		checkPlan(t, &g, frames, infos, added, func(i int) int64 {
			if !infos[i].Kind.IsTCP() {
				return -1
			}
			return int64(infos[i].Kind)<<32 | int64(infos[i].SrcPort)<<16 | int64(infos[i].DstPort)
		})
	}
	if merged < total/10 {
		t.Errorf("only %d of %d frames merged", merged, total)
	}
}

// randomBatch makes n frames of several flows, most of them in order.
func randomBatch(r *rand.Rand, n int) (frames [][]byte) {
	flows := make([]seg, 1+r.IntN(6))
	for i := range flows {
		flows[i] = baseSeg(r.IntN(2) == 0)
		flows[i].sport = uint16(i)
		flows[i].seq = r.Uint32()
		flows[i].partial = r.IntN(4) == 0
		flows[i].payload = make([]byte, 1+r.IntN(1460))
		if r.IntN(3) == 0 {
			flows[i].frag = 0
		}
		if r.IntN(3) == 0 {
			flows[i].opts = nil
		}
	}
	for len(frames) < n {
		f := &flows[r.IntN(len(flows))]
		for range 1 + r.IntN(12) {
			size := len(f.payload)
			f.payload = randBytes(r, size)
			s := *f
			f.seq += uint32(size)
			f.id++
			if r.IntN(6) == 0 {
				fault(r, &s, f)
			}
			b := s.frame()
			if r.IntN(60) == 0 {
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			}
			frames = append(frames, b)
			if k := len(frames); r.IntN(20) == 0 && k > 1 {
				frames[k-1], frames[k-2] = frames[k-2], frames[k-1]
			}
		}
	}
	return frames[:n]
}

// fault changes segment s, and sometimes what its flow f goes on with.
func fault(r *rand.Rand, s, f *seg) {
	switch r.IntN(15) {
	case 0:
		s.flags |= PSH
	case 1:
		s.flags |= 1 << r.IntN(8)
	case 2:
		s.ack += 10
		f.ack = s.ack
	case 3:
		s.window++
	case 4:
		s.ttl--
		f.ttl = s.ttl
	case 5:
		s.tos = byte(r.Uint32())
	case 6:
		s.pad = r.IntN(20)
	case 7:
		s.seq -= uint32(len(s.payload))
	case 8:
		s.payload = nil
		f.seq = s.seq
	case 9:
		s.payload = s.payload[:1+r.IntN(len(s.payload))]
		f.seq = s.seq + uint32(len(s.payload))
	case 10:
		s.opts = []byte{1, 1, 8, 10, 0, 0, 0, byte(r.Uint32()), 0, 0, 0, 2}
	case 11:
		s.ipOpts = []byte{1, 1, 1, 1}
		s.ext = []byte{0, 0, 1, 4, 0, 0, 0, 0}
	case 12:
		s.frag ^= 0x2000
	case 13:
		s.id += 7
		s.label = 5
	case 14:
		s.payload, s.partial, s.frag, s.flags = nil, false, 0x4000, ACK
		f.seq = s.seq
		f.ack += uint32(r.IntN(3) * 100)
	}
}

// FuzzGRO takes pairs of bytes as changes to a stream of segments.
func FuzzGRO(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0}, uint64(1))
	f.Add([]byte{0, 0, 1, 7, 0, 0, 30, 1, 0, 3}, uint64(2))
	f.Fuzz(func(t *testing.T, script []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		flows := []seg{baseSeg(false), baseSeg(true), baseSeg(false)}
		flows[2].sport++
		var frames [][]byte
		for ; len(script) >= 2 && len(frames) < MaxBatch; script = script[2:] {
			fl := &flows[int(script[0])%len(flows)]
			fl.payload = randBytes(r, 1+int(script[0])%7*50)
			s := *fl
			fl.seq += uint32(len(fl.payload))
			fl.id++
			if script[1] != 0 && script[1] < 128 {
				fault(r, &s, fl)
			}
			b := s.frame()
			if script[1] >= 128 { // damage that Verify is not asked about
				b[(int(script[1])*7+int(script[0]))%len(b)] ^= script[0]
			}
			frames = append(frames, b)
		}
		infos := make([]Info, len(frames))
		added := make([]bool, len(frames))
		var g GRO
		for i, b := range frames {
			if Parse(b, &infos[i]) == OK && Verify(b, &infos[i], AcceptPartial) == OK {
				g.Add(i, b, &infos[i])
				added[i] = true
			}
		}
		checkPlan(t, &g, frames, infos, added, func(i int) int64 {
			if !infos[i].Kind.IsTCP() {
				return -1
			}
			return int64(infos[i].Hash)
		})
	})
}
