package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// takeNICs moves the interfaces of Config.NICs into the lab, where they have the
// names that a veth pair would have.
func (l *Lab) takeNICs() error {
	for i, n := range []*Namespace{l.Host, l.Peer} {
		origin, err := netns.Get()
		if err != nil {
			return fmt.Errorf("lab: own namespace: %w", err)
		}
		name := l.Config.NICs[i]
		if err := n.take(name, l.Config.MTU); err != nil {
			origin.Close()
			return err
		}
		l.undo = append(l.undo, func() error {
			defer origin.Close()
			return n.change("give back", func(link netlink.Link) error {
				if err := netlink.LinkSetDown(link); err != nil {
					return err
				}
				if err := netlink.LinkSetName(link, name); err != nil {
					return err
				}
				return netlink.LinkSetNsFd(link, int(origin))
			})
		})
	}
	return nil
}

// take moves an interface of the calling thread's namespace to n, down.
func (n *Namespace) take(name string, mtu int) error {
	fail := func(err error) error { return fmt.Errorf("lab: take %s: %w", name, err) }
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fail(err)
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return fail(err)
	}
	if err := netlink.LinkSetNsFd(link, n.fd); err != nil {
		return fail(err)
	}
	return n.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fail(err)
		}
		if err := netlink.LinkSetName(link, n.Device); err != nil {
			return fail(err)
		}
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return fail(err)
		}
		return nil
	})
}
