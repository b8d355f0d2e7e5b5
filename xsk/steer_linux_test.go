//go:build linux && (amd64 || arm64)

package xsk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
)

// verdictBytes is how much of a frame a redirecting verdict rests on.
var verdictBytes = map[Verdict]int{RedirectIPv4: 34, RedirectIPv6: 54, RedirectARP: 42, RedirectND: 78}

// loadTestProgram loads a program with the addresses and groups of the test frames. It is
// attached to nothing.
func loadTestProgram(tb testing.TB) *Program {
	tb.Helper()
	lab.Require(tb, lab.BPF)
	p, err := LoadProgram(ProgramConfig{Interface: "lo", MAC: steerMAC, Queues: 4, MaxAddresses: 8})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { p.Close() })
	for _, a := range []netip.Addr{steerOwn4, steerOwn6} {
		if err := p.AddAddress(a); err != nil {
			tb.Fatal(err)
		}
	}
	for _, g := range []netip.Addr{steerGroup4, steerGroup6} {
		if err := p.AddGroup(g); err != nil {
			tb.Fatal(err)
		}
	}
	return p
}

// addTestSocket puts a socket that is bound to nothing on queue 0, the queue
// of test runs: the redirecting helper looks only whether one is there.
func addTestSocket(tb testing.TB, p *Program) {
	tb.Helper()
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { unix.Close(fd) })
	if err := p.AddSocket(0, fd); err != nil {
		tb.Fatal(err)
	}
}

func TestSteerVerdicts(t *testing.T) {
	p := loadTestProgram(t)
	for _, tc := range steerCases() {
		t.Run(tc.name, func(t *testing.T) {
			// Every prefix: never redirected before all that the verdict rests
			// on is there, and the same verdict from then on.
			for n := 14; n <= min(len(tc.frame), testFrameMax); n++ {
				got, err := p.Test(tc.frame[:n])
				if err != nil {
					t.Fatal(err)
				}
				if got.Redirected() && (!tc.want.Redirected() || n < verdictBytes[tc.want]) {
					t.Errorf("first %d bytes: %v, want pass", n, got)
				}
				if tc.want.Redirected() && n >= verdictBytes[tc.want] && got != tc.want {
					t.Errorf("first %d bytes: %v, want %v", n, got, tc.want)
				}
			}
			if got, err := p.Test(tc.frame); err != nil || got != tc.want {
				t.Errorf("Test = %v, %v, want %v", got, err, tc.want)
			}
		})
	}
}

// TestSteerActions runs the program that is attached in earnest: what it
// returns to the driver and what it counts.
func TestSteerActions(t *testing.T) {
	for _, bound := range []bool{true, false} {
		t.Run(fmt.Sprintf("socket=%v", bound), func(t *testing.T) {
			p := loadTestProgram(t)
			if bound {
				addTestSocket(t, p)
			}
			var want Counters
			for _, tc := range steerCases() {
				v, action := tc.want, uint32(2) // XDP_PASS
				if tc.want.Redirected() {
					if bound {
						action = 4 // XDP_REDIRECT
					} else {
						v = PassNoSocket
					}
				}
				*want.at(v)++
				frame := tc.frame[:min(len(tc.frame), 2048)]
				got, err := p.objs.AfxnetSteer.Run(&ebpf.RunOptions{Data: frame})
				if err != nil || got != action {
					t.Errorf("%s: action %d, %v, want %d", tc.name, got, err, action)
				}
			}
			got, err := p.Counters()
			if err != nil || got != want {
				t.Errorf("Counters = %+v, %v\nwant %+v", got, err, want)
			}
			var sum uint64
			for _, n := range got.All() {
				sum += n
			}
			if sum != uint64(len(steerCases())) {
				t.Errorf("counters add up to %d, want one for each of %d frames", sum, len(steerCases()))
			}
		})
	}
}

func TestSteerSocketRemoved(t *testing.T) {
	p := loadTestProgram(t)
	run := func(want uint32) {
		t.Helper()
		got, err := p.objs.AfxnetSteer.Run(&ebpf.RunOptions{Data: steerCases()[0].frame})
		if err != nil || got != want {
			t.Errorf("action %d, %v, want %d", got, err, want)
		}
	}
	addTestSocket(t, p)
	run(4)
	if err := p.RemoveSocket(0); err != nil {
		t.Fatal(err)
	}
	run(2)

	// A closed socket leaves by itself.
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AddSocket(0, fd); err != nil {
		t.Fatal(err)
	}
	run(4)
	unix.Close(fd)
	run(2)
}

// TestSteerModel compares the program with the same rules written in Go, on
// frames that differ from the table's in a few bytes and in length.
func TestSteerModel(t *testing.T) {
	p := loadTestProgram(t)
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	cases := steerCases()
	redirected := 0
	for range 20_000 {
		frame := slices.Clone(cases[rng.IntN(len(cases))].frame)
		frame = frame[:min(len(frame), 120)]
		for range rng.IntN(4) {
			i := rng.IntN(min(len(frame), 80))
			switch rng.IntN(3) {
			case 0:
				frame[i] ^= 1 << rng.IntN(8)
			case 1:
				frame[i] = byte(rng.Uint32())
			case 2: // a field of another frame
				other := cases[rng.IntN(len(cases))].frame
				copy(frame[i:], other[min(i, len(other)):min(i+1+rng.IntN(16), len(other))])
			}
		}
		if rng.IntN(4) == 0 {
			frame = frame[:14+rng.IntN(len(frame)-13)]
		}
		got, err := p.Test(frame)
		if err != nil {
			t.Fatal(err)
		}
		if want := modelVerdict(frame); got != want {
			t.Fatalf("seed %d: %v, want %v, for % x", seed, got, want, frame)
		}
		if got.Redirected() {
			redirected++
		}
	}
	if redirected < 1000 {
		t.Errorf("seed %d: only %d frames redirected: the test says little", seed, redirected)
	}
}

