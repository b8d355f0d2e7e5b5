package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// naiveSum is RFC 1071 as written: 16-bit words, one after the other.
func naiveSum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		sum += w
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// sameSum compares folded sums; 0 and 0xffff are the two zeros.
func sameSum(a, b uint16) bool { return a%0xffff == b%0xffff }

func newRand(tb testing.TB) *rand.Rand {
	tb.Helper()
	seed := rand.Uint64()
	tb.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func randBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestSumEveryLength also runs the portable loops, which may not be the ones in
// use.
func TestSumEveryLength(t *testing.T) {
	r := newRand(t)
	const longest = 9001
	random := randBytes(r, longest+64)
	ones := bytes.Repeat([]byte{0xff}, longest+64)
	dst := make([]byte, longest+128)
	for n := 0; n <= longest; n++ {
		off := r.IntN(64)
		if n < 300 {
			off = n % 64
		}
		for name, data := range map[string][]byte{"random": random, "ones": ones} {
			b := data[off : off+n]
			want := naiveSum(b)
			if got := Fold(Sum(b, 0)); !sameSum(got, want) {
				t.Fatalf("%s: sum of %d bytes at %d = %#x, want %#x", name, n, off, got, want)
			}
			if got := foldSwap(sumWords(b, 0)); !sameSum(got, want) {
				t.Fatalf("%s: words of %d bytes at %d = %#x, want %#x", name, n, off, got, want)
			}
			at := 1 + r.IntN(33)
			clear(dst)
			if got := Fold(CopySum(dst[at:], b, 0)); !sameSum(got, want) {
				t.Fatalf("%s: copy sum of %d bytes at %d = %#x, want %#x", name, n, off, got, want)
			}
			if !bytes.Equal(dst[at:at+n], b) || dst[at-1] != 0 || dst[at+n] != 0 {
				t.Fatalf("%s: copy of %d bytes to %d is wrong", name, n, at)
			}
		}
	}
}

func TestSumEveryAlignment(t *testing.T) {
	r := newRand(t)
	data := randBytes(r, 512)
	dst := make([]byte, 512)
	for off := range 65 {
		for n := range 400 {
			b := data[off : off+n]
			want := naiveSum(b)
			if got := Fold(Sum(b, 0)); !sameSum(got, want) {
				t.Fatalf("sum of %d bytes at %d = %#x, want %#x", n, off, got, want)
			}
			if got := Fold(CopySum(dst[64-off:], b, 0)); !sameSum(got, want) {
				t.Fatalf("copy sum of %d bytes at %d = %#x, want %#x", n, off, got, want)
			}
		}
	}
}

// chainSum sums b in pieces of the given lengths, as callers have to.
func chainSum(b []byte, cut func(left int) int) uint16 {
	var sum uint32
	odd := false
	dst := make([]byte, len(b))
	for len(b) > 0 {
		n := cut(len(b))
		if n%2 == 0 {
			sum = Sum(b[:n], sum)
		} else {
			sum = Swap(CopySum(dst, b[:n], sum))
			odd = !odd
		}
		b = b[n:]
	}
	if odd {
		sum = Swap(sum)
	}
	return Fold(sum)
}

func TestSumOddChains(t *testing.T) {
	r := newRand(t)
	for range 2000 {
		b := randBytes(r, r.IntN(600))
		got := chainSum(b, func(left int) int { return 1 + r.IntN(min(left, 90)) })
		if want := naiveSum(b); !sameSum(got, want) {
			t.Fatalf("chain over %d bytes = %#x, want %#x", len(b), got, want)
		}
	}
}

func TestPseudoHeader(t *testing.T) {
	r := newRand(t)
	for range 2000 {
		n := r.IntN(1 << 16)
		a4, a6 := [8]byte(randBytes(r, 8)), [32]byte(randBytes(r, 32))
		if r.IntN(4) == 0 {
			a6 = [32]byte(bytes.Repeat([]byte{0xff}, 32))
		}
		b := binary.BigEndian.AppendUint16(append(a4[:], 0, 6), uint16(n))
		if got, want := Fold(PseudoHeader4(&a4, 6, n)), naiveSum(b); !sameSum(got, want) {
			t.Fatalf("IPv4 = %#x, want %#x", got, want)
		}
		b = append(binary.BigEndian.AppendUint32(append([]byte(nil), a6[:]...), uint32(n)), 0, 0, 0, 17)
		if got, want := Fold(PseudoHeader6(&a6, 17, n)), naiveSum(b); !sameSum(got, want) {
			t.Fatalf("IPv6 = %#x, want %#x", got, want)
		}
	}
}

func TestCopySumShortDst(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	CopySum(make([]byte, 99), make([]byte, 100), 0)
}

func FuzzSum(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint8(1), uint8(3))
	f.Add(bytes.Repeat([]byte{0xff}, 1500), uint8(7), uint8(200))
	f.Fuzz(func(t *testing.T, b []byte, off, piece uint8) {
		b = b[min(int(off), len(b)):]
		want := naiveSum(b)
		if got := Fold(Sum(b, 0)); !sameSum(got, want) {
			t.Errorf("sum = %#x, want %#x", got, want)
		}
		dst := make([]byte, len(b)+1)
		if got := Fold(CopySum(dst[1:], b, 0)); !sameSum(got, want) || !bytes.Equal(dst[1:], b) {
			t.Errorf("copy sum = %#x, want %#x", got, want)
		}
		got := chainSum(b, func(left int) int { return min(left, 1+int(piece)) })
		if !sameSum(got, want) {
			t.Errorf("chain = %#x, want %#x", got, want)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 1448, 65536} {
		b.Run(fmt.Sprintf("len=%d", n), func(b *testing.B) {
			data := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				Sum(data, 0)
			}
		})
		b.Run(fmt.Sprintf("portable/len=%d", n), func(b *testing.B) {
			data := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				sumWords(data, 0)
			}
		})
	}
}

func BenchmarkCopySum(b *testing.B) {
	run := func(name string, n int, f func(dst, src []byte)) {
		b.Run(fmt.Sprintf("%s/len=%d", name, n), func(b *testing.B) {
			dst, src := make([]byte, n), make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				f(dst, src)
			}
		})
	}
	for _, n := range []int{64, 1448, 8948} {
		run("fused", n, func(dst, src []byte) { CopySum(dst, src, 0) })
		run("copy+sum", n, func(dst, src []byte) { copy(dst, src); Sum(dst, 0) })
		run("portable", n, func(dst, src []byte) { copy(dst, src); sumWords(src, 0) })
	}
}
