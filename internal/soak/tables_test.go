package main

import (
	"math/rand/v2"
	"runtime"
	"testing"
)

// flow is as large as netstack's name of a connection.
type flow [6]uint64

// TestTables has entries of a map replaced by others, the oldest first, as
// connections in TIME-WAIT are: two hundred minutes of it at the share of the
// warm-up that a run has.
func TestTables(t *testing.T) {
	table := make(map[flow]*int)
	fill := func(n int) []flow {
		all := make([]flow, n)
		for i := range all {
			all[i][0] = rand.Uint64()
			table[all[i]] = nil
		}
		return all
	}
	const most = 12000
	for _, f := range fill(most) {
		delete(table, f)
	}
	before := liveHeap()
	live := fill(int(steady * most))
	for range 200 {
		for i := range live {
			delete(table, live[i])
			live[i][0] = rand.Uint64()
			table[live[i]] = nil
		}
	}
	// Without the list of them, and with a little for what the runtime does.
	grown := int64(liveHeap()) - int64(before) - int64(cap(live)*48)
	if grown > 200<<10 {
		t.Errorf("a map grew by %d bytes, with %.1f of the entries that it had", grown, steady)
	}
	runtime.KeepAlive(table)
	runtime.KeepAlive(live)
}

func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
