package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// SetDown sets the AF_XDP side down. The peer loses its carrier.
func (l *Lab) SetDown() error {
	return l.Host.change("set down", netlink.LinkSetDown)
}

// SetUp sets the AF_XDP side up again and waits until it is running, for
// which the peer has to be up too. Addresses survive.
func (l *Lab) SetUp() error {
	if err := l.Host.change("set up", netlink.LinkSetUp); err != nil {
		return err
	}
	return l.Host.waitRunning()
}

// SetCarrier takes the carrier away from the AF_XDP side, or gives it back,
// by setting the peer down or up. With on it waits until both are running.
// Without, the AF_XDP side may still be called running for a second: see
// hostif.Watch.
func (l *Lab) SetCarrier(on bool) error {
	if !on {
		return l.Peer.change("set down", netlink.LinkSetDown)
	}
	if err := l.Peer.change("set up", netlink.LinkSetUp); err != nil {
		return err
	}
	if err := l.Peer.waitRunning(); err != nil {
		return err
	}
	return l.Host.waitRunning()
}

// SetMAC gives the AF_XDP side another Ethernet address. The peer is not told.
func (l *Lab) SetMAC(mac net.HardwareAddr) error {
	return l.Host.change("set address "+mac.String(), func(link netlink.Link) error {
		return netlink.LinkSetHardwareAddr(link, mac)
	})
}

// SetMTU sets the MTU, in bytes, of both ends.
func (l *Lab) SetMTU(mtu int) error {
	if err := checkMTU(mtu); err != nil {
		return err
	}
	for _, n := range []*Namespace{l.Host, l.Peer} {
		err := n.change(fmt.Sprintf("set MTU %d", mtu), func(link netlink.Link) error {
			return netlink.LinkSetMTU(link, mtu)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// AddAddress gives the namespace's kernel an address on its interface.
func (n *Namespace) AddAddress(prefix netip.Prefix) error {
	return n.change("add address "+prefix.String()+" to", func(link netlink.Link) error {
		return addAddress(link, prefix)
	})
}

// RemoveAddress takes an address from the namespace's kernel again.
func (n *Namespace) RemoveAddress(prefix netip.Prefix) error {
	return n.change("remove address "+prefix.String()+" from", func(link netlink.Link) error {
		return netlink.AddrDel(link, &netlink.Addr{IPNet: &net.IPNet{
			IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
		}})
	})
}

// RouteGroups tells the namespace's kernel that multicast groups of IPv4 are at its
// interface, where a program names none. For IPv6 the kernel knows.
func (n *Namespace) RouteGroups() error {
	return n.change("route groups to", func(link netlink.Link) error {
		groups := &net.IPNet{IP: net.IPv4(224, 0, 0, 0), Mask: net.CIDRMask(4, 32)}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: groups, Scope: netlink.SCOPE_LINK})
	})
}

// addAddress adds an address that is used at once: without duplicate address
// detection.
func addAddress(link netlink.Link, prefix netip.Prefix) error {
	_, err := hostif.AddAddress(link.Attrs().Name, prefix)
	return err
}

// Move moves the AF_XDP side to the peer's namespace.
func (l *Lab) Move() error {
	return l.Host.change("move", func(link netlink.Link) error {
		l.Peer.mu.RLock()
		defer l.Peer.mu.RUnlock()
		return netlink.LinkSetNsFd(link, l.Peer.fd)
	})
}

// Delete deletes the veth pair. If it is gone already, that is no error.
func (l *Lab) Delete() error {
	err := l.Host.change("delete", netlink.LinkDel)
	if errors.Is(err, unix.ENODEV) { // or elsewhere: see Move
		err = l.Peer.change("delete", netlink.LinkDel)
	}
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// change applies f to the namespace's interface.
func (n *Namespace) change(op string, f func(netlink.Link) error) error {
	return n.Do(func() error {
		link, err := n.link()
		if err != nil {
			return err
		}
		if err := f(link); err != nil {
			return fmt.Errorf("lab: %s %s: %w", op, n.Device, err)
		}
		return nil
	})
}

// SetQueues sets how many queues of each kind the namespace's interface uses, up to
// those that the lab was made with. It loses its carrier for a moment. Under an XDP
// program the AF_XDP side needs no fewer than the peer has.
func (n *Namespace) SetQueues(count int) error {
	return n.change(fmt.Sprintf("set %d queues of", count), func(link netlink.Link) error {
		return hostif.SetSingle(link.Attrs().Name, count, count)
	})
}
