package main

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/afxnet/afxnet/bench/internal/control"
	"github.com/afxnet/afxnet/bench/internal/load"
	"github.com/afxnet/afxnet/bench/internal/measure"
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
	m.c.backend, m.c.bed.clientPID = &role.Process{PID: server + 1}, server+2
	all[server+1], all[server+2] = map[int]uint64{0: 15, 1: 25}, map[int]uint64{0: 10}
	got := m.counts(all, plan.Case{Proxied: true}, r)
	if got["backend_syscalls_per_op"] != 4 || got["client_syscalls_per_op"] != 1 || got["syscalls_per_op"] != 3 {
		t.Errorf("got %v", got)
	}
	if got := m.counts(map[int]map[int]uint64{}, plan.Case{}, r); got != nil || !m.c.uncounted || !strings.Contains(log.String(), "PID namespace") {
		t.Errorf("got %v and %q", got, &log)
	}
}

// TestIdleMetrics has what a server does while there is nothing to do by the second, the
// wakeups and sleeps of its data path apart from other system calls.
func TestIdleMetrics(t *testing.T) {
	before := readings{server: measure.Usage{Voluntary: 10, Counters: map[string]uint64{"tx wakeups": 3}}}
	after := readings{
		server: measure.Usage{
			CPU: 40 * time.Millisecond, Voluntary: 22, Mallocs: 6, Link: measure.Link{RXFrames: 4, TXFrames: 2},
			Counters: map[string]uint64{"tx wakeups": 5},
		},
		machine: measure.Machine{Busy: 60 * time.Millisecond},
	}
	cs := plan.Case{Spec: load.Spec{Kind: load.Idle}}
	got := metrics(cs, load.Result{Ops: 1, Elapsed: 2 * time.Second}, before, after)
	for name, want := range map[string]float64{
		"voluntary_switches_s": 6, "cpu_ms_s": 30, "server_cpu_ms_s": 20, "rx_frames_s": 2, "tx_frames_s": 1, "allocs_s": 3, "peer_tx_wakeups_s": 1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
		}
	}
}

// TestServerEnded has a server that has ended between two cases: the error names it, and
// the client is not asked, who would dial it for seconds.
func TestServerEnded(t *testing.T) {
	ended := func(who string) *control.Conn {
		ours, theirs := net.Pipe()
		theirs.Close()
		return control.NewConn(ours, who)
	}
	m := &measurement{
		c:      &conductor{bed: &testbed{v4: netip.MustParsePrefix("192.0.2.1/24"), client: ended("client")}},
		server: &role.Process{Conn: ended("role:server")},
	}
	cases, err := plan.Cases("rr", plan.Options{Quick: true, Duration: time.Second, MTU: 1500})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.measure(t.Context(), cases[0]); err == nil || !strings.Contains(err.Error(), "role:server: ") || strings.Contains(err.Error(), "client: ") {
		t.Errorf("got %v", err)
	}
}
