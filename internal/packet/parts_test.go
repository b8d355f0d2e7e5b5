package packet

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// cutAfter cuts a frame at random places, of which the first is not before byte
// n.
func cutAfter(r *rand.Rand, frame []byte, n, pieces int) [][]byte {
	n += r.IntN(len(frame) - n + 1)
	return append([][]byte{frame[:n:n]}, split(r, frame[n:], pieces)...)
}

// parsed is what Parse and Verify say about a frame.
func parsed(opts VerifyOptions, total int, parts ...[]byte) (info Info, r Reason) {
	if r = ParseFirst(parts[0], total, &info); r == OK {
		r = Verify(parts[0], &info, opts, parts[1:]...)
	}
	return info, r
}

// TestParts holds what is said about a frame in parts to what is said about it in
// one piece, wherever behind the headers it is cut.
func TestParts(t *testing.T) {
	r := newRand(t)
	var frames [][]byte
	for range 20 {
		frames = append(frames, randomBatch(r, 60)...)
	}
	for _, n := range []int{8, 9, 100, 1000, 8972, 65000} {
		for _, v6 := range []bool{false, true} {
			frames = append(frames, udp(v6, n, n), udp(v6, 8, n), udp(v6, n, n+1), udp(v6, n/2, n))
			s := baseSeg(v6)
			s.payload, s.pad = randBytes(r, n), n%7
			frames = append(frames, s.frame())
		}
	}
	good := 0
	for i, f := range frames {
		opts := VerifyOptions(r.IntN(2))
		want, reason := parsed(opts, len(f), f)
		if reason == OK {
			good++
		}
		// The longest headers of these frames: IPv6, 8 bytes of extension, TCP
		// with 12 of options.
		parts := cutAfter(r, f, min(len(f), 14+40+8+32), 1+r.IntN(5))
		got, gotReason := parsed(opts, len(f), parts...)
		if gotReason != reason || reason == OK && got != want {
			t.Fatalf("frame %d of %d bytes, first part %d, %d parts: %v, %+v\nwant %v, %+v", i, len(f), len(parts[0]), len(parts), gotReason, got, reason, want)
		}
	}
	if good < len(frames)/3 {
		t.Errorf("only %d of %d frames are good", good, len(frames))
	}
}

// TestPartsShort cuts frames in their headers: they are refused, or taken for
// something of which nothing is verified. Offsets stay within the frame.
func TestPartsShort(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := baseSeg(v6)
		withExt := s
		withExt.ext, withExt.ipOpts = []byte{0, 0, 1, 4, 0, 0, 0, 0}, []byte{1, 1, 1, 1}
		for _, f := range [][]byte{s.frame(), withExt.frame(), udp(v6, 500, 500)} {
			var whole Info
			if r := Parse(f, &whole); r != OK {
				t.Fatal(r)
			}
			for n := range int(whole.Payload) {
				info, r := parsed(0, len(f), f[:n], f[n:])
				if r == OK && (info.Kind.IsTCP() || info.Kind.IsUDP()) {
					t.Errorf("v6 %v: %d bytes of headers are enough for %v", v6, n, info.Kind)
				}
				if r == OK {
					checkOffsets(t, f, &info)
				}
				if r == OK && int(info.Payload) > n {
					t.Errorf("v6 %v: payload at %d of a first part of %d", v6, info.Payload, n)
				}
			}
			if info, r := parsed(0, len(f), f[:whole.Payload], f[whole.Payload:]); r != OK || info != mustParse(t, f) {
				t.Errorf("v6 %v: all headers: %v, %+v", v6, r, info)
			}
		}
	}
	var info Info
	if r := ParseFirst(make([]byte, 100), MaxFrame+1, &info); r != TooLong {
		t.Errorf("a frame of more than MaxFrame: %v", r)
	}
}

