package report

import (
	"bytes"
	"fmt"
	"html/template"
	"io"

	"github.com/afxnet/afxnet/bench/internal/summary"
)

// page is one file with nothing to fetch: the plots are SVG elements in it.
var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>bench</title>
<style>
body { font: 15px/1.4 sans-serif; margin: 1.5em auto; max-width: 110em; padding: 0 1em; color: #222; background: #fff }
h2 { border-top: 1px solid #ccc; padding-top: .6em; margin: 1.4em 0 .3em; font-size: 1.15em }
pre { overflow-x: auto; background: #f5f5f5; padding: .6em; font-size: 12px }
.plots { display: flex; flex-wrap: wrap; gap: 1em }
.plots svg { width: 24em; max-width: 100%; height: auto; overflow: visible }
.quick { background: #fff0c0; padding: .5em }
</style></head><body>
<h1>bench</h1>
{{if .Env.Quick}}<p class="quick">A quick run: its figures are not for quoting.</p>{{end}}
<pre>{{.Env}}</pre>
<p>Figures are medians over rounds, thin lines their 95% intervals. Latencies are those of all rounds together.
CPU time is per operation, in bulk cases per MiB.</p>
{{range .Cases}}<h2>{{.Title}}</h2>
<div class="plots">{{range .Plots}}{{.}}{{end}}</div>
<pre>{{.Table}}</pre>
{{end}}</body></html>
`))

// part is what the page has on one case.
type part struct {
	Title, Table string
	Plots        []template.HTML
}

// HTML writes a page with latency distributions, throughput and CPU time per
// operation of every case. It needs no network to be read.
func HTML(w io.Writer, env Environment, rows []summary.Row) error {
	var cases []part
	for _, rows := range byCase(rows) {
		p, err := newPart(rows)
		if err != nil {
			return err
		}
		cases = append(cases, p)
	}
	err := page.Execute(w, struct {
		Env   Environment
		Cases []part
	}{env, cases})
	if err != nil {
		return fmt.Errorf("report: page: %w", err)
	}
	return nil
}

func newPart(rows []summary.Row) (part, error) {
	var table bytes.Buffer
	if err := caseTable(&table, rows); err != nil {
		return part{}, err
	}
	p := part{Title: rows[0].Workload + " " + rows[0].Params.String(), Table: table.String()}
	if hasLatencies(rows) {
		plot, err := latencyPlot(rows)
		if err != nil {
			return p, err
		}
		p.Plots = append(p.Plots, plot)
	}
	for _, b := range []struct{ title, metric string }{
		{"operations per second", "ops_s"},
		{"throughput", "gbit_s"},
		{"packets per second", "packets_s"},
		{"CPU time per packet", "cpu_ns_per_packet"},
		{"CPU time per byte", "cpu_ns_per_byte"},
		{"CPU time per operation, machine", "cpu_us_per_op"},
		{"CPU time per operation, server", "server_cpu_us_per_op"},
		{"CPU time, machine", "cpu_ms_s"},
		{"CPU time, server", "server_cpu_ms_s"},
		{"memory per connection, server", "memory_bytes_per_conn"},
	} {
		plot, err := barPlot(rows, b.title, b.metric)
		if err != nil {
			return p, err
		}
		if plot != "" {
			p.Plots = append(p.Plots, plot)
		}
	}
	return p, nil
}

func hasLatencies(rows []summary.Row) bool {
	for _, r := range rows {
		if r.Merged != nil {
			return true
		}
	}
	return false
}

// byCase splits rows where another case begins.
func byCase(rows []summary.Row) (cases [][]summary.Row) {
	start := 0
	for i := range rows {
		if i > start && (rows[i].Workload != rows[start].Workload || rows[i].Params.String() != rows[start].Params.String()) {
			cases = append(cases, rows[start:i])
			start = i
		}
	}
	if start < len(rows) {
		cases = append(cases, rows[start:])
	}
	return cases
}
