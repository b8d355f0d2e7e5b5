package stack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Where the link's MTU is below what IPv6 needs (RFC 8200, 5), nothing of IPv6 is sent
// or received there until it is large enough again. Linux takes the addresses off such
// a device (addrconf_notify, Linux 6.18 net/ipv6/addrconf.c). Netstack has an MTU of 0
// for it then (calculateNetworkMTU in pkg/tcpip/network/ipv6/ipv6.go) and refuses to
// send, but receives: a connection that it accepted would have segments of one byte,
// for good.

// noIPv6 tells whether a link has no IPv6, for its MTU in bytes.
func noIPv6(mtu uint32) bool { return mtu < header.IPv6MinimumMTU }

// refuse counts a packet that is not sent.
func (e *ipv6Endpoint) refuse() {
	for _, ip := range e.fast.netstackCounts(ipv6.ProtocolNumber) {
		ip.OutgoingPacketErrors.Increment()
	}
}

// ignore counts a packet that is not received, as netstack does on an interface that
// is switched off.
func (e *ipv6Endpoint) ignore() {
	for _, ip := range e.fast.netstackCounts(ipv6.ProtocolNumber) {
		ip.PacketsReceived.Increment()
		ip.DisabledPacketsReceived.Increment()
	}
}

// leaves tells whether a packet of a route goes to the link.
func leaves(r *gstack.Route) bool { return r.Loop()&gstack.PacketOut != 0 }

// offLink tells whether an address is one of IPv6 that is reached by the link, which
// has none.
func (s *Stack) offLink(to netip.Addr) bool {
	return to.Is6() && noIPv6(s.link.MTU()) && s.interfaceOf(ipv6.ProtocolNumber, tcpipAddr(to)) == 0
}
