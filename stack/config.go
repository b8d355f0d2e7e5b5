package stack

import (
	"fmt"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/afxnet/afxnet/netdev"
)

// Config says what a Stack is: its interface, its addresses and its routes.
// It is passed by value, and only Addresses (and, for Open, Interface) must
// be set.
type Config struct {
	// Interface is the name of the network interface whose queues carry the
	// stack's packets, and the zone of IPv6 addresses of the link. At most
	// 15 bytes.
	Interface string

	// Addresses are the stack's own addresses, each with the length of the
	// prefix that is reached without a gateway. At least one; IPv4, IPv6 or
	// both. Multicast, loopback, unspecified, broadcast and IPv4-mapped
	// addresses are refused. For each family that they have, the stack also
	// has loopback addresses.
	//
	// No IPv6 link-local address is made up: add one here if the network
	// needs it.
	Addresses []netip.Prefix

	// Gateways are the next hops of the default routes, at most one of each
	// family. A gateway is reached without a gateway itself: it lies in the
	// prefix of an address, in a Route without a gateway, or is IPv6
	// link-local. None means that only prefixes and Routes can be reached.
	Gateways []netip.Addr

	// Routes are routes besides the default ones and those of Addresses, one for
	// each destination. The longest prefix wins.
	Routes []Route

	// Neighbors are link addresses that are known without asking. They never
	// expire. None is usual.
	Neighbors []Neighbor

	// Nameservers are asked for names in place of those of the host's
	// resolv.conf. At most 16; none is usual. Port 0 means 53.
	//
	// The stack asks by its own sockets: a nameserver on the host's loopback
	// interface, such as 127.0.0.53 of systemd-resolved, is out of its reach, and
	// if resolv.conf names that one and there are no Nameservers, look-ups fail
	// and say so. (The nameservers that systemd-resolved asks are in
	// /run/systemd/resolve/resolv.conf.)
	//
	// The first is asked until it fails, then the next, in a circle. A look-up
	// asks as often as resolv.conf has nameservers, times its attempts: twice if
	// it says nothing.
	Nameservers []netip.AddrPort

	// NoDuplicateCheck starts at once, without asking the link whether another
	// host has one of the Addresses. The check takes 200 ms, see Open.
	NoDuplicateCheck bool

	// Profile is the kind of network the TCP timers suit. Zero is
	// ProfileWAN.
	Profile Profile

	// NoFastIP sends every packet through all of netstack's IP layer. The
	// default lets plain TCP and UDP packets, those without options and
	// fragments between unicast addresses, pass it by, which saves about a
	// microsecond each. It changes nothing that a socket could see.
	NoFastIP bool

	// NoInline leaves segments to netstack's own goroutines although the
	// program imports package stack/inline. Without that import it has no
	// meaning; with NoFastIP nothing is processed inline either.
	NoInline bool

	// Device has the settings of the device below: queues, bind and attach
	// mode, rings, packet memory, polling. The zero value takes all queues
	// and the best modes there are. Its Interface is not used.
	Device netdev.Config
}

// A Route sends packets for a prefix to a gateway, or straight to the link.
type Route struct {
	// Destination is the prefix, without host bits.
	Destination netip.Prefix

	// Gateway is the next hop, of the same family. The zero Addr means that
	// the destination is on the link.
	Gateway netip.Addr
}

// A Neighbor is a host on the link whose hardware address is given.
type Neighbor struct {
	// Addr is its unicast address.
	Addr netip.Addr

	// HardwareAddr is its link address: 6 bytes.
	HardwareAddr net.HardwareAddr
}

// A Profile chooses what of TCP depends on distance: timers, and congestion
// control.
type Profile int

const (
	// ProfileWAN suits any path: no segment is sent again before 200 ms, the
	// value Linux uses, and congestion control is CUBIC.
	ProfileWAN Profile = iota

	// ProfileLAN is for peers that are all a few milliseconds away: no
	// segment is sent again before 50 ms, which is still more than the 40 ms
	// for which a Linux peer may hold an acknowledgement back, and congestion
	// control is Reno, which over such paths grows its window faster after a
	// loss: where one segment in a hundred is lost, it sends many times as much.
	ProfileLAN
)

// String returns the name of the profile.
func (p Profile) String() string {
	switch p {
	case ProfileWAN:
		return "WAN"
	case ProfileLAN:
		return "LAN"
	}
	return fmt.Sprintf("Profile(%d)", int(p))
}

// maxInterfaceName is the longest interface name in bytes: IFNAMSIZ of
// Linux's if.h, less the final zero.
const maxInterfaceName = 15

const maxNameservers = 16

