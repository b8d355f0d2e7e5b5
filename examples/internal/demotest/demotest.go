// Package demotest runs examples, and tests of the libraries that they show, on
// two stacks over a wire in memory, which needs no privilege, and in a lab with
// the kernel's sockets at the other end, which does.
package demotest

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/internal/wired"
	"github.com/afxnet/afxnet/stack"
	_ "github.com/afxnet/afxnet/stack/inline" // on and off, see Each
	"github.com/afxnet/afxnet/umem"
)

// patience ends a test that hangs. No test needs it.
const patience = 60 * time.Second

// Each runs a test between hosts in every role: on the wire with and without
// inline processing, and in the lab; with the race detector in some of the roles,
// others each time. The context ends when the test does, or hangs.
func Each(t *testing.T, f func(ctx context.Context, t *testing.T, pair demo.Pair)) {
	t.Helper()
	run := func(t *testing.T, pair demo.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		f(ctx, t, pair)
	}
	type way struct {
		name     string
		noInline bool
	}
	for _, w := range raced.Some(1, []way{{"wire", true}, {"wire, inline", false}}) {
		t.Run(w.name, func(t *testing.T) { run(t, Wire(t, stack.Config{NoInline: w.noInline}, wire.Faults{})) })
	}
	t.Run("lab", func(t *testing.T) {
		for _, pair := range raced.Some(2, Lab(t).Pairs()) {
			t.Run(pair.Name+", "+pair.Addr.String(), func(t *testing.T) { run(t, pair) })
		}
	})
}

// Run runs a program in every role.
func Run(t *testing.T, p demo.Program) {
	t.Helper()
	Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) { try(ctx, t, p, pair) })
}

// RunBadly runs a program over a wire that loses, repeats, corrupts and reorders
// frames.
func RunBadly(t *testing.T, p demo.Program) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	try(ctx, t, p, Wire(t, stack.Config{Profile: stack.ProfileLAN}, wire.Faults{
		Loss: 0.003, Duplicate: 0.005, Corrupt: 0.002, Reorder: 0.01, ReorderBy: 3, ReorderDelay: time.Millisecond,
	}))
}

func try(ctx context.Context, t *testing.T, p demo.Program, pair demo.Pair) {
	t.Helper()
	did, err := p.Try(ctx, pair)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(did)
}

// Lab makes a lab for a test, which fails if a frame is unaccounted for in the
// end.
func Lab(t *testing.T) *demo.Lab {
	t.Helper()
	lab.Require(t, lab.Root, lab.NetNS, lab.XDP)
	l, err := demo.OpenLab(stack.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Wire makes two stacks over a wire in memory for a test, with the same faults in
// both directions. The test fails if one of them keeps a frame.
func Wire(t *testing.T, cfg stack.Config, faults wire.Faults) demo.Pair {
	t.Helper()
	a, b := cfg, cfg
	a.Addresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")}
	b.Addresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00::2/64")}
	j, err := wired.Open(wire.Config{Faults: [2]wire.Faults{faults, faults}}, umem.Config{Chunks: 4096}, [2]stack.Config{a, b})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("wire seed %d", j.Wire.Seed())
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		for i, s := range j.Stacks {
			for _, a := range s.Device().Audit() {
				if a.Held != 0 {
					t.Errorf("stack %d is closed and holds frames: %+v", i, a)
				}
			}
		}
	})
	return demo.Pair{Name: "wire", Server: j.Stacks[0], Client: j.Stacks[1], Addr: netip.MustParseAddr("10.0.0.1")}
}
