package report

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/afxnet/afxnet/bench/internal/stat"
	"github.com/afxnet/afxnet/bench/internal/summary"
)

// column is a figure in a table, or with vs its ratio to the kernel's.
type column struct {
	title, metric string
	vs            bool
}

// block is a table of columns; those that no row has a figure for are left out.
type block struct {
	intervals bool // shown behind the figures
	columns   []column
}

// blocks are what each case shows: results, how they compare, and what
// explains them.
var blocks = []block{
	{true, []column{
		{title: "p50 us", metric: "p50_us"}, {title: "p99 us", metric: "p99_us"}, {title: "p99.9 us", metric: "p999_us"},
		{title: "ops/s", metric: "ops_s"}, {title: "Gbit/s", metric: "gbit_s"},
		{title: "packets/s", metric: "packets_s"}, {title: "cpu ns/packet", metric: "cpu_ns_per_packet"},
		{title: "cpu ns/B", metric: "cpu_ns_per_byte"}, {title: "cpu us/op", metric: "cpu_us_per_op"},
		{title: "cpu ms/s", metric: "cpu_ms_s"}, {title: "server cpu ms/s", metric: "server_cpu_ms_s"},
		{title: "B/conn", metric: "memory_bytes_per_conn"}, {title: "machine B/conn", metric: "machine_memory_bytes_per_conn"},
	}},
	{true, []column{
		{"p50 / kernel", "p50_us", true}, {"p99 / kernel", "p99_us", true}, {"p99.9 / kernel", "p999_us", true},
		{"ops/s / kernel", "ops_s", true}, {"Gbit/s / kernel", "gbit_s", true}, {"Gbit/s / raw", summary.RatioToRaw, false},
		{"cpu/op / kernel", "cpu_us_per_op", true}, {"server cpu / kernel", "server_cpu_us_per_op", true},
		{"gap closed: p50", "p50_us_gap_closed", false}, {"ops/s", "ops_s_gap_closed", false},
		{"Gbit/s / gvisor", "gbit_s_ratio_to_gvisor", false}, {"cpu/B / gvisor", "cpu_ns_per_byte_ratio_to_gvisor", false},
		{"cpu/op / gvisor", "cpu_us_per_op_ratio_to_gvisor", false},
		{"Gbit/s / gvisor-gro", "gbit_s_ratio_to_gvisor-gro", false}, {"cpu/B / gvisor-gro", "cpu_ns_per_byte_ratio_to_gvisor-gro", false},
		{"cpu/op / gvisor-gro", "cpu_us_per_op_ratio_to_gvisor-gro", false},
		{"packets/s / C", "packets_s_ratio_to_c", false},
	}},
	{false, []column{
		{title: "server cpu us/op", metric: "server_cpu_us_per_op"}, {title: "client", metric: "client_cpu_us_per_op"},
		{title: "backend", metric: "backend_cpu_us_per_op"}, {title: "softirq", metric: "softirq_us_per_op"},
		{title: "sys/op", metric: "syscalls_per_op"}, {title: "client", metric: "client_syscalls_per_op"},
		{title: "rx fr/op", metric: "rx_frames_per_op"}, {title: "tx fr/op", metric: "tx_frames_per_op"},
		{title: "allocs/op", metric: "allocs_per_op"}, {title: "switches/s", metric: "voluntary_switches_s"}, {title: "lost", metric: "lost"},
		{title: "sys/s", metric: "syscalls_s"}, {title: "wakeups/s", metric: "peer_tx_wakeups_s"}, {title: "sleeps/s", metric: "peer_poller_sleeps_s"},
		{title: "rx fr/s", metric: "rx_frames_s"}, {title: "tx fr/s", metric: "tx_frames_s"}, {title: "allocs/s", metric: "allocs_s"},
		{title: "calls/packet", metric: "calls_per_packet"}, {title: "allocs/packet", metric: "allocs_per_packet"},
		{title: "B/frame", metric: "bytes_per_frame"}, {title: "allocs/frame", metric: "allocs_per_frame"}, {title: "frames/op", metric: "frames_per_op"},
		{title: "sys/frame", metric: "syscalls_per_frame"},
	}},
}

// Table writes the environment, and tables for each case.
func Table(w io.Writer, env Environment, rows []summary.Row) error {
	if _, err := fmt.Fprintln(w, env); err != nil {
		return err
	}
	for _, rows := range byCase(rows) {
		if err := caseTable(w, rows); err != nil {
			return err
		}
	}
	return nil
}

func caseTable(w io.Writer, rows []summary.Row) error {
	op := ""
	if _, bulk := rows[0].Figure("gbit_s"); bulk && hasFigure(rows, "cpu_us_per_op") {
		op = " (an op is 1 MiB)"
	}
	fmt.Fprintf(w, "\n%s %s%s\n", rows[0].Workload, rows[0].Params, op)
	few := false
	for _, b := range blocks {
		shown := shownColumns(rows, b.columns)
		if len(shown) == 0 {
			continue
		}
		err := grid(w, "peer", shown, rows, func(r summary.Row) string { return r.Peer }, func(c column, r summary.Row) string {
			mark := ""
			if c.metric == "p999_us" && r.Samples < summary.EnoughForP999 {
				mark, few = "*", true
			}
			return c.cell(r, b.intervals, mark)
		})
		if err != nil {
			return err
		}
	}
	if err := ablationTable(w, rows); err != nil {
		return err
	}
	if few {
		fmt.Fprintf(w, "* from fewer than %d samples\n", summary.EnoughForP999)
	}
	most := 0
	for _, r := range rows {
		most = max(most, r.Rounds)
	}
	for _, r := range rows {
		if r.Rounds < most {
			fmt.Fprintf(w, "%s: from %d rounds, others have %d\n", r.Peer, r.Rounds, most)
		}
	}
	return nil
}

// grid writes a table with a line for each row, under titles of which corner is
// that of the names.
func grid(w io.Writer, corner string, columns []column, rows []summary.Row, name func(summary.Row) string, cell func(column, summary.Row) string) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%s\t", corner)
	for _, c := range columns {
		fmt.Fprintf(t, "%s\t", c.title)
	}
	fmt.Fprintln(t)
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t", name(r))
		for _, c := range columns {
			fmt.Fprintf(t, "%s\t", cell(c, r))
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// estimate returns what the column shows of a row.
func (c column) estimate(r summary.Row) (stat.Estimate, bool) {
	f, ok := r.Figure(c.metric)
	if !ok || c.vs && f.Ratio == nil {
		return stat.Estimate{}, false
	}
	if c.vs {
		return *f.Ratio, true
	}
	return f.Estimate, true
}

func (c column) cell(r summary.Row, interval bool, mark string) string {
	e, ok := c.estimate(r)
	if !ok {
		return "-"
	}
	text := number(e.Value) + mark
	if interval && e.HasInterval() {
		text += fmt.Sprintf(" [%s, %s]", number(e.Low), number(e.High))
	}
	return text
}

// shownColumns returns the columns that some row has.
func shownColumns(rows []summary.Row, columns []column) (shown []column) {
	for _, c := range columns {
		for _, r := range rows {
			if _, ok := c.estimate(r); ok {
				shown = append(shown, c)
				break
			}
		}
	}
	return shown
}

func hasFigure(rows []summary.Row, metric string) bool {
	return len(shownColumns(rows, []column{{metric: metric}})) != 0
}

// number shows three or four digits.
func number(v float64) string {
	v += 0 // not -0
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.005 || a == 0:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.4f", v)
	}
}
