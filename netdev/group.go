package netdev

import "net/netip"

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
// not leave the node, which the link's own protocols use; and with EACCES what a helper
// (Config.Handover) does not give. More groups of IPv4 than
// net.ipv4.igmp_max_memberships, 20 unless set, are ENOBUFS. Groups count against
// [xsk.ProgramConfig].MaxAddresses. Over NewOn there is nothing to do.
func (d *Device) JoinGroup(group netip.Addr) error {
	if d.host == nil {
		return nil
	}
	return d.host.steer.JoinGroup(group)
}

// LeaveGroup takes a JoinGroup back that had no error. After Close there is nothing to
// take back.
func (d *Device) LeaveGroup(group netip.Addr) {
	if d.host != nil {
		_ = d.host.steer.LeaveGroup(group) // Close leaves what could not be left
	}
}
