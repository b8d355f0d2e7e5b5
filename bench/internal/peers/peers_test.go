package peers

import (
	"strings"
	"testing"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/without"
)

func TestAll(t *testing.T) {
	seen := make(map[string]bool)
	for _, e := range All {
		if seen[e.Name] || e.About == "" || (e.Open == nil) == (e.Respond == nil) {
			t.Errorf("got %+v", e)
		}
		seen[e.Name] = true
		if got, err := Lookup(e.Name); err != nil || got.Name != e.Name {
			t.Errorf("lookup %s: got %v, %v", e.Name, got.Name, err)
		}
	}
	if Names()[0] != Kernel {
		t.Errorf("tables start with %s", Names()[0])
	}
	if _, err := Lookup("nobody"); err == nil || !strings.Contains(err.Error(), "there are kernel, ") {
		t.Errorf("got %v", err)
	}
}

// TestOpenErrors asks for what cannot be opened on any machine.
func TestOpenErrors(t *testing.T) {
	for _, e := range All {
		cfg := peer.Config{Interface: "no such dev"}
		if e.Respond != nil {
			if p, err := e.Respond(cfg); err == nil {
				t.Errorf("%s opens, and closes with %v", e.Name, p.Close())
			}
			continue
		}
		if e.Name == Kernel || e.Name == "kernel-nooffload" {
			continue // without an address there is nothing to do on the device
		}
		if p, err := e.Open(cfg); err == nil {
			t.Errorf("%s opens, and closes with %v", e.Name, p.Close())
		}
	}
}

// TestAblation wants one peer for each mechanism, and what all are compared with.
func TestAblation(t *testing.T) {
	found := make(map[string]bool)
	for _, name := range Ablation() {
		m := Lacks(name)
		if m == "" && name != Kernel && name != Full || m != "" && found[m] {
			t.Errorf("%s lacks %q", name, m)
		}
		found[m] = true
	}
	for _, m := range append(without.Names(), "callers poll", "txbudget") {
		if !found[m] {
			t.Errorf("no peer is without %s", m)
		}
	}
	if e, err := Lookup(Full); err != nil || e.Ablation || Lacks(Kernel) != "" {
		t.Errorf("got %+v, %v", e, err)
	}
}
