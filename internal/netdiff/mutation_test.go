package netdiff

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
)

// TestMutations tests the comparison: it has to find each of the mutations.
func TestMutations(t *testing.T) {
	if raced.Enabled {
		t.Skip("mistakes are none of races, and the behaviours run in TestOverWire")
	}
	mutations := slices.Concat(mutations, moreMutations(), icmpMutations(), endMutations())
	if len(mutations) < 30 {
		t.Errorf("%d mutations, want 30", len(mutations))
	}
	all := jobs(func(b *behaviour) bool {
		// The mutants are of TCP and UDP.
		return !b.lab && !b.slow && !isKnown(b.name) && !strings.HasPrefix(b.name, "ping/") && b.allowed()
	})
	want := runAll(loopback(t), all)
	g := overWire(t, wire.Faults{})
	// Without a mutation, what the mutants are made of changes nothing.
	whole := *g
	whole.mutate = func(n network) network {
		return &mutant{
			network: n, tcp: func(c tcpConn) tcpConn { return &badTCP{tcpConn: c} },
			udp:      func(c udpConn) udpConn { return &badUDP{udpConn: c} },
			listener: func(l tcpListener) tcpListener { return &badListener{tcpListener: l} },
		}
	}
	nothing := func(string) bool { return false }
	compare(t, "without a mutation", all, want, runAll(&whole, all), nothing)
	found := make([]string, len(mutations))
	next := make(chan int)
	var wg sync.WaitGroup
	for range 8 { // most of the time they wait
		wg.Go(func() {
			for i := range next {
				mutated := *g
				mutated.mutate = mutations[i].make
				mutated.patience = time.Second // many hang, which is how they are found
				found[i] = find(&mutated, all, want, mutations[i].first)
			}
		})
	}
	for i := range mutations {
		next <- i
	}
	close(next)
	wg.Wait()
	for i, m := range mutations {
		// Some show only if a dial or a look-up ends within 30 ms. With nothing beside
		// it, it should.
		for try := 0; found[i] == "" && try < 3; try++ {
			mutated := *g
			mutated.mutate = m.make
			some, _ := matching(all, m.first)
			found[i] = findIn(&mutated, all, want, some)
		}
		if found[i] == "" {
			t.Errorf("not found: %s", m.name)
		} else {
			t.Logf("%s: %s", m.name, found[i])
		}
	}
}

// find runs jobs on a ground with a mutation and returns the first difference that
// it finds. Behaviours whose name matches first come first.
func find(g *ground, all []job, want [][]string, first string) string {
	some, others := matching(all, first)
	if found := findIn(g, all, want, some); found != "" {
		return found
	}
	return findIn(g, all, want, others)
}

// matching divides jobs by whether the name of their behaviour matches.
func matching(all []job, name string) (some, others []int) {
	re := regexp.MustCompile(name)
	for i, j := range all {
		if re.MatchString(j.b.name) {
			some = append(some, i)
		} else {
			others = append(others, i)
		}
	}
	return some, others
}

func findIn(g *ground, all []job, want [][]string, some []int) string {
	var found atomic.Pointer[string]
	next := make(chan int)
	var wg sync.WaitGroup
	for range widths[kindDatagram] {
		wg.Go(func() {
			for i := range next {
				if w, got, ok := differ(want[i], run(g, all[i])); ok {
					text := report(all[i], w, got)
					found.CompareAndSwap(nil, &text)
				}
			}
		})
	}
	for _, i := range some {
		if found.Load() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	if text := found.Load(); text != nil {
		return *text
	}
	return ""
}
