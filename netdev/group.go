package netdev

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/afxnet/afxnet/xsk"
)

// JoinGroup makes sure that what is sent to a multicast group reaches the device.
// It may be called from any goroutine, as often as LeaveGroup is called later.
// Over NewOn there is nothing to do. A device that was opened with Open cannot:
// its program leaves multicast to the kernel, and the error says so with
// errors.ErrUnsupported.
func (d *Device) JoinGroup(group netip.Addr) error {
	if d.host == nil {
		return nil
	}
	return &xsk.OpError{
		Op: "join " + group.String(), Device: d.host.dev.Name, Queue: xsk.NoQueue,
		Err:    fmt.Errorf("the program on the interface leaves multicast to the kernel: %w", errors.ErrUnsupported),
		Remedy: "receive it on a socket of the kernel",
	}
}

// LeaveGroup takes a JoinGroup back that had no error.
func (d *Device) LeaveGroup(netip.Addr) {}
