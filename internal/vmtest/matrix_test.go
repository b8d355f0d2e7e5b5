package vmtest

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
)

var matrix = flag.Bool("matrix", false, "print which mode works on which device and kernel; some minutes, and 450 MB from Debian the first time")

// TestMatrix tries all modes on kernels of several ages, and prints a table.
func TestMatrix(t *testing.T) {
	if !*matrix {
		t.Skip("only with -matrix")
	}
	*run = true
	m := prepare(t)
	pairs := []wiring.Pair{wiring.IGB, wiring.Virtio, wiring.VirtioPlain}
	var table table
	for _, series := range []string{"6.1", "6.12", "6.18", Newest} {
		k, err := m.store.Kernel(t.Context(), Generic, series)
		if err != nil {
			lab.Missing(t, lab.VM, err)
		}
		t.Run(k.Release, func(t *testing.T) {
			table.add(k.Release, m.boot(t, k, pairs, "^TestMatrix$", wiring.MatrixEnv+"=1"))
		})
	}
	fmt.Println(table.String())
}

// table has a row for each mode of a device and a column for each kernel.
type table struct {
	kernels []string
	rows    []string
	cells   map[[2]string]string // by row and kernel
}

// add makes a column of a guest's results.
func (b *table) add(kernel string, r *result) {
	if b.cells == nil {
		b.cells = make(map[[2]string]string)
	}
	if !slices.Contains(b.kernels, kernel) {
		b.kernels = append(b.kernels, kernel)
	}
	for line := range strings.Lines(r.log.String()) {
		pair, mode, verdict, ok := wiring.ParseMatrixLine(line)
		if !ok {
			continue
		}
		row := pair.String() + " | " + mode
		if !slices.Contains(b.rows, row) {
			b.rows = append(b.rows, row)
		}
		b.cells[[2]string{row, kernel}] = verdict
	}
	for _, s := range r.sub {
		b.add(kernel, s)
	}
}

// String is the table in Markdown.
func (b *table) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "| device | mode | %s |\n|---|---|%s\n", strings.Join(b.kernels, " | "), strings.Repeat("---|", len(b.kernels)))
	for _, row := range b.rows {
		fmt.Fprintf(&s, "| %s |", row)
		for _, k := range b.kernels {
			fmt.Fprintf(&s, " %s |", b.cells[[2]string{row, k}])
		}
		s.WriteString("\n")
	}
	return s.String()
}

// TestTable makes a table of two kernels' results.
func TestTable(t *testing.T) {
	var b table
	for _, k := range []struct{ release, igb string }{{"6.1", "no: bind: operation not supported"}, {"6.18", "yes"}} {
		r := &result{}
		r.at([]string{"TestMatrix", "igb", "zero-copy"}).log.WriteString("    x_test.go:1: " + wiring.MatrixLine(wiring.IGB, "zero-copy", k.igb) + "\n")
		b.add(k.release, r)
	}
	const want = `| device | mode | 6.1 | 6.18 |
|---|---|---|---|
| igb | zero-copy | no: bind: operation not supported | yes |
`
	if got := b.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
