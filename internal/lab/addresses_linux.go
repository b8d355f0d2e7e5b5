package lab

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// waitAddresses waits until the kernel takes packets for the IPv6 addresses of the
// interface, which is up. A work queue inserts their routes, and if the interface goes
// down before that has run, the kernel takes the address for done when it is up again
// and never inserts its route (addrconf_ifdown, addrconf_dad_work and
// fixup_permanent_addr, Linux 6.18 net/ipv6/addrconf.c): it answers solicitations for
// the address and drops all else.
func (n *Namespace) waitAddresses() error {
	for end := time.Now().Add(runningTimeout); ; time.Sleep(time.Millisecond) {
		missing := ""
		err := n.Do(func() (err error) {
			missing, err = n.unrouted()
			return err
		})
		if err == nil && missing != "" && !time.Now().Before(end) {
			err = fmt.Errorf("%s is not local: %w", missing, os.ErrDeadlineExceeded)
		}
		if err != nil {
			return fmt.Errorf("lab: wait for the addresses of %s: %w", n.Device, err)
		}
		if missing == "" {
			return nil
		}
	}
}

// unrouted returns an IPv6 address of the interface whose packets the kernel does not
// take for its own, if there is one.
//
// Preconditions: the thread is in n.
func (n *Namespace) unrouted() (string, error) {
	link, err := n.link()
	if err != nil {
		return "", err
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return "", err
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Table: unix.RT_TABLE_LOCAL}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return "", err
	}
	for _, a := range addrs {
		if !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Type == unix.RTN_LOCAL && r.Dst != nil && r.Dst.IP.Equal(a.IP) }) {
			return a.IP.String(), nil
		}
	}
	return "", nil
}
