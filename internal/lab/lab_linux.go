package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// Interface indices, unlike each other on purpose. Index 1 is the loopback
// interface of each namespace.
const (
	hostIndex = 2
	peerIndex = 3
)

// runningTimeout bounds the wait for the interfaces. They take milliseconds,
// but the kernel may put off link events by a second (linkwatch), and emulated
// NICs on a busy computer take seconds.
const runningTimeout = 30 * time.Second

// offloads are switched off unless Config.Offloads. The kernel takes TCP
// segmentation away with the checksums; naming it keeps that from depending
// on the kernel's version.
var offloads = []string{
	"tx-tcp-segmentation",
	"tx-tcp-ecn-segmentation",
	"tx-tcp-mangleid-segmentation",
	"tx-tcp6-segmentation",
	"tx-udp-segmentation",
	"tx-checksum-ip-generic",
}

// open fills in an empty lab. Close frees what it made before an error.
func (l *Lab) open() (err error) {
	if l.Host, err = newNamespace(HostDevice, hostNumber); err != nil {
		return err
	}
	if l.Peer, err = newNamespace(PeerDevice, peerNumber); err != nil {
		return err
	}
	for _, n := range []*Namespace{l.Host, l.Peer} {
		if err := n.Do(quietIPv6); err != nil {
			return err
		}
	}
	if l.Config.onNICs() {
		err = l.takeNICs()
	} else {
		err = l.Host.Do(l.addPair)
	}
	if err != nil {
		return err
	}
	for _, n := range []*Namespace{l.Host, l.Peer} {
		if err := n.Do(func() error { return l.setUp(n) }); err != nil {
			return err
		}
	}
	for _, n := range []*Namespace{l.Host, l.Peer} {
		if err := n.waitRunning(); err != nil {
			return err
		}
	}
	return nil
}

// quietIPv6 sets what interfaces made later in this namespace start with.
// The files under /proc/sys/net are those of the thread that opens them.
func quietIPv6() error {
	for _, setting := range []struct{ name, value string }{
		{"accept_dad", "0"},
		{"dad_transmits", "0"},
		{"accept_ra", "0"},
		{"autoconf", "0"},
		{"router_solicitations", "0"},
		{"addr_gen_mode", "1"}, // IN6_ADDR_GEN_MODE_NONE: no link-local address
		{"keep_addr_on_down", "1"},
	} {
		path := "/proc/sys/net/ipv6/conf/default/" + setting.name
		if err := os.WriteFile(path, []byte(setting.value), 0); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	return nil
}

func (l *Lab) addPair() error {
	l.Peer.mu.RLock()
	defer l.Peer.mu.RUnlock()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = HostDevice
	attrs.Index = hostIndex
	attrs.MTU = l.Config.MTU
	attrs.NumRxQueues = l.Config.Queues
	attrs.NumTxQueues = l.Config.TXQueues
	veth := netlink.NewVeth(attrs)
	veth.PeerName = PeerDevice
	veth.PeerNamespace = netlink.NsFd(l.Peer.fd)
	veth.PeerMTU = uint32(l.Config.MTU)
	veth.PeerNumRxQueues = uint32(l.Config.PeerQueues)
	veth.PeerNumTxQueues = uint32(l.Config.PeerQueues)
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("lab: add veth pair: %w", err)
	}
	return nil
}

// setUp configures the interfaces of one namespace.
//
// Preconditions: the thread is in n.
func (l *Lab) setUp(n *Namespace) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("lab: look up lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("lab: set lo up: %w", err)
	}
	link, err := n.link()
	if err != nil {
		return err
	}
	if !l.Config.Offloads {
		for _, feature := range offloads {
			undo, err := hostif.SetOffload(n.Device, feature, false)
			if err != nil {
				return err
			}
			l.undo = append(l.undo, undo)
		}
	}
	for _, prefix := range []netip.Prefix{n.V4, n.V6} {
		if err := addAddress(link, prefix); err != nil {
			return fmt.Errorf("lab: add address %v to %s: %w", prefix, n.Device, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("lab: set %s up: %w", n.Device, err)
	}
	return nil
}

// waitRunning waits until the interface carries frames, and its addresses are in use:
// being up is not enough, its queues are activated by a link event that comes later.
func (n *Namespace) waitRunning() error {
	link := make(chan error, 1)
	tell := func(err error) {
		select {
		case link <- err:
		default: // one answer is enough
		}
	}
	var stop func()
	err := n.Do(func() error {
		ifc, err := hostif.Lookup(n.Device)
		if err != nil {
			return err
		}
		stop, err = hostif.Watch(ifc.Index, func(e hostif.Event) {
			switch {
			case e.Err != nil:
				tell(e.Err)
			case e.State.Running:
				tell(nil)
			case !e.State.Present:
				tell(unix.ENODEV)
			}
		})
		return err
	})
	if err != nil {
		return err
	}
	defer stop()
	select {
	case err = <-link:
	case <-time.After(runningTimeout):
		err = os.ErrDeadlineExceeded
	}
	if err != nil {
		return fmt.Errorf("lab: wait for %s to run: %w", n.Device, err)
	}
	return n.waitAddresses()
}

// link looks up the namespace's interface.
//
// Preconditions: the thread is in n.
func (n *Namespace) link() (netlink.Link, error) {
	link, err := netlink.LinkByName(n.Device)
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		err = unix.ENODEV
	}
	if err != nil {
		return nil, fmt.Errorf("lab: look up %s: %w", n.Device, err)
	}
	return link, nil
}
