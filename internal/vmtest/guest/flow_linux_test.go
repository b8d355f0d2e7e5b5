package guest

import (
	"errors"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
	"github.com/afxnet/afxnet/xsk"
)

// TestSteerFlowRefused asks NICs that have a table of rules, and take none.
func TestSteerFlowRefused(t *testing.T) {
	eachNIC(t, func(t *testing.T, g *ground) {
		err := g.Host.Do(func() error {
			_, err := xsk.SteerFlow(lab.HostDevice, xsk.FlowRule{EtherType: 0x88f7})
			return err
		})
		want := "the driver has none"
		if g.pair == wiring.IGB {
			want = "does not take this one"
		}
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if n := records(t); n != 0 {
			t.Errorf("%d records", n)
		}
	})
}
