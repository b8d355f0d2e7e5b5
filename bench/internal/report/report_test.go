package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"image/color"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/afxnet/afxnet/bench/internal/inmemory"
	"github.com/afxnet/afxnet/bench/internal/measure"
	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/plan"
	"github.com/afxnet/afxnet/bench/internal/summary"
)

var env = Environment{
	Time: "2026-01-02T03:04:05Z", Kernel: "6.18", Link: "lab (veth)", Interface: "afx0", Driver: "veth", Bind: "copy", Attach: "native",
	MTU: 1500, Queues: 1, GOMAXPROCS: 2, ClientGOMAXPROCS: 2, CPU: "<CPU>", CPUs: 2, Go: "go1", Commit: "abc", Rounds: 4, Duration: "1s",
}

// rows are two cases, one with latencies and one of bulk, of two peers.
func rows() []summary.Row {
	var samples []summary.Sample
	for round := range 8 {
		for i, peer := range []string{"kernel", "afxnet"} {
			h := measure.NewHistogram()
			for k := range 1000 {
				measure.Record(h, time.Duration(10_000+i*5_000+k*100*round))
			}
			encoded, err := h.Encode(hdr.V2CompressedEncodingCookieBase)
			if err != nil {
				panic(err)
			}
			s := summary.Sample{
				Workload: "rr", Params: plan.Params{"network": "tcp", "size": 64}, Peer: peer, Round: round,
				Metrics: map[string]float64{"ops_s": 1e4, "cpu_us_per_op": 3, "server_cpu_us_per_op": 2}, Latencies: encoded,
			}
			summary.Latency(s.Metrics, h)
			samples = append(samples, s, summary.Sample{
				Workload: "stream", Params: plan.Params{"network": "tcp", "conns": 1}, Peer: peer, Round: round,
				Metrics: map[string]float64{"gbit_s": 5 + float64(i*round), "cpu_us_per_op": 300},
			})
		}
	}
	slices.SortStableFunc(samples, func(a, b summary.Sample) int { return strings.Compare(a.Workload, b.Workload) })
	return summary.Rows(samples)
}

// TestJSON checks the form that other programs read: every line has these keys
// and no others.
func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := JSON(&b, env, rows()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(&b)
	if !lines.Scan() {
		t.Fatal("no environment")
	}
	var e map[string]any
	if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"kernel", "driver", "bind", "attach", "mtu", "queues", "gomaxprocs", "cpu", "commit"} {
		if _, ok := e[key]; !ok {
			t.Errorf("the environment has no %q: %v", key, e)
		}
	}
	found := make(map[string]bool)
	for lines.Scan() {
		var l map[string]any
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		keys := make([]string, 0, len(l))
		for k := range l {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if strings.Join(keys, " ") != "metric params peer ratio_to_kernel unit value workload" {
			t.Fatalf("keys %v", keys)
		}
		found[l["workload"].(string)+" "+l["peer"].(string)+" "+l["metric"].(string)] = l["ratio_to_kernel"] != nil
	}
	for name, ratio := range map[string]bool{
		"rr kernel rounds": false, "rr afxnet p50_us": true, "rr afxnet p50_us_ci_low": true, "rr kernel p999_us": true, "rr afxnet samples": false,
		"stream afxnet gbit_s": true, "stream kernel cpu_us_per_op_ci_high": true,
	} {
		if got, ok := found[name]; !ok || got != ratio {
			t.Errorf("%s: there %v, with a ratio %v; want %v", name, ok, got, ratio)
		}
	}
}

// TestJSONOddValues leaves out what JSON cannot say.
func TestJSONOddValues(t *testing.T) {
	all := summary.Rows([]summary.Sample{{
		Workload: "rr", Params: plan.Params{"size": 1}, Peer: "afxnet", Round: 1,
		Metrics: map[string]float64{"ops_s": math.Inf(1), "p50_us": math.NaN(), "gbit_s": 1},
	}})
	var b bytes.Buffer
	if err := JSON(&b, env, all); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n != 3 || !strings.Contains(b.String(), `"ratio_to_kernel":null`) {
		t.Errorf("got %s", &b)
	}
}

