package vmtest

import (
	"fmt"
	"os"

	"github.com/afxnet/afxnet/internal/vmtest/wiring"
)

// wire is what joins the two devices of a pair: how QEMU is told of either end,
// and what the host does for it.
type wire struct {
	netdev [wiring.Sides]string // arguments of -netdev, without the id
	device string               // further properties of the device on our side
	files  []*os.File           // for QEMU
	close  func() error
	tell   func() string // what this process has carried over it; or nil
}

// newWire makes the wire of the pair with this number. QEMU's files begin with
// descriptor fd.
func newWire(number int, p wiring.Pair, fd int) (*wire, error) {
	if p.Queues() > 1 {
		return newTap(p.Queues(), fd)
	}
	hub := fmt.Sprintf("hubport,hubid=%d", number)
	return &wire{netdev: [wiring.Sides]string{hub, hub}, close: func() error { return nil }}, nil
}