// validate returns what is wrong with c: the field, its value and the rule.
func (c *Config) validate() error {
	if len(c.Interface) > maxInterfaceName {
		return fmt.Errorf("stack: Config.Interface: %q: longer than %d bytes", c.Interface, maxInterfaceName)
	}
	if len(c.Addresses) == 0 {
		return fmt.Errorf("stack: Config.Addresses: empty: at least one address is needed")
	}
	for i, p := range c.Addresses {
		if why := wrongAddress(p); why != "" {
			return fmt.Errorf("stack: Config.Addresses[%d]: %v: %s", i, p, why)
		}
		for _, q := range c.Addresses[:i] {
			if q.Addr() == p.Addr() {
				return fmt.Errorf("stack: Config.Addresses[%d]: %v: the address is there twice", i, p)
			}
		}
	}
	for i, r := range c.Routes {
		why := c.wrongRoute(r)
		for _, q := range c.Routes[:i] {
			if why == "" && q.Destination == r.Destination {
				why = "the destination is there twice"
			}
		}
		for _, g := range c.Gateways {
			if why == "" && r.Destination.Bits() == 0 && r.Destination.Addr().Is4() == g.Is4() {
				why = "a default route beside the one of Gateways"
			}
		}
		if why != "" {
			return fmt.Errorf("stack: Config.Routes[%d]: %v via %v: %s", i, r.Destination, r.Gateway, why)
		}
	}
	for i, g := range c.Gateways {
		why := c.wrongGateway(g)
		for _, h := range c.Gateways[:i] {
			if why == "" && h.Is4() == g.Is4() {
				why = "a second gateway of its family"
			}
		}
		if why != "" {
			return fmt.Errorf("stack: Config.Gateways[%d]: %v: %s", i, g, why)
		}
	}
	known := make(map[netip.Addr]bool, len(c.Neighbors))
	for i, n := range c.Neighbors {
		why, zone := wrongUnicast(n.Addr), n.Addr.Zone()
		switch {
		case why != "":
		case zone != "" && zone != c.Interface:
			why = "its zone is not Interface"
		case known[n.Addr.WithZone("")]:
			why = "the address is there twice"
		}
		if why != "" {
			return fmt.Errorf("stack: Config.Neighbors[%d].Addr: %v: %s", i, n.Addr, why)
		}
		known[n.Addr.WithZone("")] = true
		if len(n.HardwareAddr) != 6 || n.HardwareAddr[0]&1 != 0 {
			return fmt.Errorf("stack: Config.Neighbors[%d].HardwareAddr: %v: not a unicast address of 6 bytes", i, n.HardwareAddr)
		}
	}
	if len(c.Nameservers) > maxNameservers {
		return fmt.Errorf("stack: Config.Nameservers: %d of them: at most %d", len(c.Nameservers), maxNameservers)
	}
	for i, n := range c.Nameservers {
		why := wrongUnicast(n.Addr())
		if zone := n.Addr().Zone(); why == "" && zone != "" && zone != c.Interface {
			why = "its zone is not Interface"
		}
		if why != "" {
			return fmt.Errorf("stack: Config.Nameservers[%d]: %v: %s", i, n, why)
		}
	}
	if c.Profile != ProfileWAN && c.Profile != ProfileLAN {
		return fmt.Errorf("stack: Config.Profile: %v: neither ProfileWAN nor ProfileLAN", c.Profile)
	}
	return nil
}

// checkMTU returns what is wrong with c on a device of so many bytes: see noIPv6.
func (c *Config) checkMTU(device string, mtu int) error {
	for i, p := range c.Addresses {
		if p.Addr().Is6() && noIPv6(uint32(mtu)) {
			return fmt.Errorf("stack: Config.Addresses[%d]: %v: IPv6 needs an MTU of %d, %s has %d (ip link set %s mtu %d)",
				i, p, header.IPv6MinimumMTU, device, mtu, device, header.IPv6MinimumMTU)
		}
	}
	return nil
}

// wrongUnicast says why a cannot be the address of one host, or "".
func wrongUnicast(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "not an address"
	case a.Is4In6():
		return "IPv4-mapped address; write it as IPv4"
	case a.IsMulticast():
		return "multicast address"
	case a.IsUnspecified():
		return "unspecified address"
	case a.IsLoopback():
		return "loopback address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "broadcast address"
	}
	return ""
}

func wrongAddress(p netip.Prefix) string {
	if !p.IsValid() {
		return "not a prefix"
	}
	if why := wrongUnicast(p.Addr()); why != "" {
		return why
	}
	if p.Bits() == 0 {
		return "the prefix length is 0; use Gateways for a default route"
	}
	if p.Addr().Is4() && p.Bits() < 31 {
		switch p.Addr() {
		case p.Masked().Addr():
			return "network address of its prefix"
		case lastAddr(p):
			return "broadcast address of its prefix"
		}
	}
	return ""
}

// lastAddr returns the last address of an IPv4 prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

func (c *Config) wrongRoute(r Route) string {
	switch d := r.Destination; {
	case !d.IsValid():
		return "the destination is not a prefix"
	case d.Addr().Is4In6():
		return "IPv4-mapped destination; write it as IPv4"
	case d != d.Masked():
		return "the destination has host bits"
	case !r.Gateway.IsValid():
		return ""
	case r.Gateway.Is4() != d.Addr().Is4():
		return "gateway and destination are not of one family"
	}
	return c.wrongGateway(r.Gateway)
}

func (c *Config) wrongGateway(g netip.Addr) string {
	if why := wrongUnicast(g); why != "" {
		return why
	}
	if g.Zone() != "" && g.Zone() != c.Interface {
		return "its zone is not Interface"
	}
	if g.IsLinkLocalUnicast() && g.Is6() {
		return ""
	}
	for _, p := range c.Addresses {
		if p.Addr() == g {
			return "an address of the stack itself"
		}
	}
	for _, p := range c.Addresses {
		switch {
		case !p.Contains(g):
		case g.Is4() && p.Bits() < 31 && g == lastAddr(p):
			return "broadcast address of its prefix"
		default:
			return ""
		}
	}
	for _, r := range c.Routes {
		if !r.Gateway.IsValid() && r.Destination.Contains(g) {
			return ""
		}
	}
	return "not on the link: in no prefix of Addresses"
}