// TestMissingRounds has a kernel that failed in most rounds: its row says so, and a
// ratio to it that has no interval is given none.
func TestMissingRounds(t *testing.T) {
	var samples []summary.Sample
	for round := 1; round <= 7; round++ {
		for _, peer := range []string{"kernel", "afxnet"} {
			if peer == "kernel" && round > 1 {
				continue
			}
			samples = append(samples, summary.Sample{
				Workload: "rr", Params: plan.Params{"size": 64}, Peer: peer, Round: round,
				Metrics: map[string]float64{"p50_us": float64(round)},
			})
		}
	}
	all := summary.Rows(samples)
	var table, lines bytes.Buffer
	if err := errors.Join(Table(&table, env, all), JSON(&lines, env, all)); err != nil {
		t.Fatal(err)
	}
	if want := "\nkernel: from 1 rounds, others have 7\n"; !strings.Contains(table.String(), want) || strings.Contains(table.String(), "afxnet: from") {
		t.Errorf("no %q in\n%s", want, &table)
	}
	for metric, want := range map[string]string{"p50_us": `4,"unit":"us","ratio_to_kernel":1}`, "p50_us_ci_low": `"ratio_to_kernel":null}`, "rounds": `"value":7,"unit":"1","ratio_to_kernel":null}`} {
		line := regexp.MustCompile(`.*"afxnet".*"metric":"` + metric + `".*`).FindString(lines.String())
		if !strings.HasSuffix(line, want) {
			t.Errorf("%s: got %s, want %s at its end", metric, line, want)
		}
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := Table(&b, env, rows()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kernel 6.18", "rr tcp 64 B\n", "stream tcp 1 conns (an op is 1 MiB)", "p50 / kernel", "Gbit/s / kernel", "1.00 [1.00, 1.00]", "* from fewer than 100000 samples", "afxnet"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

// TestTableCosts wants each kind of row to show system calls, frames and allocations.
func TestTableCosts(t *testing.T) {
	for workload, metrics := range map[string]map[string]float64{
		"rr":   {"syscalls_per_op": 11111, "rx_frames_per_op": 22222, "allocs_per_op": 33333},
		"idle": {"syscalls_s": 11111, "rx_frames_s": 22222, "allocs_s": 33333},
		"raw":  {"calls_per_packet": 11111, "packets_s": 22222, "allocs_per_packet": 33333},
		"wire": {"syscalls_per_frame": 11111, "frames_per_op": 22222, "allocs_per_frame": 33333},
	} {
		var b bytes.Buffer
		err := Table(&b, env, summary.Rows([]summary.Sample{{Workload: workload, Params: plan.Params{"size": 64}, Peer: "afxnet", Round: 1, Metrics: metrics}}))
		for _, want := range []string{"11111", "22222", "33333"} {
			if err != nil || !strings.Contains(b.String(), want) {
				t.Errorf("%s: %v, no %s in\n%s", workload, err, want, &b)
			}
		}
	}
}

// TestAblationTable is shown if a peer took part that is there for nothing else.
func TestAblationTable(t *testing.T) {
	for _, tc := range []struct {
		peers []string
		want  bool
	}{{[]string{"kernel", "inline", "afxnet"}, false}, {[]string{"inline", "afxnet", "no-gro"}, true}, {[]string{"kernel", "no-gro"}, false}} {
		var samples []summary.Sample
		for round := 1; round <= 6; round++ {
			for i, peer := range tc.peers {
				samples = append(samples, summary.Sample{
					Workload: "rr", Params: plan.Params{"size": 64}, Peer: peer, Round: round,
					Metrics: map[string]float64{"p50_us": float64(i + 1)},
				})
			}
		}
		var b bytes.Buffer
		if err := Table(&b, env, summary.Rows(samples)); err != nil {
			t.Fatal(err)
		}
		_, table, found := strings.Cut(b.String(), "what each mechanism is worth")
		if found != tc.want || found && !regexp.MustCompile(`(?s)inline +2.00 \[2.00, 2.00\].*gro +3.00 \[3.00, 3.00\]`).MatchString(table) {
			t.Errorf("%v:\n%s", tc.peers, &b)
		}
	}
}

// fetched matches what a browser would get from elsewhere.
var fetched = regexp.MustCompile(`(?i)(src|href)\s*=\s*"?[a-z]+://|@import|url\(\s*["']?[a-z]+://|<script|<link`)

func TestHTML(t *testing.T) {
	var b bytes.Buffer
	if err := HTML(&b, env, rows()); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	// Latencies, operations, and CPU of machine and server; throughput and CPU.
	if n := strings.Count(text, "<svg"); n != 6 {
		t.Errorf("%d plots, want 6", n)
	}
	if m := fetched.FindString(text); m != "" {
		t.Errorf("the page fetches something: %s", m)
	}
	if strings.Contains(text, "<?xml") || strings.Contains(text, "<CPU>") {
		t.Error("an XML declaration, or text that was not escaped")
	}
	for _, want := range []string{"<!DOCTYPE html>", "rr tcp 64 B", "latency by percentile", "throughput", "&lt;CPU&gt;"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
}

// TestHTMLSolo wants bars of rate and CPU time also for what has no client.
func TestHTMLSolo(t *testing.T) {
	var b bytes.Buffer
	err := HTML(&b, env, summary.Rows([]summary.Sample{
		{Workload: "raw", Params: plan.Params{"loop": "rx"}, Peer: "xsk", Round: 1, Metrics: map[string]float64{"packets_s": 1e6, "cpu_ns_per_packet": 900}},
		{Workload: "wire", Params: plan.Params{"load": "bulk"}, Peer: "gvisor", Round: 1, Metrics: map[string]float64{"gbit_s": 5, "cpu_ns_per_byte": 2}},
	}))
	if n := strings.Count(b.String(), "<svg"); err != nil || n != 4 {
		t.Errorf("%d plots, %v, want 4", n, err)
	}
}

// TestStyleOfContestants wants contestants that are no peers to be told apart, and not
// to look like the kernel.
func TestStyleOfContestants(t *testing.T) {
	kernel, _ := styleOf(peers.Kernel)
	gvisor := slices.DeleteFunc(slices.Clone(inmemory.Kinds), func(kind string) bool { return slices.Contains(peers.Names(), kind) })
	for _, names := range [][]string{{"xsk", "c"}, gvisor} {
		seen := map[color.RGBA]string{kernel: peers.Kernel}
		for _, name := range names {
			c, dashes := styleOf(name)
			if other, dup := seen[c]; dup || dashes != nil {
				t.Errorf("%s has the colour of %q, %v, and dashes %v", name, other, c, dashes)
			}
			seen[c] = name
		}
	}
}

func TestEmpty(t *testing.T) {
	var b bytes.Buffer
	if err := Table(&b, env, nil); err != nil {
		t.Error(err)
	}
	if err := JSON(&b, env, nil); err != nil {
		t.Error(err)
	}
	if err := HTML(&b, env, nil); err != nil {
		t.Error(err)
	}
}
