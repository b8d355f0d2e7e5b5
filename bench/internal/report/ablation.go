package report

import (
	"fmt"
	"io"

	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/summary"
)

// worth are the columns of the ablation: figures without a mechanism divided by
// those with all.
var worth = []column{
	{title: "p50", metric: "p50_us_ratio_to_" + peers.Full}, {title: "p99", metric: "p99_us_ratio_to_" + peers.Full},
	{title: "ops/s", metric: "ops_s_ratio_to_" + peers.Full}, {title: "Gbit/s", metric: "gbit_s_ratio_to_" + peers.Full},
	{title: "cpu/op", metric: "cpu_us_per_op_ratio_to_" + peers.Full}, {title: "server cpu", metric: "server_cpu_us_per_op_ratio_to_" + peers.Full},
}

// ablationTable shows what each mechanism is worth in a case, if more than one
// was left out in turn.
func ablationTable(w io.Writer, rows []summary.Row) error {
	var lacking []summary.Row
	only := false // there is a peer that has no other purpose
	for _, r := range rows {
		if m := peers.Lacks(r.Peer); m != "" {
			lacking = append(lacking, r)
			e, err := peers.Lookup(r.Peer)
			only = only || err == nil && e.Ablation
		}
	}
	shown := shownColumns(lacking, worth)
	if !only || len(shown) == 0 {
		return nil
	}
	fmt.Fprintf(w, "what each mechanism is worth: figures without it, divided by those of %s\n", peers.Full)
	return grid(w, "mechanism", shown, lacking, func(r summary.Row) string { return peers.Lacks(r.Peer) },
		func(c column, r summary.Row) string { return c.cell(r, true, "") })
}
