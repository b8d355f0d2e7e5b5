package hostif

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AddAddress gives the interface with this name an address that is used at
// once, without duplicate address detection. undo takes it off again, and must
// be called in the same network namespace; it is idempotent and does nothing if
// the address or the interface is gone.
//
// An address that the interface has already is an error for which
// errors.Is(err, unix.EEXIST) holds.
func AddAddress(name string, prefix netip.Prefix) (undo func() error, err error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, lookupError(name, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{
		IP:   prefix.Addr().AsSlice(),
		Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return nil, addressError("add", name, prefix, err)
	}
	return sync.OnceValue(func() error {
		err := netlink.AddrDel(link, addr)
		if err == nil || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		return addressError("remove", name, prefix, err)
	}), nil
}

func addressError(op, name string, prefix netip.Prefix, err error) error {
	hint := ""
	if errors.Is(err, unix.EPERM) {
		hint = " (needs CAP_NET_ADMIN)"
	}
	return fmt.Errorf("hostif: %s address %v of %s: %w%s", op, prefix, name, err, hint)
}
