package hostif

import (
	"errors"
	"fmt"
	"net/netip"
)

// Protocols of a Flow, by their number in IP.
const (
	FlowTCP  = 6
	FlowUDP  = 17
	FlowSCTP = 132
)

// Flow is which packets a rule of the device is about. What is zero is any.
type Flow struct {
	EtherType        uint16 // of packets that are not IP: without any of the others
	Protocol         uint8  // FlowTCP, FlowUDP or FlowSCTP
	Src, Dst         netip.Prefix
	SrcPort, DstPort uint16
}

// Check tells what is wrong with the flow. The address says which IP it is, so one
// has to be there, such as 0.0.0.0/0.
func (f Flow) Check() error {
	ip := f
	ip.EtherType = 0
	switch {
	case f.EtherType != 0 && ip != Flow{}:
		return errors.New("flow rule: EtherType: not with addresses, ports or a protocol")
	case f.EtherType != 0:
		return nil
	case f.Protocol != FlowTCP && f.Protocol != FlowUDP && f.Protocol != FlowSCTP:
		return fmt.Errorf("flow rule: Protocol: %d: %d (TCP), %d (UDP) or %d (SCTP)", f.Protocol, FlowTCP, FlowUDP, FlowSCTP)
	case wrongPrefix(f.Src) || wrongPrefix(f.Dst):
		return fmt.Errorf("flow rule: Src, Dst: %v, %v: prefixes of IPv4 or IPv6, or none", f.Src, f.Dst)
	case !f.Src.IsValid() && !f.Dst.IsValid():
		return errors.New("flow rule: Src, Dst: one says whether this is IPv4 or IPv6, such as 0.0.0.0/0 or ::/0 for any address")
	case f.Src.IsValid() && f.Dst.IsValid() && f.Src.Addr().Is4() != f.Dst.Addr().Is4():
		return fmt.Errorf("flow rule: Src, Dst: %v and %v: one is IPv4, the other IPv6", f.Src, f.Dst)
	}
	return nil
}

// wrongPrefix tells whether p is there and is not what it seems: a length that there
// is not would be any address, and IPv4 mapped to IPv6 is in no packet.
func wrongPrefix(p netip.Prefix) bool {
	return p != netip.Prefix{} && (!p.IsValid() || p.Addr().Is4In6())
}

func (f Flow) ipv4() bool {
	if f.Src.IsValid() {
		return f.Src.Addr().Is4()
	}
	return f.Dst.Addr().Is4()
}
