package guest

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
	"github.com/afxnet/afxnet/xsk"
)

// TestMTU sends and receives at the largest MTU that a chunk of 4096 bytes holds
// in zero-copy mode, and has one byte more refused. At either, xsk.Check has said
// before what Open and Attach then do. igb has buffers of whole KiB, and takes no
// program above that.
func TestMTU(t *testing.T) {
	for _, c := range []struct {
		pair    wiring.Pair
		mtu     int
		refused bool // the program, one byte above
	}{{wiring.IGB, 3046, true}, {wiring.Virtio, 3814, false}} {
		t.Run(c.pair.String(), func(t *testing.T) {
			g := openMTU(t, c.pair, 0, c.mtu)
			r := g.check(t)
			if r.Choice.Bind != "zero-copy" || r.Choice.Attach != "native" || r.Worst() == xsk.Problem {
				t.Errorf("before: %v", r)
			}
			t.Run("exchange", func(t *testing.T) {
				openRaw(t, g, xsk.Config{Bind: xsk.BindZeroCopy}).exchange(t, 128, c.mtu)
			})
			if err := g.SetMTU(c.mtu + 1); err != nil {
				t.Fatal(err)
			}
			r = g.check(t)
			if r.Choice.Bind != "copy" || r.Choice.WhyCopy == "" || (r.Worst() == xsk.Problem) != c.refused {
				t.Errorf("above: %v", r)
			}
			_, err := g.tryStack(zeroCopy())
			if c.refused {
				explained(t, "native", err, unix.EINVAL, "mtu 3046")
			} else {
				explained(t, "zero-copy", err, errors.ErrUnsupported, "MTU of 3814")
			}
			s := g.openSocket(t, g.Host, xsk.Config{})
			if err := s.ZeroCopyErr(); s.ZeroCopy() || err == nil || !strings.Contains(err.Error(), r.Choice.WhyCopy) {
				t.Errorf("zero-copy %v, %v: %v", s.ZeroCopy(), err, r)
			}
		})
	}
}

// check has xsk.Check look at the AF_XDP side.
func (g *ground) check(t *testing.T) (r xsk.Report) {
	t.Helper()
	err := g.Host.Do(func() (err error) {
		r, err = xsk.Check(lab.HostDevice)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
