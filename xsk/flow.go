package xsk

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/afxnet/afxnet/internal/hostif"
)

// Protocols of a FlowRule, by their number in IP.
const (
	ProtocolTCP  = hostif.FlowTCP
	ProtocolUDP  = hostif.FlowUDP
	ProtocolSCTP = hostif.FlowSCTP
)

// FlowRule has a device send the packets of some flows to one receive queue: before
// RSS, and before any program sees them. What is zero is any.
type FlowRule struct {
	// Protocol is ProtocolTCP, ProtocolUDP or ProtocolSCTP.
	Protocol uint8

	// Src and Dst are where packets come from and go to. One of them has to be
	// there, as it tells IPv4 from IPv6: 0.0.0.0/0 or ::/0 is any address.
	// Many devices take whole addresses only, or the same length for all rules.
	Src, Dst netip.Prefix

	// SrcPort and DstPort are those of the protocol.
	SrcPort, DstPort uint16

	// EtherType is of packets that are not IP, such as 0x88f7 for PTP, instead
	// of all the above.
	EtherType uint16

	// Queue is the receive queue, the one that a socket is bound to.
	Queue uint32
}

// SteeredFlow is a rule that a device has.
type SteeredFlow struct {
	device string
	queue  uint32
	held   *hostif.HeldFlow
}

// SteerFlow gives a device a rule (ntuple filter, as ethtool -N does), and reads back
// that it has it, so that one socket on one queue gets its flows without the rest of
// the device's traffic. Close removes it; if the process ends without that, the next
// [Open] or SteerFlow of whatever process does, by a record below /run/afxnet.
//
// errors.Is(err, errors.ErrUnsupported) holds for a driver without rules (veth,
// virtio_net), for one that does not take this one, and while they are switched off,
// as they often are: ethtool -K eth0 ntuple on. [OpenAll] reads all queues, and needs
// none. With a rule for the same packets the error wraps EEXIST, or EBUSY if a
// program of this module holds it, with no room ENOSPC, without CAP_NET_ADMIN
// os.ErrPermission. It acts in the caller's network namespace; safe for concurrent use.
func SteerFlow(device string, rule FlowRule) (*SteeredFlow, error) {
	flow := rule.flow()
	if err := flow.Check(); err != nil {
		return nil, fmt.Errorf("xsk: %w", err)
	}
	s := &SteeredFlow{device: device, queue: rule.Queue}
	ifc, err := hostif.Lookup(device)
	if err != nil {
		return nil, s.opError("look up interface", err)
	}
	if int64(rule.Queue) >= int64(ifc.RXQueues) {
		return nil, s.opError("steer flow", fmt.Errorf("the device has %d receive queues: %w", ifc.RXQueues, syscall.EINVAL))
	}
	if s.held, err = hostif.AddFlow(ifc.Index, flow, rule.Queue); err != nil {
		return nil, s.opError("steer flow", err)
	}
	return s, nil
}

// Location is the rule's number, as ethtool -n tells it.
func (s *SteeredFlow) Location() uint32 { return s.held.Location }

// Close removes the rule. It does nothing the second time, and if the rule or the
// device is gone.
func (s *SteeredFlow) Close() error {
	if err := s.held.Remove(); err != nil {
		return s.opError("remove flow rule", err)
	}
	return nil
}

func (s *SteeredFlow) opError(op string, err error) error {
	remedy := ""
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		remedy = "read all queues with OpenAll, or give the device one queue: ethtool -L " + s.device + " combined 1"
	case errors.Is(err, os.ErrPermission):
		remedy = "flow rules need CAP_NET_ADMIN and a /run/afxnet/settings to write to"
	case errors.Is(err, syscall.EEXIST), errors.Is(err, syscall.EBUSY):
		remedy = "one rule can be for these packets: remove the other one first"
	}
	return &OpError{Op: op, Device: s.device, Queue: s.queue, Err: err, Remedy: remedy}
}

func (r FlowRule) flow() hostif.Flow {
	return hostif.Flow{EtherType: r.EtherType, Protocol: r.Protocol, Src: r.Src, Dst: r.Dst, SrcPort: r.SrcPort, DstPort: r.DstPort}
}
