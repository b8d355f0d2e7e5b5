package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/afxnet/afxnet/bench/internal/load"
	"github.com/afxnet/afxnet/bench/internal/plan"
	"github.com/afxnet/afxnet/bench/internal/role"
)

// TestCounts divides the system calls of a server by the operations, and does not take
// it for one that makes none where the kernel knows it by another number.
func TestCounts(t *testing.T) {
	var log bytes.Buffer
	server := os.Getpid() + 1
	m := &measurement{c: &conductor{log: &log, bed: &testbed{}}, server: &role.Process{PID: server}}
	r := load.Result{Ops: 10, Elapsed: time.Second}
	all := map[int]map[int]uint64{os.Getpid(): {-1: 2}, server: {-1: 30}}
	if got := m.counts(all, plan.Case{}, r); got["syscalls_per_op"] != 3 || got["syscalls_other_per_op"] != 3 || m.c.uncounted {
		t.Errorf("got %v", got)
	}
	if got := m.counts(map[int]map[int]uint64{}, plan.Case{}, r); got != nil || !m.c.uncounted || !strings.Contains(log.String(), "PID namespace") {
		t.Errorf("got %v and %q", got, &log)
	}
}
