package summary

import (
	"slices"
	"strings"
)

// metric is what a name means.
type metric struct {
	name, unit string
}

// metrics are the names in the order in which they are given. Others follow,
// in the order of the alphabet.
var metrics = []metric{
	{"p50_us", "us"}, {"p90_us", "us"}, {"p99_us", "us"}, {p999, "us"}, {most, "us"},
	{"ops_s", "1/s"}, {"gbit_s", "Gbit/s"}, {RatioToRaw, "1"},
	{"p50_us" + gapClosed, "1"}, {"ops_s" + gapClosed, "1"},
	{"cpu_us_per_op", "us"}, {"server_cpu_us_per_op", "us"}, {"client_cpu_us_per_op", "us"},
	{"backend_cpu_us_per_op", "us"}, {"softirq_us_per_op", "us"},
	{"syscalls_per_op", "1"}, {"client_syscalls_per_op", "1"}, {"backend_syscalls_per_op", "1"},
	{"rx_frames_per_op", "1"}, {"tx_frames_per_op", "1"}, {"rx_bytes_per_op", "B"}, {"tx_bytes_per_op", "B"},
	{"allocs_per_op", "1"}, {"alloc_bytes_per_op", "B"},
	{"voluntary_switches_s", "1/s"}, {"involuntary_switches_s", "1/s"}, {"syscalls_s", "1/s"},
	{"rx_frames_s", "1/s"}, {"tx_frames_s", "1/s"}, {"allocs_s", "1/s"},
	{"cpu_ms_s", "ms/s"}, {"server_cpu_ms_s", "ms/s"}, {"memory_bytes_per_conn", "B"}, {"machine_memory_bytes_per_conn", "B"},
	{"packets_s", "1/s"}, {"cpu_ns_per_packet", "ns"}, {"calls_per_packet", "1"}, {"allocs_per_packet", "1"},
	{"cpu_ns_per_byte", "ns"}, {"bytes_per_frame", "B"}, {"allocs_per_frame", "1"}, {"frames_per_op", "1"}, {"syscalls_per_frame", "1"},
	{"lost", "1"}, {"stolen_share", "1"},
}

// Unit returns the unit of a metric. Names that the table does not have are
// counts: what the peer counted, or one kind of system call, in the idle workload per
// second.
func Unit(name string) string {
	if i := slices.IndexFunc(metrics, func(m metric) bool { return m.name == name }); i >= 0 {
		return metrics[i].unit
	}
	if strings.HasSuffix(name, "_s") {
		return "1/s"
	}
	return "1"
}

// byMetric orders names as metrics has them, others behind by name.
func byMetric(a, b string) int {
	place := func(name string) int {
		if i := slices.IndexFunc(metrics, func(m metric) bool { return m.name == name }); i >= 0 {
			return i
		}
		return len(metrics)
	}
	if d := place(a) - place(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// quantiles are the metrics that come from the latencies of an operation.
var quantiles = []struct {
	name string
	q    float64
}{{"p50_us", 0.5}, {"p90_us", 0.9}, {"p99_us", 0.99}, {p999, 0.999}}

// p999 is taken from all rounds together: one round has too few samples.
const p999 = "p999_us"

// most is the longest latency of all rounds, which has no interval.
const most = "max_us"

// EnoughForP999 is how many samples a p99.9 needs to be quoted.
const EnoughForP999 = 100_000
