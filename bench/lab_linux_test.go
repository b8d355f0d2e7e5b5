package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/bench/internal/offload"
	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/plan"
	"github.com/afxnet/afxnet/bench/internal/summary"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// round is how long each round takes.
const round = 100 * time.Millisecond

// conduct makes one round of some workloads and peers, and returns the table, too.
func conduct(t *testing.T, args ...string) (c *conductor, table string) {
	t.Helper()
	var log, text bytes.Buffer
	c = begin(t, &log, append([]string{"-quick", "-rounds", "1", "-d", round.String(), "-idle", round.String()}, args...)...)
	if err := errors.Join(c.run(t.Context()), c.close(), c.output(&text)); err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	return c, text.String()
}

// begin opens the bench with these arguments. The test closes it.
func begin(t *testing.T, log io.Writer, args ...string) *conductor {
	t.Helper()
	o, err := parse(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newConductor(t.Context(), o, log)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// figures returns the rows of a conductor by what they are of.
func figures(c *conductor) map[string]summary.Row {
	found := make(map[string]summary.Row)
	for _, r := range summary.Rows(c.samples) {
		found[r.Workload+" "+r.Params.String()+" "+r.Peer] = r
	}
	return found
}

// steady wants a check of a row to pass that fails where the machine has stalled: what
// it is about is measured once more, by itself, and at most twice. What is wrong fails
// each time. Contestants of raw, which are no peers, take part whoever the peers are.
func steady(t *testing.T, r summary.Row, check func(summary.Row) error) {
	t.Helper()
	peer := r.Peer
	if !slices.Contains(peers.Names(), peer) {
		peer = peers.Kernel
	}
	err := check(r)
	for range 2 {
		if err == nil {
			return
		}
		t.Log(err, "; once more")
		c, _ := conduct(t, "-workloads", r.Workload, "-match", "^"+regexp.QuoteMeta(r.Params.String())+"$", "-peers", peer)
		err = check(figures(c)[r.Workload+" "+r.Params.String()+" "+r.Peer])
	}
	if err != nil {
		t.Error(err)
	}
}

// TestLab runs a tiny round of every workload with the kernel and this project,
// and checks what can be counted.
func TestLab(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	if testing.Short() {
		t.Skip("takes seconds")
	}
	dir := t.TempDir()
	c, table := conduct(t, "-workloads", strings.Join(plan.Names(), ","), "-peers", "kernel,floor,raw,afxnet",
		"-json", filepath.Join(dir, "out.json"), "-html", filepath.Join(dir, "out.html"))

	if c.env.Driver != "veth" || c.env.Bind != "copy" || c.env.Attach != "native" || c.env.MTU != 1500 {
		t.Errorf("the environment is %+v", c.env)
	}
	if b := c.env.Peers["afxnet"]["tx_budget"]; b != "32" && b != "128" { // before Linux 6.17, and since
		t.Errorf("afxnet has a TX budget of %q", b)
	}
	found := figures(c)
	solo := make(map[string]int) // contestants by case
	for _, r := range found {
		solo[r.Workload+" "+r.Params.String()]++
	}
	for _, cases := range c.plan {
		for _, cs := range cases {
			if cs.Solo != "" {
				checkSolo(t, cs, found, solo[cs.Workload+" "+cs.Params.String()])
				continue
			}
			for _, e := range c.peers {
				if !cs.Takes(e) {
					continue
				}
				peer := e.Name
				name := cs.Workload + " " + cs.Params.String() + " " + peer
				r, ok := found[name]
				if !ok {
					t.Errorf("no figures of %s", name)
					continue
				}
				checkRow(t, name, r)
			}
		}
	}
	for _, peer := range []string{"kernel", "afxnet"} {
		steady(t, found["rr tcp 64 B "+peer], func(r summary.Row) error {
			err := errors.Join(near(r, "rx_frames_per_op", 1), near(r, "tx_frames_per_op", 1))
			if !c.uncounted {
				err = errors.Join(err, near(r, map[string]string{"kernel": "syscalls_write_per_op", "afxnet": "syscalls_sendto_per_op"}[peer], 1))
			}
			return err
		})
	}
	for name, metric := range map[string]string{
		"stream tcp 1 conns afxnet": summary.RatioToRaw, "source tcp 1 conns raw": summary.RatioToRaw, "crr tcp 64 B afxnet": "ops_s_gap_closed",
	} {
		if f, ok := found[name].Figure(metric); !ok {
			t.Errorf("%s: no %s: %+v", name, metric, f)
		}
	}
	for name, metric := range map[string]string{"wire bulk afxnet": "syscalls_per_frame", "wire rr gvisor": "syscalls_per_op"} {
		if _, ok := found[name].Figure(metric); ok == c.uncounted {
			t.Errorf("%s has %s: %v, want %v", name, metric, ok, !c.uncounted)
		}
	}
	if !strings.Contains(table, "not for quoting") {
		t.Errorf("a quick run does not say so:\n%s", table)
	}
}

// TestRawEnvironment wants to be told how a socket was bound and what its process runs
// with also where no peer is open, and what its packets cost.
func TestRawEnvironment(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	if testing.Short() {
		t.Skip("takes seconds")
	}
	c, _ := conduct(t, "-workloads", "raw", "-match", "^rx ", "-peers", "kernel", "-gomaxprocs", "3")
	if c.env.Bind != "copy" || c.env.Attach != "native" || c.env.GOMAXPROCS != 3 || c.env.Peers["xsk"] == nil {
		t.Errorf("the environment is %+v", c.env)
	}
	row, ok := figures(c)["raw rx 64 B xsk"]
	if !ok {
		t.Fatal("no figures")
	}
	steady(t, row, func(r summary.Row) error {
		if f, ok := r.Figure("allocs_per_packet"); !ok || f.Value >= 1 {
			return fmt.Errorf("allocations per packet are %+v (%v)", f, ok)
		}
		return nil
	})
}

// TestJumbo measures frames that are longer than the MTU, where the kernel can (6.6), and
// leaves the link as it was.
func TestJumbo(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	if testing.Short() {
		t.Skip("takes seconds")
	}
	var log bytes.Buffer
	c := begin(t, &log, "-rounds", "1", "-d", round.String(), "-workloads", "raw", "-match", "^rx 9014 B$", "-peers", "kernel")
	runErr := c.run(t.Context())
	ifc, err := c.bed.look()
	if err := errors.Join(runErr, err, c.close()); err != nil || len(c.failures) != 0 || ifc.MTU != 1500 {
		t.Fatalf("%v, MTU %d\n%s", err, ifc.MTU, &log)
	}
	if f, ok := figures(c)["raw rx 9014 B xsk"].Figure("gbit_s"); len(c.impossible) == 0 && (!ok || f.Value <= 0) {
		t.Errorf("got %+v (%v)\n%s", f, ok, &log)
	}
}

// TestEnvironmentPin tells where both ends run, but of an agent, who chooses for himself.
func TestEnvironmentPin(t *testing.T) {
	for iface, want := range map[string]string{"": ", server on CPU 0, client on CPU 1 2\n", "lo": ", server on CPU 0\n"} {
		e, err := environment(options{iface: iface, pin: [2][]int{{0}, {1, 2}}}, &testbed{device: "lo"})
		if err != nil || !strings.Contains(e.String(), want) {
			t.Errorf("got %v, %v, want %q", e, err, want)
		}
	}
}

// TestBackendPin has the server behind the proxy run where the server under test does.
func TestBackendPin(t *testing.T) {
	lab.Require(t, lab.NetNS)
	var all, got unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	first := 0
	for !all.IsSet(first) {
		first++
	}
	c := begin(t, io.Discard, "-quick", "-rounds", "1", "-d", round.String(), "-workloads", "proxy", "-peers", "kernel", "-pin", fmt.Sprintf("%d/%d", first, first))
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := unix.SchedGetaffinity(c.backend.PID, &got); err != nil || got.Count() != 1 || !got.IsSet(first) {
		t.Errorf("the backend may run on %d CPUs, %v, want CPU %d", got.Count(), err, first)
	}
}

// TestTuneClient has a client that keeps nothing from one peer for the next.
func TestTuneClient(t *testing.T) {
	l := lab.New(t, lab.Config{})
	var text []byte
	err := l.Peer.Do(func() (err error) {
		if err = tuneClient(); err == nil {
			text, err = os.ReadFile("/proc/sys/net/ipv4/tcp_no_metrics_save")
		}
		return err
	})
	if err != nil || strings.TrimSpace(string(text)) != "1" {
		t.Errorf("got %q, %v", text, err)
	}
}

// TestTuneMachine has an agent's machine as it was before.
func TestTuneMachine(t *testing.T) {
	l := lab.New(t, lab.Config{})
	var got []string // before, meanwhile, and afterwards
	look := func() error {
		text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_max_tw_buckets")
		got = append(got, strings.TrimSpace(string(text)))
		return err
	}
	err := l.Peer.Do(func() error {
		if err := look(); err != nil {
			return err
		}
		undo, err := tuneMachine()
		if err != nil {
			return err
		}
		return errors.Join(look(), undo(), look())
	})
	if err != nil {
		t.Fatal(err)
	}
	if got[0] == "256" || got[1] != "256" || got[2] != got[0] {
		t.Errorf("got %q", got)
	}
}

// TestCrash has a server that dies and leaves the offloads of its peer behind. The next
// peer, the kernel, has those that the link had at first: its frames are many segments.
func TestCrash(t *testing.T) {
	lab.Require(t, lab.NetNS)
	c := begin(t, io.Discard, "-quick", "-rounds", "1", "-d", round.String(), "-workloads", "source", "-peers", "kernel")
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	dying := peers.Entry{Offloads: offload.Complete}
	undo, err := c.profile(dying)
	if err != nil {
		t.Fatal(err)
	}
	err = c.bed.inside(func() error {
		_, err := hostif.SetOffload(c.bed.device, "tx-tcp-segmentation", false) // as who has died had it, and has no record
		return err
	})
	if err := errors.Join(err, undo(), c.turn(t.Context(), c.peers[0], c.plan[0], 1)); err != nil || len(c.failures) != 0 {
		t.Fatal(err, c.failures)
	}
	r := figures(c)["source tcp 1 conns kernel"]
	sent, ok := r.Figure("tx_bytes_per_op")
	frames, _ := r.Figure("tx_frames_per_op")
	if !ok || sent.Value < 2*1514*frames.Value {
		t.Errorf("%v bytes in %v frames (%v): one segment each", sent.Value, frames.Value, ok)
	}
}

// checkSolo wants this project's figures of a case without a client, and for the
// stacks in memory gvisor's beside them.
func checkSolo(t *testing.T, cs plan.Case, found map[string]summary.Row, contestants int) {
	t.Helper()
	name, metric := "xsk", "packets_s"
	if cs.Workload == plan.Wire {
		name, metric = "afxnet", map[string]string{"bulk": "gbit_s_ratio_to_gvisor", "rr": "ops_s_ratio_to_gvisor"}[cs.Solo]
		if contestants < 2 {
			t.Errorf("wire %v: %d contestants", cs.Params, contestants)
		}
	}
	r, ok := found[cs.Workload+" "+cs.Params.String()+" "+name]
	f, has := r.Figure(metric)
	if !ok || !has || f.Value <= 0 || f.Ratio != nil {
		t.Errorf("%s %v %s: %s is %+v (%v, %v)", cs.Workload, cs.Params, name, metric, f, ok, has)
	}
}

// checkRow wants something to have happened, and nothing to be lost.
func checkRow(t *testing.T, name string, r summary.Row) {
	t.Helper()
	steady(t, r, func(r summary.Row) error {
		if f, ok := r.Figure("lost"); ok && f.Value != 0 {
			return fmt.Errorf("%s: %v requests are lost", name, f.Value)
		}
		return nil
	})
	for _, metric := range []string{"ops_s", "gbit_s", "voluntary_switches_s"} {
		f, ok := r.Figure(metric)
		if !ok {
			continue
		}
		if f.Value <= 0 && metric != "voluntary_switches_s" {
			t.Errorf("%s: %s is %v", name, metric, f.Value)
		}
		return
	}
	t.Errorf("%s: no figure of what was done: %+v", name, r.Figures)
}

// near wants a count per operation to be within 2%, or more by what Linux sends when
// an answer is not there after its least delay of acknowledgements, 40 ms (TCP_DELACK_MIN
// in include/net/tcp.h): on a machine with other work the rounds have few operations.
func near(r summary.Row, metric string, want float64) error {
	const delays = float64(round/(40*time.Millisecond) + 1)
	rate, known := r.Figure("ops_s")
	f, ok := r.Figure(metric)
	if !ok || !known || f.Value < want*0.98 || f.Value > want*1.02 && (f.Value-want)*rate.Value*round.Seconds() > delays {
		return fmt.Errorf("%s %s %s: %s is %v (%v), want %v", r.Workload, r.Params, r.Peer, metric, f.Value, ok, want)
	}
	return nil
}
