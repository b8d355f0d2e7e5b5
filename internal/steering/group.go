package steering

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/afxnet/afxnet/xsk"
)

// JoinGroup claims UDP that is sent to a multicast group on the interface, and makes
// the host's kernel a member of it, which tells switches and routers so. It counts:
// as many calls of LeaveGroup give it back. The kernel sees no such datagram from
// then on: a group that it is in on this interface is refused with EADDRINUSE, and
// with ErrUnsupported those that protocols of the link itself use. ENOBUFS: it was
// one group too many for net.ipv4.igmp_max_memberships, which is 20 unless set.
// Other errors are those of [xsk.Program.AddGroup].
func (i *Interface) JoinGroup(group netip.Addr) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	group = group.Unmap()
	if i.detached {
		return i.groupError("join", group, net.ErrClosed, "")
	}
	if i.joined[group] > 0 {
		i.joined[group]++
		return nil
	}
	if err := i.checkGroup(group); err != nil {
		return err
	}
	if err := i.prog.AddGroup(group); err != nil {
		return err
	}
	if err := i.kernel.Join(group); err != nil {
		remedy := ""
		if errors.Is(err, syscall.ENOBUFS) {
			remedy = "raise net.ipv4.igmp_max_memberships, or for IPv6 net.core.optmem_max"
		}
		return errors.Join(i.groupError("join", group, err, remedy), i.prog.RemoveGroup(group))
	}
	i.joined[group] = 1
	return nil
}

// LeaveGroup takes back one JoinGroup that had no error.
func (i *Interface) LeaveGroup(group netip.Addr) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	group = group.Unmap()
	if i.detached || i.joined[group] == 0 {
		return i.groupError("leave", group, syscall.EADDRNOTAVAIL, "")
	}
	if i.joined[group]--; i.joined[group] > 0 {
		return nil
	}
	delete(i.joined, group)
	return errors.Join(i.prog.RemoveGroup(group), i.kernel.Leave(group))
}

// checkGroup returns an error if the host needs what is sent to the group.
func (i *Interface) checkGroup(group netip.Addr) error {
	if !group.IsMulticast() || group.Zone() != "" {
		return nil // AddGroup says what it is
	}
	if ofLink(group) {
		return i.groupError("join", group,
			fmt.Errorf("protocols of the link itself use it, which are the kernel's: %w", errors.ErrUnsupported),
			"receive it on a socket of the kernel")
	}
	is, err := i.kernel.Member(group)
	if err != nil {
		return i.groupError("join", group, err, "")
	}
	if is {
		return i.groupError("join", group,
			fmt.Errorf("the host is in it, and would get nothing more: %w", syscall.EADDRINUSE),
			"end the program of the host that has joined it (ip maddr show "+i.dev.Name+"), or take another group")
	}
	return nil
}

// The groups that routers do not forward and that the IANA gives to protocols of
// the link: neighbour discovery, routing, names, time. Programs of the host may
// join them at any time, and rely on it.
var linkGroups = []netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/24"),
	netip.MustParsePrefix("ff02::/112"),
	netip.MustParsePrefix("ff02::1:ff00:0/104"), // solicited-node
	netip.MustParsePrefix("ff02::2:ff00:0/104"), // node information
}

// ofLink tells whether a group is one of linkGroups, or of IPv6 with a scope that
// is reserved or does not leave the node.
func ofLink(group netip.Addr) bool {
	for _, p := range linkGroups {
		if p.Contains(group) {
			return true
		}
	}
	return group.Is6() && group.As16()[1]&0xf <= 1
}

func (i *Interface) groupError(op string, group netip.Addr, err error, remedy string) error {
	return &xsk.OpError{Op: op + " " + group.String(), Device: i.dev.Name, Queue: xsk.NoQueue, Err: err, Remedy: remedy}
}