// TestCutterParts compares frames written across several buffers with naiveCut.
func TestCutterParts(t *testing.T) {
	r := newRand(t)
	for range 300 {
		s := baseSeg(r.IntN(2) == 0)
		s.payload = randBytes(r, r.IntN(40000))
		s.opts = [][]byte{nil, s.opts, make([]byte, 40)}[r.IntN(3)]
		header, l4 := template(&s)
		mss := 1 + r.IntN(20000)
		var c Cutter
		if r := c.Init(header, 14, l4, split(r, s.payload, 1+r.IntN(6)), mss); r != OK {
			t.Fatal(r)
		}
		for i, want := range naiveCut(header, 14, l4, s.payload, mss) {
			buf := make([]byte, len(want)+r.IntN(2)*r.IntN(5000))
			parts := cutAfter(r, buf, len(header), 1+r.IntN(6))
			if n := c.Next(buf[:len(header)-1], buf[len(header)-1:]); n != 0 {
				t.Fatal("headers do not fit the first part, and a frame was written")
			}
			if short := buf[:len(want)-1]; len(short) >= len(header) && c.Next(short[:len(header)], short[len(header):]) != 0 {
				t.Fatal("a frame was written where there is no room")
			}
			if n := c.Next(parts[0], parts[1:]...); n != len(want) || !bytes.Equal(buf[:n], want) {
				t.Fatalf("payload %d, mss %d, frame %d of %d bytes in %v: %d bytes, or others", len(s.payload), mss, i, len(want), lengths(parts), n)
			}
			checkSums(t, buf[:len(want)], l4)
		}
		if c.Segments() != 0 {
			t.Fatal("frames left")
		}
	}
}

func lengths(parts [][]byte) (n []int) {
	for _, p := range parts {
		n = append(n, len(p))
	}
	return n
}

func TestCopyParts(t *testing.T) {
	r := newRand(t)
	for range 1000 {
		data := randBytes(r, r.IntN(200))
		buf := make([]byte, len(data)+r.IntN(20))
		dst := split(r, buf, 1+r.IntN(6))
		if n := Copy(dst[0], split(r, data, 1+r.IntN(6)), dst[1:]...); n != len(data) || !bytes.Equal(buf[:n], data) {
			t.Fatalf("%d bytes to %v: %d", len(data), lengths(dst), n)
		}
		if len(data) > 0 {
			dst = split(r, buf[:len(data)-1], 1+r.IntN(6))
			if n := Copy(dst[0], split(r, data, 1+r.IntN(6)), dst[1:]...); n != 0 {
				t.Fatalf("%d bytes to %v: %d", len(data), lengths(dst), n)
			}
		}
	}
}

// TestPartsAllocs holds the work on frames in parts to no allocation.
func TestPartsAllocs(t *testing.T) {
	s := baseSeg(false)
	header, l4 := template(&s)
	payload := [][]byte{make([]byte, 30001), make([]byte, 30000)}
	buf := make([]byte, 3*4096)
	dst := slices.Collect(slices.Chunk(buf, 4096))
	c := new(Cutter)
	var info Info
	if n := testing.AllocsPerRun(100, func() {
		c.Init(header, 14, l4, payload, 8948)
		for {
			n := c.Next(dst[0], dst[1:]...)
			if n == 0 {
				break
			}
			if r := ParseFirst(dst[0], n, &info); r != OK {
				t.Fatal(r)
			}
			if r := Verify(dst[0], &info, 0, dst[1:]...); r != OK {
				t.Fatal(r)
			}
		}
		Copy(dst[0], payload[:1], dst[1:]...)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkParts is BenchmarkCutter, and its reverse, at an MTU of 9000.
func BenchmarkParts(b *testing.B) {
	s := baseSeg(false)
	s.payload = make([]byte, 8948)
	frame := s.frame()
	header, l4 := template(&s)
	buf := make([]byte, 3*4096)
	dst := slices.Collect(slices.Chunk(buf, 4096))
	b.Run(fmt.Sprintf("cut/len=%d", len(frame)), func(b *testing.B) {
		b.SetBytes(int64(len(frame)))
		var c Cutter
		payload := [][]byte{s.payload}
		for b.Loop() {
			c.Init(header, 14, l4, payload, 0)
			c.Next(dst[0], dst[1:]...)
		}
	})
	b.Run(fmt.Sprintf("verify/len=%d", len(frame)), func(b *testing.B) {
		b.SetBytes(int64(len(frame)))
		parts := slices.Collect(slices.Chunk(frame, 3840))
		var info Info
		for b.Loop() {
			if ParseFirst(parts[0], len(frame), &info) != OK || Verify(parts[0], &info, 0, parts[1:]...) != OK {
				b.Fatal("not OK")
			}
		}
	})
}
