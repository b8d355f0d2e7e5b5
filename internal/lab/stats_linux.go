package lab

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/afxnet/afxnet/internal/hostif"
)

// Stats returns the counters of an interface in the namespace: those that
// every interface has, under the names of struct rtnl_link_stats64
// (linux/if_link.h), such as rx_packets and tx_dropped, and those of its
// driver. veth has some per queue: rx_queue_0_xdp_packets,
// rx_queue_0_xdp_drops, rx_queue_0_xdp_redirect, tx_queue_0_xdp_xmit and more.
// The driver's are read after the others.
func (n *Namespace) Stats(device string) (stats map[string]uint64, err error) {
	err = n.Do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return fmt.Errorf("lab: statistics of %s: %w", device, err)
		}
		if stats, err = hostif.DriverStats(device); err != nil {
			return err
		}
		maps.Copy(stats, linkStats(link.Attrs().Statistics))
		return nil
	})
	return stats, err
}

func linkStats(s *netlink.LinkStatistics) map[string]uint64 {
	if s == nil {
		return nil
	}
	return map[string]uint64{
		"rx_packets":          s.RxPackets,
		"tx_packets":          s.TxPackets,
		"rx_bytes":            s.RxBytes,
		"tx_bytes":            s.TxBytes,
		"rx_errors":           s.RxErrors,
		"tx_errors":           s.TxErrors,
		"rx_dropped":          s.RxDropped,
		"tx_dropped":          s.TxDropped,
		"multicast":           s.Multicast,
		"collisions":          s.Collisions,
		"rx_length_errors":    s.RxLengthErrors,
		"rx_over_errors":      s.RxOverErrors,
		"rx_crc_errors":       s.RxCrcErrors,
		"rx_frame_errors":     s.RxFrameErrors,
		"rx_fifo_errors":      s.RxFifoErrors,
		"rx_missed_errors":    s.RxMissedErrors,
		"tx_aborted_errors":   s.TxAbortedErrors,
		"tx_carrier_errors":   s.TxCarrierErrors,
		"tx_fifo_errors":      s.TxFifoErrors,
		"tx_heartbeat_errors": s.TxHeartbeatErrors,
		"tx_window_errors":    s.TxWindowErrors,
		"rx_compressed":       s.RxCompressed,
		"tx_compressed":       s.TxCompressed,
	}
}

// IPSent returns how many frames the namespace's kernel has given to its
// interface: the IP packets that it made, without those that no interface took.
// It is what to subtract from an interface's count to get the frames of AF_XDP
// sockets. Neighbour discovery and multicast reports of IPv6 are in it, ARP is
// not.
//
// The kernel counts a packet as sent before it looks whether the interface can
// have it. While the link comes up or goes down it may not: mostly a multicast
// report of IPv6, which the kernel sends from a work queue of its own, a moment
// after an address or the link has come. Such a packet is counted as discarded
// too.
//
// The discarded ones are read first. One that is discarded between the two
// readings is then in the answer and missing from an account, as is a frame
// under way, until the account is read again.
func (n *Namespace) IPSent() (packets uint64, err error) {
	err = n.Do(func() error {
		discarded, err := ipCounter("OutDiscards")
		if err != nil {
			return err
		}
		sent, err := ipCounter("OutRequests")
		packets = sent - discarded
		return err
	})
	return packets, err
}

// ipCounter returns a counter of the calling thread's network namespace, summed
// over IPv4 and IPv6.
func ipCounter(name string) (uint64, error) {
	v4, err := snmpValue("/proc/thread-self/net/snmp", "Ip:", name)
	if err != nil {
		return 0, err
	}
	v6, err := snmpValue("/proc/thread-self/net/snmp6", "Ip6"+name, "")
	return v4 + v6, err
}

// snmpValue reads one counter of /proc/net/snmp or snmp6.
func snmpValue(file, line, column string) (uint64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	v, err := snmpColumn(string(text), line, column)
	if err != nil {
		return 0, fmt.Errorf("lab: %s: %w", file, err)
	}
	return v, nil
}

// snmpColumn finds a counter in a table of snmp, where a line of names goes
// before the line of values, or of snmp6, where each line is name and value and
// there is no column.
func snmpColumn(table, line, column string) (uint64, error) {
	at := 1
	for l := range strings.Lines(table) {
		f := strings.Fields(l)
		if len(f) <= at || f[0] != line {
			continue
		}
		if i := slices.Index(f, column); i > 0 {
			at = i
			continue
		}
		return strconv.ParseUint(f[at], 10, 64)
	}
	return 0, fmt.Errorf("no %s %s", line, column)
}

// SetNeighbor makes the namespace's kernel know the link address of an address
// on its network, for a peer that does not answer ARP.
func (n *Namespace) SetNeighbor(addr netip.Addr, mac net.HardwareAddr) error {
	return n.SetNeighborOn(n.Device, addr, mac)
}

// Neighbor returns where the namespace's kernel believes an address to be, nil if it
// does not know.
func (n *Namespace) Neighbor(addr netip.Addr) (mac net.HardwareAddr, err error) {
	err = n.Do(func() error {
		ifc, err := n.Interface()
		if err != nil {
			return err
		}
		family := netlink.FAMILY_V4
		if addr.Is6() {
			family = netlink.FAMILY_V6
		}
		all, err := netlink.NeighList(ifc.Index, family)
		for _, e := range all {
			if a, ok := netip.AddrFromSlice(e.IP); ok && a.Unmap() == addr {
				mac = e.HardwareAddr
			}
		}
		return err
	})
	return mac, err
}

// SetNeighborOn is SetNeighbor for another device of the namespace.
func (n *Namespace) SetNeighborOn(device string, addr netip.Addr, mac net.HardwareAddr) error {
	return n.Do(func() error {
		ifc, err := hostif.Lookup(device)
		if err != nil {
			return err
		}
		err = netlink.NeighSet(&netlink.Neigh{LinkIndex: ifc.Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac})
		if err != nil {
			return fmt.Errorf("lab: neighbour %v: %w", addr, err)
		}
		return nil
	})
}
