package netdev

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/afxnet/afxnet/internal/steering"
	"github.com/afxnet/afxnet/xsk"
)

// JoinGroup makes sure that UDP that is sent to a multicast group reaches the device.
// It may be called from any goroutine, as often as LeaveGroup is called later.
//
// The host's kernel becomes a member on the interface: it reports that to switches and
// routers (IGMP, MLD), and answers their queries. The datagrams come to the device, and
// not to the kernel: a program of the host that joins the group later gets none while
// the device is in it. Of IPv6, datagrams with extension headers, as fragments have,
// stay with the kernel.
//
// A group that the kernel is in on the interface is refused with EADDRINUSE; with
// errors.ErrUnsupported 224.0.0.0/24, ff02::/112, solicited-node groups and what does
// not leave the node, which the link's own protocols use, and every group if the program
// on the interface is a helper's (Config.Handover). More groups of IPv4 than
// net.ipv4.igmp_max_memberships, 20 unless set, are ENOBUFS. Groups count against
// [xsk.ProgramConfig].MaxAddresses. Over NewOn there is nothing to do.
func (d *Device) JoinGroup(group netip.Addr) error {
	if d.host == nil {
		return nil
	}
	if s, ok := d.host.steer.(*steering.Interface); ok {
		return s.JoinGroup(group)
	}
	return &xsk.OpError{
		Op: "join " + group.String(), Device: d.host.dev.Name, Queue: xsk.NoQueue,
		Err:    fmt.Errorf("the helper's program leaves multicast to the kernel: %w", errors.ErrUnsupported),
		Remedy: "receive it on a socket of the kernel, or open the device without Config.Handover",
	}
}

// LeaveGroup takes a JoinGroup back that had no error. After Close there is nothing to
// take back.
func (d *Device) LeaveGroup(group netip.Addr) {
	if d.host == nil {
		return
	}
	if s, ok := d.host.steer.(*steering.Interface); ok {
		_ = s.LeaveGroup(group) // Close leaves what could not be left
	}
}
