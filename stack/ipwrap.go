package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/netdev"
)

// Netstack asks a link once whether it checks checksums, for all packets, and
// overwrites what the link has said about one. That will not do here: the
// checksum of a datagram that comes in fragments can be checked only when they
// are together, by netstack. So the link claims nothing, and the IP protocols
// are wrapped: after netstack has overwritten the mark, and before its IP
// endpoint looks at it, HandlePacket sets it for the packets that the link has
// marked: TCP and UDP in one piece.
//
// Netstack asks its protocols and endpoints by type assertion what they can
// do. The wrappers embed every interface that the real ones have; a test
// compares the two.

type (
	// An ipv4Inner is all that netstack's IPv4 endpoint is.
	ipv4Inner interface {
		gstack.NetworkEndpoint
		gstack.AddressableEndpoint
		gstack.GroupAddressableEndpoint
		gstack.MulticastForwardingNetworkEndpoint
		gstack.LinkResolvableNetworkEndpoint
		ipv4.IGMPEndpoint
	}
	// An ipv6Inner is all that netstack's IPv6 endpoint is.
	ipv6Inner interface {
		gstack.NetworkEndpoint
		gstack.AddressableEndpoint
		gstack.GroupAddressableEndpoint
		gstack.MulticastForwardingNetworkEndpoint
		gstack.LinkResolvableNetworkEndpoint
		gstack.LinkAddressResolver
		gstack.DuplicateAddressDetector
		gstack.NDPEndpoint
		ipv6.MLDEndpoint
		ipv6.NDPEndpoint
	}
	ipv4InnerProtocol interface {
		gstack.MulticastForwardingNetworkProtocol
		gstack.RejectIPv4WithHandler
	}
	ipv6InnerProtocol interface {
		gstack.MulticastForwardingNetworkProtocol
		gstack.RejectIPv6WithHandler
	}
)

type (
	ipv4Protocol struct {
		ipv4InnerProtocol
		guard *guard
	}
	ipv6Protocol struct {
		ipv6InnerProtocol
		guard *guard
	}
	ipv4Endpoint struct {
		ipv4Inner
		ids datagramIDs
	}
	ipv6Endpoint struct{ ipv6Inner }
)

// wrapIPv4 wraps the IPv4 protocol that factory makes, if verified is true. A
// protocol of another shape than the one known here is left as it is: its
// packets are checked twice, which is slower and right. What the IP layer hands
// to the transport layer passes g.
func wrapIPv4(factory gstack.NetworkProtocolFactory, verified bool, g *guard) gstack.NetworkProtocolFactory {
	if !verified {
		return factory
	}
	return func(s *gstack.Stack) gstack.NetworkProtocol {
		inner := factory(s)
		if p, ok := inner.(ipv4InnerProtocol); ok {
			return &ipv4Protocol{p, g}
		}
		return inner
	}
}

// wrapIPv6 does for IPv6 what wrapIPv4 does for IPv4.
func wrapIPv6(factory gstack.NetworkProtocolFactory, verified bool, g *guard) gstack.NetworkProtocolFactory {
	if !verified {
		return factory
	}
	return func(s *gstack.Stack) gstack.NetworkProtocol {
		inner := factory(s)
		if p, ok := inner.(ipv6InnerProtocol); ok {
			return &ipv6Protocol{p, g}
		}
		return inner
	}
}

// NewEndpoint implements gstack.NetworkProtocol.
func (p *ipv4Protocol) NewEndpoint(nic gstack.NetworkInterface, d gstack.TransportDispatcher) gstack.NetworkEndpoint {
	inner := p.ipv4InnerProtocol.NewEndpoint(nic, p.guard.protect(d))
	if e, ok := inner.(ipv4Inner); ok {
		return &ipv4Endpoint{ipv4Inner: e, ids: newDatagramIDs()}
	}
	return inner
}

// NewEndpoint implements gstack.NetworkProtocol.
func (p *ipv6Protocol) NewEndpoint(nic gstack.NetworkInterface, d gstack.TransportDispatcher) gstack.NetworkEndpoint {
	inner := p.ipv6InnerProtocol.NewEndpoint(nic, p.guard.protect(d))
	if e, ok := inner.(ipv6Inner); ok {
		return &ipv6Endpoint{e}
	}
	return inner
}

// HandlePacket implements gstack.NetworkEndpoint.
func (e *ipv4Endpoint) HandlePacket(pkt *gstack.PacketBuffer) {
	pkt.RXChecksumValidated = netdev.Verified(pkt)
	e.ipv4Inner.HandlePacket(pkt)
}

// HandlePacket implements gstack.NetworkEndpoint.
func (e *ipv6Endpoint) HandlePacket(pkt *gstack.PacketBuffer) {
	pkt.RXChecksumValidated = netdev.Verified(pkt)
	e.ipv6Inner.HandlePacket(pkt)
}
