package guest

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/internal/vmtest/wiring"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/xsk"
)

// TestMatrix tries each mode on each device, and tells which has carried a stack
// on this kernel and why others could not be had.
func TestMatrix(t *testing.T) {
	if os.Getenv(wiring.MatrixEnv) == "" {
		t.Skip("another machine does this, for several kernels")
	}
	for _, pair := range []wiring.Pair{wiring.IGB, wiring.Virtio, wiring.VirtioPlain} {
		for _, m := range []struct {
			name   string
			mtu    int
			device netdev.Config
		}{
			{"zero-copy, native", 0, zeroCopy()},
			{"copy, native", 0, netdev.Config{Bind: xsk.BindCopy, Attach: xsk.AttachNative}},
			{"copy, generic", 0, netdev.Config{Bind: xsk.BindCopy, Attach: xsk.AttachGeneric}},
			{"copy, native, MTU 9000", 9000, netdev.Config{Bind: xsk.BindCopy, Attach: xsk.AttachNative}},
			{"copy, generic, MTU 9000", 9000, netdev.Config{Bind: xsk.BindCopy, Attach: xsk.AttachGeneric}},
		} {
			t.Run(pair.String()+"/"+m.name, func(t *testing.T) {
				g := openMTU(t, pair, 0, m.mtu)
				t.Log(wiring.MatrixLine(pair, m.name, verdict(t, g, g.stackConfig(m.device))))
			})
		}
	}
}

// verdict is "yes" if a stack carries traffic, or why there is none.
func verdict(t *testing.T, g *ground, cfg stack.Config) string {
	var s *stack.Stack
	err := g.Host.Do(func() (err error) {
		s, err = stack.Open(cfg)
		return err
	})
	if err != nil {
		t.Log(err)
		var op *xsk.OpError
		if !errors.As(err, &op) {
			t.Error("it does not say which step")
			return err.Error()
		}
		step, _, _ := strings.Cut(op.Op, " program")
		return "no: " + step + ": " + op.Err.Error()
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	serve(t, s)
	for _, f := range g.families() {
		if err := bulkEcho(t.Context(), g.Peer.Dial, hostPort(f.stack, echoPort), 200_000); err != nil {
			t.Error(err)
			return "opens, and carries nothing over " + f.name
		}
	}
	return "yes"
}
