package guest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
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
	type mode struct {
		name   string
		mtu    int // 0: 1500
		device netdev.Config
		shared bool // one region of packet memory for all queues
	}
	native := func(b xsk.BindMode) netdev.Config { return netdev.Config{Bind: b, Attach: xsk.AttachNative} }
	generic := netdev.Config{Bind: xsk.BindCopy, Attach: xsk.AttachGeneric}
	for _, d := range []struct {
		name    string
		pair    wiring.Pair // empty: veth
		largest int         // MTU of one chunk, zero-copy
	}{
		{"igb, 2 queues", wiring.IGB, 3046},
		{"virtio_net", wiring.Virtio, 3814},
		{"virtio_net, 2 queues", wiring.VirtioMulti, 3814},
		{"virtio_net without DMA", wiring.VirtioPlain, 3814},
		{"veth, 2 queues", "", 3814},
	} {
		for _, m := range []mode{
			{"zero-copy, native", 0, native(xsk.BindZeroCopy), false},
			{"zero-copy, native, shared UMEM", 0, native(xsk.BindZeroCopy), true},
			{fmt.Sprintf("zero-copy, native, MTU %d", d.largest), d.largest, native(xsk.BindZeroCopy), false},
			{"copy, native", 0, native(xsk.BindCopy), false},
			{"copy, native, shared UMEM", 0, native(xsk.BindCopy), true},
			{"copy, native, MTU 9000", 9000, native(xsk.BindCopy), false},
			{"copy, generic", 0, generic, false},
			{"copy, generic, MTU 9000", 9000, generic, false},
		} {
			t.Run(d.name+"/"+m.name, func(t *testing.T) {
				var g *ground
				if d.pair == "" {
					g = &ground{Lab: lab.New(t, lab.Config{Queues: 2, MTU: m.mtu}), queues: 2}
				} else {
					g = openMTU(t, d.pair, 0, m.mtu)
				}
				s, err := g.tryMode(t, m.device, m.shared)
				t.Log(wiring.MatrixLine(d.name, m.name, verdict(t, g, s, err)))
			})
		}
	}
}

func (g *ground) tryMode(t *testing.T, cfg netdev.Config, shared bool) (*stack.Stack, error) {
	if shared {
		return g.trySharingStack(t, cfg.Bind)
	}
	return g.tryStack(cfg)
}

// verdict is "yes" if a stack carries traffic, or why there is none.
func verdict(t *testing.T, g *ground, s *stack.Stack, err error) string {
	if err != nil {
		t.Log(err)
		return "no: " + reason(t, err)
	}
	closeLater(t, s)
	serve(t, s)
	for _, f := range g.families() {
		if err := bulkEcho(t.Context(), g.Peer.Dial, hostPort(f.stack, echoPort), 200_000); err != nil {
			t.Error(err)
			return "opens, and carries nothing over " + f.name
		}
	}
	return "yes"
}

// reason is an error of Open in few words.
func reason(t *testing.T, err error) string {
	var op *xsk.OpError
	if !errors.As(err, &op) || op.Remedy == "" {
		t.Errorf("%v: it does not say which step, and what mends it", err)
		return err.Error()
	}
	var since *xsk.UnsupportedError
	if errors.As(err, &since) {
		return "needs Linux " + since.MinKernel
	}
	step, _, _ := strings.Cut(op.Op, " ")
	var errno unix.Errno
	switch {
	case errors.Is(err, unix.EOPNOTSUPP): // Linux has another name for it
		return step + ", EOPNOTSUPP"
	case errors.As(err, &errno):
		return step + ", " + unix.ErrnoName(errno)
	}
	return step + " refused"
}
