package vmtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/afxnet/afxnet/internal/vmtest/wiring"
)

// table says which mode works on which device and kernel.
type table struct {
	Kernels []string `json:"kernels"` // releases, the oldest first
	Rows    []row    `json:"rows"`
}

// row is a mode of a device.
type row struct {
	Device   string   `json:"device"`
	Mode     string   `json:"mode"`
	Verdicts []string `json:"verdicts"` // "yes" or why not, by kernel
}

// addKernel makes a column of a guest's results.
func (b *table) addKernel(release string, r *result) {
	b.Kernels = append(b.Kernels, strings.TrimSuffix(strings.TrimSuffix(release, "-amd64"), "+deb13"))
	b.add(r)
}

func (b *table) add(r *result) {
	for line := range strings.Lines(r.log.String()) {
		device, mode, verdict, ok := wiring.ParseMatrixLine(line)
		if !ok {
			continue
		}
		i := slices.IndexFunc(b.Rows, func(o row) bool { return o.Device == device && o.Mode == mode })
		if i < 0 {
			i = len(b.Rows)
			b.Rows = append(b.Rows, row{Device: device, Mode: mode})
		}
		verdicts := &b.Rows[i].Verdicts
		for len(*verdicts) < len(b.Kernels)-1 {
			*verdicts = append(*verdicts, "") // not there on an earlier kernel
		}
		*verdicts = append(*verdicts, verdict)
	}
	for _, s := range r.sub {
		b.add(s)
	}
}

// parseTable reads what encode has written.
func parseTable(text []byte) (*table, error) {
	b := &table{}
	if err := json.Unmarshal(text, b); err != nil {
		return nil, fmt.Errorf("vmtest: read the table: %w", err)
	}
	for _, r := range b.Rows {
		if len(r.Verdicts) != len(b.Kernels) {
			return nil, fmt.Errorf("vmtest: read the table: %s, %s: %d verdicts for %d kernels", r.Device, r.Mode, len(r.Verdicts), len(b.Kernels))
		}
	}
	return b, nil
}

func (b *table) encode() ([]byte, error) {
	text, err := json.MarshalIndent(b, "", "\t")
	return append(text, '\n'), err
}

// String is the table in Markdown, by mode, zero-copy first. Devices with the same
// verdicts are in one line.
func (b *table) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "| mode | device | %s |\n|---|---|%s\n", strings.Join(b.Kernels, " | "), strings.Repeat("---|", len(b.Kernels)))
	var modes []string
	for _, r := range b.Rows {
		if !slices.Contains(modes, r.Mode) {
			modes = append(modes, r.Mode)
		}
	}
	slices.SortStableFunc(modes, func(a, b string) int { // each kind of bind in one piece
		bindA, _, _ := strings.Cut(a, ",")
		bindB, _, _ := strings.Cut(b, ",")
		return strings.Compare(bindB, bindA)
	})
	for _, mode := range modes {
		written := make(map[string]bool)
		for _, r := range b.Rows {
			verdicts := strings.Join(r.Verdicts, " | ")
			if r.Mode != mode || written[verdicts] {
				continue
			}
			written[verdicts] = true
			var devices []string
			for _, o := range b.Rows {
				if o.Mode == mode && slices.Equal(o.Verdicts, r.Verdicts) {
					devices = append(devices, o.Device)
				}
			}
			fmt.Fprintf(&s, "| %s | %s | %s |\n", mode, strings.Join(devices, "; "), verdicts)
		}
	}
	return s.String()
}

// The table lies between these lines of the README.
const (
	tableBegin = "<!-- what go test ./internal/vmtest -matrix -readme has found; do not edit -->\n"
	tableEnd   = "<!-- end -->\n"
)

// findTable returns where the table begins and ends in a text with the two lines.
func findTable(text []byte) (begin, end int, err error) {
	begin = bytes.Index(text, []byte(tableBegin))
	if begin >= 0 {
		begin += len(tableBegin)
		end = bytes.Index(text[begin:], []byte(tableEnd))
	}
	if begin < 0 || end < 0 {
		return 0, 0, errors.New("vmtest: no place for the table in the text")
	}
	return begin, begin + end, nil
}
