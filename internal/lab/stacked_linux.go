package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// The devices that can be made on a namespace's interface.
const (
	VLANDevice = "vlan0"
	BondDevice = "bond0"
)

// AddVLAN puts a VLAN device with this id on the namespace's interface, up and
// with addresses of its own. It is called VLANDevice.
func (n *Namespace) AddVLAN(id int, addrs ...netip.Prefix) error {
	return n.change(fmt.Sprintf("add VLAN %d to", id), func(link netlink.Link) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = VLANDevice, link.Attrs().Index
		vlan := &netlink.Vlan{LinkAttrs: attrs, VlanId: id}
		if err := netlink.LinkAdd(vlan); err != nil {
			return err
		}
		for _, a := range addrs {
			if err := addAddress(vlan, a); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(vlan)
	})
}

// AddBond makes the namespace's interface the only member of a bond that has one
// member at work at a time. It is called BondDevice, is up, and has no address.
func (n *Namespace) AddBond() error {
	return n.change("make a bond of", func(link netlink.Link) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = BondDevice
		bond := netlink.NewLinkBond(attrs)
		bond.Mode, bond.Miimon = netlink.BOND_MODE_ACTIVE_BACKUP, bondMiimon
		if err := netlink.LinkAdd(bond); err != nil {
			return err
		}
		if err := netlink.LinkSetDown(link); err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(link, bond); err != nil {
			return err
		}
		return netlink.LinkSetUp(bond)
	})
}

// bondMiimon is how often a bond looks at its members' links, in milliseconds.
const bondMiimon = 50

// DeleteDevice deletes a device that AddVLAN or AddBond made.
func (n *Namespace) DeleteDevice(name string) error {
	return n.change("delete "+name+" of", func(netlink.Link) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
}

// AddRoute sends packets for a prefix straight to a device of the namespace.
func (n *Namespace) AddRoute(to netip.Prefix, device string) error {
	return n.change("add route to", func(netlink.Link) error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())}, Scope: netlink.SCOPE_LINK})
	})
}
