package gvisorpeer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/hostif"
)

// An endpoint is a gVisor link endpoint on a device, with how to end it.
type endpoint struct {
	gate     gate
	info     map[string]string
	counters func() map[string]uint64 // nil: none
	stop     func() error             // the gate is shut; returns with no goroutine left
}

// gvisor is a peer: a netstack over an endpoint.
type gvisor struct {
	Sockets
	link   *endpoint
	groups []func() error // multicast memberships, to be left

	once sync.Once
	err  error
}

// Open opens a peer on cfg.Interface, in the network namespace of the calling
// thread. kind is "xdp" or "packet".
//
// Errors name the step and the device. errors.Is finds the system's error, such
// as unix.EPERM without the privileges, or unix.EBUSY if the queue is taken.
func Open(kind string, cfg peer.Config) (peer.Peer, error) {
	options, ok := map[string]func(hostif.Interface, peer.Config) (*endpoint, error){
		"xdp":    openXDP,
		"packet": openPacket,
	}[kind]
	if !ok {
		return nil, fmt.Errorf("gvisorpeer: kind %q: neither \"xdp\" nor \"packet\"", kind)
	}
	return open(cfg, options)
}

func open(cfg peer.Config, openLink func(hostif.Interface, peer.Config) (*endpoint, error)) (_ peer.Peer, err error) {
	dev, err := hostif.Lookup(cfg.Interface)
	if err != nil {
		return nil, fmt.Errorf("gvisorpeer: look up %s: %w", cfg.Interface, err)
	}
	if len(dev.MAC) != 6 {
		return nil, fmt.Errorf("gvisorpeer: %s has no Ethernet address", cfg.Interface)
	}
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	if cfg.MTU < 0 || cfg.MTU > dev.MTU {
		return nil, fmt.Errorf("gvisorpeer: Config.MTU: %d bytes: %s has %d", cfg.MTU, cfg.Interface, dev.MTU)
	}
	link, err := openLink(dev, cfg)
	if err != nil {
		return nil, fmt.Errorf("gvisorpeer: open %s: %w", cfg.Interface, err)
	}
	p := &gvisor{link: link}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	link.gate.mtu = uint32(cfg.MTU)
	if p.Stack, err = NewStack(&link.gate, nil, cfg.V4, cfg.V6); err != nil {
		return nil, err
	}
	if a := cfg.V6.Addr(); a.Is6() {
		c, err := hostif.JoinMulticast(dev.Index, solicitedNode(a))
		if err != nil {
			return nil, fmt.Errorf("gvisorpeer: join the multicast group of %v on %s: %w", a, cfg.Interface, err)
		}
		p.groups = append(p.groups, c.Close)
	}
	return p, nil
}

// solicitedNode returns the Ethernet group of neighbour solicitations for an
// address (RFC 4291, section 2.7.1, and RFC 2464, section 7).
func solicitedNode(a netip.Addr) net.HardwareAddr {
	b := a.As16()
	return net.HardwareAddr{0x33, 0x33, 0xff, b[13], b[14], b[15]}
}

// linkAddress is a hardware address as gVisor has it.
func linkAddress(mac net.HardwareAddr) tcpip.LinkAddress { return tcpip.LinkAddress(mac) }

// Counters returns netstack's packets and drops, and what the link counts.
func (p *gvisor) Counters() map[string]uint64 {
	all := make(map[string]uint64)
	if p.link.counters != nil {
		all = p.link.counters()
	}
	st := p.Stack.Stats()
	all["tcp_segments_received"] = st.TCP.ValidSegmentsReceived.Value()
	all["tcp_segments_sent"] = st.TCP.SegmentsSent.Value()
	all["tcp_retransmits"] = st.TCP.Retransmits.Value()
	all["tcp_timeouts"] = st.TCP.Timeouts.Value()
	all["dropped_packets"] = st.DroppedPackets.Value()
	if nic, ok := p.Stack.NICInfo()[NICID]; ok {
		all["rx_frames"] = nic.Stats.Rx.Packets.Value()
		all["tx_packets"] = nic.Stats.Tx.Packets.Value()
		all["tx_dropped"] = nic.Stats.TxPacketsDroppedNoBufferSpace.Value()
	}
	return all
}

// Info returns the settings in force.
func (p *gvisor) Info() map[string]string { return p.link.info }

// Close resets what is open, ends the goroutines and frees the device.
func (p *gvisor) Close() error {
	p.once.Do(func() {
		var errs []error
		if p.Stack != nil {
			p.Stack.Close()
		}
		p.link.gate.shut()
		errs = append(errs, p.link.stop())
		if p.Stack != nil {
			p.Stack.Destroy()
		}
		for _, leave := range p.groups {
			errs = append(errs, leave())
		}
		p.err = errors.Join(errs...)
	})
	return p.err
}

var _ gstack.LinkEndpoint = (*gate)(nil)
var _ gstack.GSOEndpoint = (*gate)(nil)
