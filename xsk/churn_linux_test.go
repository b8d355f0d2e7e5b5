//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/raced"
)

var long = flag.Bool("afxnet.long", false, "open and close 1000 times in the lab instead of 30")

// TestChurn opens and closes a program with sockets on two queues of one region,
// and a socket on the same queue, again and again, and looks for what is left: a
// descriptor, a mapping, a program, a map, a frame.
func TestChurn(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{Queues: 2})
	rounds := 30
	if *long {
		rounds = 1000
	}
	var programs []ebpf.ProgramID
	var maps []ebpf.MapID
	cycle := func() {
		set, err := openSet(l, SetConfig{Share: true})
		if err != nil {
			t.Fatal(err)
		}
		p, m := kernelObjects(t, set.Program())
		programs, maps = append(programs, p), append(maps, m...)
		s, err := openIn(l, small(Config{Shared: set.shared}))
		if err != nil {
			t.Fatal(err)
		}
		region := set.shared.Region()
		if err := errors.Join(set.Program().Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		for _, s := range set.Sockets() {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if a := region.Audit(); a.Free != region.Chunks() || set.shared.Lost() != 0 {
			t.Fatalf("%+v, %d lost", a, set.shared.Lost())
		}
		if err := set.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cycle() // the runtime's poller opens its own
	fds, sockets, locked := descriptors.Open(t), mappings(t, "socket:"), resident(t)
	noneLeft(t, rounds, "mappings", rounds/2, func() int { return mappings(t, "") }, cycle)
	if left := fds.New(descriptors.Open(t)); len(left) > 0 {
		t.Errorf("descriptors that are left: %v", left)
	}
	if n := mappings(t, "socket:"); n > sockets {
		t.Errorf("%d ring mappings before, %d after", sockets, n)
	}
	// Each round has a region of 5 MiB: a few may not show, all would.
	each := 1000
	if raced.Enabled {
		each = 3000 // the detector keeps memory of its own about regions that are gone
	}
	if n := resident(t); n > locked+(len(programs)-1)*each {
		t.Errorf("%d KiB resident before, %d after", locked, n)
	}
	lab.Eventually(t, limit, "the programs and maps are gone", func() bool {
		for _, id := range programs {
			if p, err := ebpf.NewProgramFromID(id); err == nil {
				p.Close()
				return false
			}
		}
		for _, id := range maps {
			if m, err := ebpf.NewMapFromID(id); err == nil {
				m.Close()
				return false
			}
		}
		return true
	})
}

// kernelObjects returns the ids of a program and its maps.
func kernelObjects(t *testing.T, p *Program) (ebpf.ProgramID, []ebpf.MapID) {
	t.Helper()
	info, err := p.objs.AfxnetSteer.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	maps, _ := info.MapIDs()
	if id == 0 || len(maps) == 0 {
		t.Fatalf("program %d with maps %v", id, maps)
	}
	return id, maps
}

// resident returns the process's resident memory in KiB.
func resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize() >> 10
}
