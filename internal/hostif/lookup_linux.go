package hostif

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dumpTries bounds how often a dump is repeated that the kernel marked as
// interrupted by a change (NLM_F_DUMP_INTR). Interfaces and addresses rarely
// change: three in a row means something is flapping, and the caller is told.
const dumpTries = 3

// Lookup returns the state of the interface with this name.
//
// If there is none, the error names those that exist, and errors.Is(err,
// unix.ENODEV) holds.
func Lookup(name string) (Interface, error) { return lookup(name, sysfsNet) }

// lookup is Lookup with the interfaces' directory of sysfs.
func lookup(name, sysfs string) (Interface, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return Interface{}, lookupError(name, err)
	}
	attrs := link.Attrs()
	ifc := Interface{
		Name:    attrs.Name,
		Index:   attrs.Index,
		MAC:     attrs.HardwareAddr,
		MTU:     attrs.MTU,
		Up:      attrs.RawFlags&unix.IFF_UP != 0,
		Running: running(attrs.RawFlags),
		XDP:     xdpOf(attrs),
	}

	tool, err := openEthtool()
	if err != nil {
		return Interface{}, lookupError(name, err)
	}
	defer tool.close()
	if ifc.Driver, err = tool.driver(ifc.Name); err != nil {
		return Interface{}, lookupError(name, err)
	}
	if err := ifc.countQueues(tool, attrs, sysfs); err != nil {
		return Interface{}, lookupError(name, err)
	}
	return ifc, nil
}

// running tells whether an interface with these flags carries frames. The kernel
// takes IFF_RUNNING back up to a second after the carrier has gone (linkwatch),
// IFF_LOWER_UP at once; with a new carrier, IFF_RUNNING comes when the transmit
// queues work.
func running(flags uint32) bool {
	const both = unix.IFF_RUNNING | unix.IFF_LOWER_UP
	return flags&both == both
}

// lookupError names the interface and, if it does not exist, those that do.
func lookupError(name string, err error) error {
	var notFound netlink.LinkNotFoundError
	if !errors.As(err, &notFound) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("hostif: look up interface %q: %w", name, err)
	}
	return fmt.Errorf("hostif: look up interface %q: %w (%s)", name, unix.ENODEV, existing())
}

// existing lists the interfaces of the namespace for an error message.
func existing() string {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return fmt.Sprintf("listing the others: %v", err)
	}
	var names []string
	for _, link := range links {
		names = append(names, link.Attrs().Name)
	}
	slices.Sort(names)
	return "there are: " + strings.Join(names, ", ")
}

// Addresses returns the IPv4 and IPv6 addresses of the interface with this
// index, each with the length of its network's prefix, in the kernel's order.
//
// If there is no such interface, errors.Is(err, unix.ENODEV) holds.
func Addresses(index int) ([]netip.Prefix, error) {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return nil, indexError("list addresses", index, err)
	}
	addrs, err := dump(func() ([]netlink.Addr, error) {
		return netlink.AddrList(link, netlink.FAMILY_ALL)
	})
	if err != nil {
		return nil, indexError("list addresses", index, err)
	}
	prefixes := make([]netip.Prefix, 0, len(addrs))
	for _, addr := range addrs {
		ip, ok := netip.AddrFromSlice(addr.IP)
		if !ok {
			continue // neither IPv4 nor IPv6
		}
		ones, _ := addr.Mask.Size()
		prefixes = append(prefixes, netip.PrefixFrom(ip.Unmap(), ones))
	}
	return prefixes, nil
}

// Holder returns the name of the interface that has addr as an address of its
// own, and "" if none has.
func Holder(addr netip.Addr) (device string, err error) {
	addrs, err := dump(func() ([]netlink.Addr, error) {
		return netlink.AddrList(nil, netlink.FAMILY_ALL)
	})
	if err != nil {
		return "", fmt.Errorf("hostif: list addresses: %w", err)
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); !ok || ip.Unmap() != addr.Unmap().WithZone("") {
			continue
		}
		link, err := netlink.LinkByIndex(a.LinkIndex)
		if err != nil {
			return "", indexError("name the interface of "+addr.String(), a.LinkIndex, err)
		}
		return link.Attrs().Name, nil
	}
	return "", nil
}

func indexError(op string, index int, err error) error {
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		err = unix.ENODEV
	}
	return fmt.Errorf("hostif: %s, interface index %d: %w", op, index, err)
}

// dump repeats list while the kernel says that its answer is inconsistent.
func dump[T any](list func() ([]T, error)) (items []T, err error) {
	for range dumpTries {
		if items, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return items, err
}
