package raw

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/packet"
)

var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	a4   = netip.MustParseAddrPort("10.0.0.1:1000")
	b4   = netip.MustParseAddrPort("10.0.0.2:2000")
)

func TestUDPFrame(t *testing.T) {
	for size := headersLen4; size <= 1514; size++ {
		f, err := UDPFrame(macA, macB, a4, b4, size)
		if err != nil || len(f) != size || cap(f) != size {
			t.Fatalf("%d bytes: %d of %d, %v", size, len(f), cap(f), err)
		}
		var info packet.Info
		r := packet.Parse(f, &info)
		if r == packet.OK {
			r = packet.Verify(f, &info, 0)
		}
		if r != packet.OK || info.Kind != packet.UDP4 || info.SrcPort != 1000 || info.DstPort != 2000 || info.Marks&packet.Unsummed != 0 {
			t.Fatalf("%d bytes: %v, %+v", size, r, info)
		}
	}
	for _, size := range []int{-1, 0, headersLen4 - 1, packet.MaxFrame + 1} {
		if f, err := UDPFrame(macA, macB, a4, b4, size); err == nil {
			t.Errorf("%d bytes: %d", size, len(f))
		}
	}
	six := netip.MustParseAddrPort("[fd00::1]:1")
	if _, err := UDPFrame(macA, macB, six, b4, 100); err == nil {
		t.Error("IPv6")
	}
	if _, err := UDPFrame(nil, macB, a4, b4, 100); err == nil {
		t.Error("no MAC address")
	}
}

func TestTurnRound(t *testing.T) {
	f, err := UDPFrame(macA, macB, a4, b4, 64)
	if err != nil {
		t.Fatal(err)
	}
	turnRound(f)
	if string(f[:6]) != string(macA) || string(f[6:12]) != string(macB) || f[12] != 8 {
		t.Errorf("% x", f[:14])
	}
	for n := range ethernetLen {
		turnRound(make([]byte, n))
	}
}

func TestRates(t *testing.T) {
	r := Result{Packets: 1000, Bytes: 125e6, Elapsed: 2 * time.Second}
	if r.PacketsPerSecond() != 500 || r.GbitPerSecond() != 0.5 {
		t.Errorf("%v packets/s, %v Gbit/s", r.PacketsPerSecond(), r.GbitPerSecond())
	}
	if r.Elapsed = 0; r.PacketsPerSecond() != 0 || r.GbitPerSecond() != 0 {
		t.Error("a rate without a time")
	}
}

// TestRun checks the limits of a loop.
func TestRun(t *testing.T) {
	r := newRun(t.Context(), Job{Packets: Batch + 1})
	defer r.finish()
	if r.room() != Batch {
		t.Errorf("room is %d", r.room())
	}
	r.begin()
	r.done(Batch, 10)
	if r.room() != 1 {
		t.Errorf("room is %d for the last packet", r.room())
	}
	r.done(1, 10)
	if r.room() != 0 || r.res.Packets != Batch+1 || r.res.Bytes != 20 {
		t.Errorf("%d, %+v", r.room(), r.res)
	}
}

// TestCountedMallocs counts what a loop allocates, and changes nothing else.
func TestCountedMallocs(t *testing.T) {
	const made = 1000
	var kept [][]byte
	res, err := counted(func() (Result, error) {
		for range made {
			kept = append(kept, make([]byte, 100))
		}
		return Result{Packets: 7}, nil
	})
	if err != nil || len(kept) != made || res.Mallocs < made || res.Packets != 7 {
		t.Errorf("%d allocations were made, got %+v, %v", len(kept), res, err)
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{{}, {Interface: "none0", Queues: -1}, {Interface: "none0"}} {
		if p, err := Open(cfg); p != nil || err == nil {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	p := &Port{cfg: Config{Interface: "none0"}}
	if _, err := p.ReceiveDrop(t.Context(), 0, Job{}); err == nil {
		t.Error("no such queue")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestCompile wants a program, or a reason.
func TestCompile(t *testing.T) {
	c, err := Compile(t.Context(), t.TempDir())
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	if err == nil && c.Compiler() == "" {
		t.Error("no compiler's name")
	}
	t.Setenv("PATH", "")
	if _, err := Compile(t.Context(), t.TempDir()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without a compiler: %v", err)
	}
}
