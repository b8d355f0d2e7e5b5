package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/plan"
	"github.com/afxnet/afxnet/bench/internal/role"
)

// TestLeaveOut tells what the machine cannot do, whatever the text, from what went wrong.
func TestLeaveOut(t *testing.T) {
	var log bytes.Buffer
	c := &conductor{log: &log, impossible: make(map[string]bool)}
	if c.leaveOut("raw", errors.New("device is gone")) || c.impossible["raw"] || log.Len() != 0 {
		t.Errorf("left out for any error: %s", &log)
	}
	if !c.leaveOut("raw", fmt.Errorf("MTU of 9000: %w", syscall.EOPNOTSUPP)) || !c.impossible["raw"] || !strings.Contains(log.String(), "raw is left out: MTU of 9000") {
		t.Errorf("not left out: %s", &log)
	}
}

// TestQuickDuration leaves the idle workload its time, and gives the others the rest.
func TestQuickDuration(t *testing.T) {
	o, err := parse([]string{"-quick", "-workloads", "rr,idle", "-peers", "kernel,afxnet,inline,inline-block"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c := &conductor{o: o}
	for _, name := range o.peers {
		e, err := peers.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		c.peers = append(c.peers, e)
	}
	runs := len(c.peers) * (quickRounds + 1) // of each case: two of rr, one of idle
	if d := c.quickDuration(); d <= quickLeast || time.Duration(2*runs)*d+time.Duration(runs)*o.idle > quickPlan {
		t.Errorf("%v each, of %v", d, quickPlan)
	}
}

// TestQuickDurationSolo has time for all contestants of a case without a client, with
// what each takes beside: stacks in memory warm up for a quarter of it.
func TestQuickDurationSolo(t *testing.T) {
	for _, name := range []string{plan.Raw, plan.Wire} {
		o, err := parse([]string{"-quick", "-workloads", name}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		c := &conductor{o: o}
		c.env.MTU = 1500
		cases, err := c.cases(name)
		if err != nil {
			t.Fatal(err)
		}
		runs := len(cases) * len(c.contestants(name)) * (quickRounds + 1)
		if d := c.quickDuration(); d <= quickLeast || time.Duration(runs)*(d+d/4+soloCost[name]) > quickPlan {
			t.Errorf("%s: %d runs of %v, of %v", name, runs, d, quickPlan)
		}
	}
}

// TestTurnWithoutCases starts no process for a peer that has nothing to do.
func TestTurnWithoutCases(t *testing.T) {
	c := &conductor{impossible: map[string]bool{peers.Kernel: true}}
	cases, err := plan.Cases("rr", plan.Options{Quick: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{peers.Raw, peers.Kernel} {
		e, err := peers.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.turn(t.Context(), e, cases, 1); err != nil || len(c.failures) != 0 {
			t.Errorf("%s: %v, %v", name, err, c.failures)
		}
	}
}

// TestWireCount has the system calls of a run counted, or is told why they are not.
func TestWireCount(t *testing.T) {
	p, err := role.Start(role.Wire, role.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for _, count := range []bool{true, false} {
		var r role.WireReply
		q := role.WireRequest{Kind: "gvisor", Load: "rr", Duration: 20 * time.Millisecond, Count: count}
		if err := p.Call(t.Context(), "run", q, &r); err != nil || count && r.Counted == (r.Uncounted != "") || !count && (r.Counted || r.Uncounted != "") {
			t.Errorf("counting is %v: got %+v, %v", count, r, err)
		}
	}
}

// TestCallsOf tells figures of system calls from others.
func TestCallsOf(t *testing.T) {
	got := callsOf(map[string]float64{"syscalls_per_op": 2, "syscalls_per_op_ratio_to_gvisor": 0.5, "ops_s": 9, "calls_per_packet": 1})
	if len(got) != 2 || got["syscalls_per_op"] != 2 || got["syscalls_per_op_ratio_to_gvisor"] != 0.5 {
		t.Errorf("got %v", got)
	}
}

// TestDeadline has a process that nobody tells to end: it is killed when its time is over.
func TestDeadline(t *testing.T) {
	p, err := role.Start(role.Wire, role.Options{Deadline: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	answers := func() bool {
		err := p.Call(t.Context(), "rest", nil, nil)
		return err != nil && strings.Contains(err.Error(), "no method")
	}
	for begun := time.Now(); answers() && time.Since(begun) < 10*time.Second; {
	}
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("got %v", err)
	}
}

// TestKilled has a process that somebody else kills, as the kernel does for want of
// memory: it was not slow to end.
func TestKilled(t *testing.T) {
	p, err := role.Start(role.Wire, role.Options{})
	if err != nil {
		t.Fatal(err)
	}
	child, err := os.FindProcess(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Kill(); err != nil {
		t.Error(err)
	}
	if err := p.Stop(); err == nil || strings.Contains(err.Error(), "in time") || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v", err)
	}
}

// TestSignals sends a process of the bench what a terminal and timeout(1) send to all
// of them. It has to live on, to undo what it has set, until the conductor ends it.
func TestSignals(t *testing.T) {
	p, err := role.Start(role.Wire, role.Options{})
	if err != nil {
		t.Fatal(err)
	}
	answers := func() {
		t.Helper()
		if err := p.Call(t.Context(), "rest", nil, nil); err == nil || !strings.Contains(err.Error(), `no method "rest"`) {
			t.Errorf("got %v", err)
		}
	}
	answers() // it has begun
	child, err := os.FindProcess(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if err := child.Signal(s); err != nil {
			t.Errorf("%v: %v", s, err)
		}
		answers()
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}