func modelVerdict(f []byte) Verdict {
	dst, etherType, rest := f[:6], binary.BigEndian.Uint16(f[12:]), f[14:]
	own := bytes.Equal(dst, steerMAC)
	wrongMAC := PassForeignMAC
	if dst[0]&1 == 1 {
		wrongMAC = PassMulticast
	}
	ours := func(addr []byte, redirect Verdict) Verdict {
		if a, _ := netip.AddrFromSlice(addr); a == steerOwn4 || a == steerOwn6 {
			return redirect
		}
		return PassNoAddress
	}
	joined := func(proto byte, group []byte, redirect Verdict) Verdict {
		if a, _ := netip.AddrFromSlice(group); proto == protoUDP && (a == steerGroup4 || a == steerGroup6) {
			return redirect
		}
		return PassMulticast
	}
	switch etherType {
	case 0x8100, 0x88a8:
		return PassVLAN
	case typeARP:
		switch {
		case !own && !bytes.Equal(dst, steerBcast):
			return wrongMAC
		case len(rest) < 28 || !bytes.Equal(rest[:7], []byte{0, 1, 8, 0, 6, 4, 0}) || rest[7] != 1 && rest[7] != 2:
			return PassMalformed
		}
		if bytes.Equal(rest[24:28], make([]byte, 4)) {
			return ours(rest[14:18], RedirectARP)
		}
		return ours(rest[24:28], RedirectARP)
	case typeIPv4:
		group4 := dst[0] == 1 && dst[1] == 0 && dst[2] == 0x5e && dst[3] < 0x80
		switch {
		case !own && !group4:
			return wrongMAC
		case len(rest) < 20 || rest[0]>>4 != 4 || rest[0]&15 < 5:
			return PassMalformed
		case rest[16] >= 224 && rest[16] < 240:
			return joined(rest[9], rest[16:20], RedirectIPv4)
		case !own:
			return PassMulticast
		}
		return ours(rest[16:20], RedirectIPv4)
	case typeIPv6:
		group6 := dst[0] == 0x33 && dst[1] == 0x33
		switch {
		case !own && !group6:
			return wrongMAC
		case len(rest) < 40 || rest[0]>>4 != 6:
			return PassMalformed
		case rest[24] != 0xff && own:
			return ours(rest[24:40], RedirectIPv6)
		case rest[24] == 0xff && rest[6] == protoUDP:
			return joined(rest[6], rest[24:40], RedirectIPv6)
		case rest[24] != 0xff || rest[25] != 2 || rest[6] != protoICMPv6:
			return PassMulticast
		case len(rest) < 41:
			return PassMalformed
		case rest[40] != 135 && rest[40] != 136:
			return PassMulticast
		case len(rest) < 64:
			return PassMalformed
		}
		return ours(rest[48:64], RedirectND)
	}
	return PassEtherType
}

func TestVerdictsMatchObject(t *testing.T) {
	for v, want := range map[Verdict]steerVerdict{
		RedirectIPv4:   steerVerdictREDIRECT_IPV4,
		RedirectIPv6:   steerVerdictREDIRECT_IPV6,
		RedirectARP:    steerVerdictREDIRECT_ARP,
		RedirectND:     steerVerdictREDIRECT_ND,
		PassNoSocket:   steerVerdictPASS_NO_SOCKET,
		PassNoAddress:  steerVerdictPASS_NO_ADDRESS,
		PassForeignMAC: steerVerdictPASS_FOREIGN_MAC,
		PassMulticast:  steerVerdictPASS_MULTICAST,
		PassVLAN:       steerVerdictPASS_VLAN,
		PassEtherType:  steerVerdictPASS_ETHERTYPE,
		PassMalformed:  steerVerdictPASS_MALFORMED,
		numVerdicts:    steerVerdictVERDICTS,
	} {
		if uint32(v) != uint32(want) {
			t.Errorf("%v is %d, in the object %d", v, v, want)
		}
	}
}

// BenchmarkSteer is the time in the program alone, without driver, redirect
// and socket.
func BenchmarkSteer(b *testing.B) {
	p := loadTestProgram(b)
	addTestSocket(b, p)
	seen := make(map[Verdict]bool)
	for _, tc := range steerCases() {
		if seen[tc.want] {
			continue
		}
		seen[tc.want] = true
		b.Run("verdict="+tc.want.String(), func(b *testing.B) {
			benchmarkSteer(b, p, tc.frame)
		})
	}
	b.Run("verdict="+PassNoSocket.String(), func(b *testing.B) {
		if err := p.RemoveSocket(0); err != nil {
			b.Fatal(err)
		}
		benchmarkSteer(b, p, steerCases()[0].frame)
	})
}

func benchmarkSteer(b *testing.B, p *Program, frame []byte) {
	const repeat = 100_000 // runs per system call, so that the call does not count
	var total, runs float64
	for b.Loop() {
		_, perRun, err := p.objs.AfxnetSteer.Benchmark(frame, repeat, nil)
		if err != nil {
			b.Fatal(err)
		}
		total += float64(perRun.Nanoseconds())
		runs++
	}
	b.ReportMetric(total/runs, "ns/packet")
	b.ReportMetric(0, "ns/op")
}
