package vmtest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
)

var (
	matrix = flag.Bool("matrix", false, "print which mode works on which device and kernel; some 6 minutes, and 450 MB from Debian the first time")
	readme = flag.Bool("readme", false, "with -matrix, write that into the README too")
)

// tableFile is what the README's table was made of.
const tableFile = "testdata/matrix.json"

var readmeFile = filepath.Join("..", "..", "README.md")

// TestMatrix tries all modes on kernels of several ages, and prints a table.
func TestMatrix(t *testing.T) {
	if !*matrix {
		t.Skip("only with -matrix")
	}
	*run = true
	m := prepare(t)
	pairs := []wiring.Pair{wiring.IGB, wiring.Virtio, wiring.VirtioPlain, wiring.VirtioMulti}
	if err := tryTap(); err != nil {
		t.Logf("without virtio with two queues: %v", err)
		pairs = pairs[:3]
		if *readme {
			t.Fatal("the README's table has it")
		}
	}
	var b table
	for _, series := range []string{"6.1", "6.12", "6.18", Newest} {
		k, err := m.store.Kernel(t.Context(), series)
		if err != nil {
			lab.Missing(t, lab.VM, err)
		}
		t.Run(k.Release, func(t *testing.T) {
			b.addKernel(k.Release, m.boot(t, &Machine{Kernel: k, Pairs: pairs, Run: "^TestMatrix$"}, wiring.MatrixEnv+"=1"))
		})
	}
	fmt.Println(b.String())
	if !*readme || t.Failed() {
		return
	}
	data, err := b.encode()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(readmeFile)
	if err != nil {
		t.Fatal(err)
	}
	begin, end, err := findTable(text)
	if err != nil {
		t.Fatal(err)
	}
	text = slices.Concat(text[:begin], []byte(b.String()), text[end:])
	for name, content := range map[string][]byte{tableFile: data, readmeFile: text} {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadme wants the README's table to be that of the results beside this test.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	b, err := parseTable(data)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(readmeFile)
	if err != nil {
		t.Fatal(err)
	}
	begin, end, err := findTable(text)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(text[begin:end]), b.String(); got != want {
		t.Errorf("the README says\n%sand the results are\n%swrite them with go test -matrix -readme", got, want)
	}
	for _, r := range b.Rows {
		if slices.Contains(r.Verdicts, "") {
			t.Errorf("%s, %s: not tried on each kernel: %q", r.Device, r.Mode, r.Verdicts)
		}
	}
}

// TestTable makes a table of two kernels' results.
func TestTable(t *testing.T) {
	var b table
	for _, k := range []struct{ release, igb string }{{"6.1.0-50-amd64", "no: bind, EOPNOTSUPP"}, {"6.18.15+deb13-amd64", "yes"}} {
		r := &result{}
		say := func(device, mode, verdict string) {
			r.at([]string{"TestMatrix", device, mode}).log.WriteString("    x_test.go:1: " + wiring.MatrixLine(device, mode, verdict) + "\n")
		}
		say("igb", "zero-copy", k.igb)
		say("igb", "copy", "yes")
		say("virtio_net", "zero-copy", k.igb)
		say("veth", "zero-copy", "no: bind, EOPNOTSUPP")
		b.addKernel(k.release, r)
	}
	const want = `| mode | device | 6.1.0-50 | 6.18.15 |
|---|---|---|---|
| zero-copy | igb; virtio_net | no: bind, EOPNOTSUPP | yes |
| zero-copy | veth | no: bind, EOPNOTSUPP | no: bind, EOPNOTSUPP |
| copy | igb | yes | yes |
`
	data, err := b.encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseTable(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*table{&b, again} {
		if got := b.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
	again.Rows[0].Verdicts = again.Rows[0].Verdicts[1:]
	if data, err = again.encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := parseTable(data); err == nil {
		t.Error("a table with a hole was read")
	}
	for _, text := range []string{"", tableBegin, tableEnd + tableBegin} {
		if _, _, err := findTable([]byte(text)); err == nil {
			t.Errorf("a table was found in %q", text)
		}
	}
}
