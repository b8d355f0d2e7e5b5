package netdiff

import (
	"flag"
	"regexp"
	"testing"

	"github.com/afxnet/afxnet/internal/wire"
	_ "github.com/afxnet/afxnet/stack/inline" // tests run with it unless they say otherwise
)

var (
	only  = flag.String("netdiff.only", "", "regular expression: compare only behaviours with such a name")
	write = flag.Bool("netdiff.write", false, "write docs/differences.md")
)

// chosen returns the jobs of those behaviours that pass, and that the flag names.
func chosen(t testing.TB, pass func(*behaviour) bool) []job {
	t.Helper()
	re, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	return jobs(func(b *behaviour) bool { return pass(b) && re.MatchString(b.name) && b.allowed() })
}

func anywhere(b *behaviour) bool { return !b.lab }

// TestOverWire compares two stacks on a wire with package net on loopback.
func TestOverWire(t *testing.T) {
	all := chosen(t, anywhere)
	got := runAll(overWire(t, wire.Faults{}), all)
	compare(t, "over the wire", all, runAll(loopback(t), all), got, isKnown)
}

// compare fails for each behaviour that differs and is not known to, and for each
// that is known to and does not.
func compare(t *testing.T, where string, all []job, want, got [][]string, mayDiffer func(name string) bool) {
	t.Helper()
	agree, differing := make(map[string]bool), make(map[string]bool)
	for i, j := range all {
		w, g, ok := differ(want[i], got[i])
		switch {
		case !ok:
			agree[j.b.name] = true
		case !mayDiffer(j.b.name):
			t.Errorf("%s: %s", where, report(j, w, g))
			fallthrough
		default:
			differing[j.b.name] = true
		}
	}
	for name := range agree {
		if !differing[name] && mayDiffer(name) {
			t.Errorf("%s: %s agrees: take it from the list", where, name)
		}
	}
	t.Logf("%s: %d runs, %d behaviours differ", where, len(all), len(differing))
}
