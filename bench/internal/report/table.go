package report

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/afxnet/afxnet/bench/internal/summary"
)

// column is a figure in the table.
type column struct{ title, metric string }

// The columns by kind of case; those that no row has a figure for are left out.
var columns = []column{
	{"p50 us", "p50_us"}, {"p99 us", "p99_us"}, {"p99.9 us", "p999_us"},
	{"ops/s", "ops_s"}, {"Gbit/s", "gbit_s"},
	{"packets/s", "packets_s"}, {"cpu ns/packet", "cpu_ns_per_packet"}, {"calls/packet", "calls_per_packet"},
	{"cpu ns/B", "cpu_ns_per_byte"}, {"B/frame", "bytes_per_frame"}, {"allocs/frame", "allocs_per_frame"}, {"frames/op", "frames_per_op"},
	{"/ gvisor: Gbit/s", "gbit_s_ratio_to_gvisor"}, {"/ gvisor: cpu/B", "cpu_ns_per_byte_ratio_to_gvisor"}, {"/ gvisor: cpu/op", "cpu_us_per_op_ratio_to_gvisor"},
	{"/ C: packets/s", "packets_s_ratio_to_c"},
	{"cpu/op us", "cpu_us_per_op"}, {"server", "server_cpu_us_per_op"}, {"client", "client_cpu_us_per_op"},
	{"sys/op", "syscalls_per_op"}, {"client", "client_syscalls_per_op"},
	{"rx fr/op", "rx_frames_per_op"}, {"tx fr/op", "tx_frames_per_op"}, {"allocs/op", "allocs_per_op"},
	{"switches/s", "voluntary_switches_s"}, {"sys/s", "syscalls_s"},
	{"cpu ms/s", "server_cpu_ms_s"}, {"B/conn", "memory_bytes_per_conn"}, {"machine B/conn", "machine_memory_bytes_per_conn"},
}

// ratios are what the last columns compare with the kernel: the first that a row
// has.
var ratios = []column{{"p50", "p50_us"}, {"Gbit/s", "gbit_s"}}

// Table writes the environment, and a table for each case.
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
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	shown := shownColumns(rows)
	fmt.Fprint(t, "peer\t")
	for _, c := range shown {
		fmt.Fprintf(t, "%s\t", c.title)
	}
	ratio := ratioColumn(rows)
	if ratio.metric != "" {
		fmt.Fprintf(t, "%s / kernel\t[95%%]\tserver cpu / kernel\t", ratio.title)
	}
	fmt.Fprintln(t)
	few := false
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t", r.Peer)
		for _, c := range shown {
			mark := ""
			if c.metric == "p999_us" && r.Samples < summary.EnoughForP999 {
				mark, few = "*", true
			}
			f, ok := r.Figure(c.metric)
			if !ok {
				fmt.Fprint(t, "-\t")
				continue
			}
			fmt.Fprintf(t, "%s%s\t", number(f.Value), mark)
		}
		if ratio.metric != "" {
			printRatio(t, r, ratio.metric)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if few {
		fmt.Fprintf(w, "* from fewer than %d samples\n", summary.EnoughForP999)
	}
	return nil
}

func printRatio(w io.Writer, r summary.Row, metric string) {
	if f, ok := r.Figure(metric); ok && f.Ratio != nil {
		fmt.Fprintf(w, "%.2f\t", f.Ratio.Value)
		if f.Ratio.HasInterval() {
			fmt.Fprintf(w, "[%.2f, %.2f]\t", f.Ratio.Low, f.Ratio.High)
		} else {
			fmt.Fprint(w, "-\t")
		}
	} else {
		fmt.Fprint(w, "-\t-\t")
	}
	if f, ok := r.Figure("server_cpu_us_per_op"); ok && f.Ratio != nil {
		fmt.Fprintf(w, "%.2f\t", f.Ratio.Value)
	} else {
		fmt.Fprint(w, "-\t")
	}
}

// shownColumns returns the columns that some row has.
func shownColumns(rows []summary.Row) (shown []column) {
	for _, c := range columns {
		for _, r := range rows {
			if _, ok := r.Figure(c.metric); ok {
				shown = append(shown, c)
				break
			}
		}
	}
	return shown
}

func hasFigure(rows []summary.Row, metric string) bool {
	for _, r := range rows {
		if _, ok := r.Figure(metric); ok {
			return true
		}
	}
	return false
}

func ratioColumn(rows []summary.Row) column {
	for _, c := range ratios {
		for _, r := range rows {
			if f, ok := r.Figure(c.metric); ok && f.Ratio != nil {
				return c
			}
		}
	}
	return column{}
}

// number shows three or four digits.
func number(v float64) string {
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
