package stack

import (
	"math"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
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
// marked: TCP and UDP in one piece. On the way out WritePacket has the guard note
// TCP segments.
//
// A packet between plain addresses does not get that far: see fastIP.
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
		fast *fastIP
	}
	ipv6Protocol struct {
		ipv6InnerProtocol
		fast *fastIP
	}
	ipv4Endpoint struct {
		ipv4Inner
		nic  gstack.NetworkInterface
		fast *fastIP

		unfinished *unfinished
	}
	ipv6Endpoint struct {
		ipv6Inner
		nic  gstack.NetworkInterface
		fast *fastIP

		unfinished *unfinished
	}
)

// wrapIPv4 wraps the IPv4 protocol that factory makes, if verified is true. A
// protocol of another shape than the one known here is left as it is: its
// packets are checked twice, which is slower and right. What the IP layer hands
// to the transport layer passes f's guard.
func wrapIPv4(factory gstack.NetworkProtocolFactory, verified bool, f *fastIP) gstack.NetworkProtocolFactory {
	if !verified {
		return factory
	}
	return func(s *gstack.Stack) gstack.NetworkProtocol {
		inner := factory(s)
		if p, ok := inner.(ipv4InnerProtocol); ok {
			return &ipv4Protocol{p, f}
		}
		return inner
	}
}

// wrapIPv6 does for IPv6 what wrapIPv4 does for IPv4.
func wrapIPv6(factory gstack.NetworkProtocolFactory, verified bool, f *fastIP) gstack.NetworkProtocolFactory {
	if !verified {
		return factory
	}
	return func(s *gstack.Stack) gstack.NetworkProtocol {
		inner := factory(s)
		if p, ok := inner.(ipv6InnerProtocol); ok {
			return &ipv6Protocol{p, f}
		}
		return inner
	}
}

// NewEndpoint implements gstack.NetworkProtocol.
func (p *ipv4Protocol) NewEndpoint(nic gstack.NetworkInterface, d gstack.TransportDispatcher) gstack.NetworkEndpoint {
	nic = p.fast.bound(nic)
	inner := p.ipv4InnerProtocol.NewEndpoint(nic, p.fast.guard.protect(d))
	if e, ok := inner.(ipv4Inner); ok {
		w := &ipv4Endpoint{e, nic, p.fast, newUnfinished(p.fast.ns.Clock())}
		if nic.IsLoopback() {
			return ipv4Loopback{w}
		}
		return w
	}
	return inner
}

// NewEndpoint implements gstack.NetworkProtocol.
func (p *ipv6Protocol) NewEndpoint(nic gstack.NetworkInterface, d gstack.TransportDispatcher) gstack.NetworkEndpoint {
	nic = p.fast.bound(nic)
	inner := p.ipv6InnerProtocol.NewEndpoint(nic, p.fast.guard.protect(d))
	if e, ok := inner.(ipv6Inner); ok {
		w := &ipv6Endpoint{e, nic, p.fast, newUnfinished(p.fast.ns.Clock())}
		if nic.IsLoopback() {
			return ipv6Loopback{w}
		}
		return w
	}
	return inner
}

// HandlePacket implements gstack.NetworkEndpoint.
func (e *ipv4Endpoint) HandlePacket(pkt *gstack.PacketBuffer) {
	pkt.RXChecksumValidated = netdev.Verified(pkt)
	if pkt.RXChecksumValidated {
		if e.fast.receive4(pkt) {
			return
		}
	} else if fragment4(pkt) {
		e.keepUnfinished(pkt)
		keepHeader4(pkt)
	}
	if e.dropMartian(pkt) {
		return
	}
	e.ipv4Inner.HandlePacket(pkt)
}

// HandlePacket implements gstack.NetworkEndpoint.
func (e *ipv6Endpoint) HandlePacket(pkt *gstack.PacketBuffer) {
	if noIPv6(e.nic.MTU()) {
		e.ignore()
		return
	}
	pkt.RXChecksumValidated = netdev.Verified(pkt)
	if pkt.RXChecksumValidated {
		if e.fast.receive6(pkt) {
			return
		}
	} else if fragment6(pkt) {
		e.keepUnfinished(pkt)
	}
	e.ipv6Inner.HandlePacket(pkt)
}

// AcquireAssignedAddress implements gstack.AddressableEndpoint. To find the route of
// a connection, netstack asks each interface, twice, whether it has the peer's
// address, and each looks through its addresses under locks.
func (e *ipv4Endpoint) AcquireAssignedAddress(a tcpip.Address, allowTemp bool, peb gstack.PrimaryEndpointBehavior, readOnly bool) gstack.AddressEndpoint {
	if !allowTemp && e.fast.foreign4(a) {
		return nil
	}
	return e.ipv4Inner.AcquireAssignedAddress(a, allowTemp, peb, readOnly)
}

// WritePacket implements gstack.NetworkEndpoint.
func (e *ipv4Endpoint) WritePacket(r *gstack.Route, params gstack.NetworkHeaderParams, pkt *gstack.PacketBuffer) tcpip.Error {
	if params.Protocol == header.TCPProtocolNumber {
		e.fast.guard.sending(r, pkt)
	} else if params.Protocol == header.UDPProtocolNumber {
		if most := e.fast.guard.paths.most(r.RemoteAddress(), e.MTU()); pkt.Size() > most {
			return e.writeLong(r, &params, pkt, most)
		}
	}
	if done, err := e.fast.write4(e.nic, r, &params, pkt); done {
		return err
	}
	return e.ipv4Inner.WritePacket(r, params, pkt)
}

// WritePacket implements gstack.NetworkEndpoint.
func (e *ipv6Endpoint) WritePacket(r *gstack.Route, params gstack.NetworkHeaderParams, pkt *gstack.PacketBuffer) tcpip.Error {
	if noIPv6(e.nic.MTU()) && leaves(r) {
		e.refuse()
		return &tcpip.ErrNetworkUnreachable{}
	}
	if params.Protocol == header.TCPProtocolNumber {
		e.fast.guard.sending(r, pkt)
	} else if size := pkt.Size(); params.Protocol == header.UDPProtocolNumber && size <= math.MaxUint16 {
		if most := e.fast.guard.paths.most(r.RemoteAddress(), e.MTU()); size > most && e.fast.cuts(r, &params) {
			return e.writeLong(r, &params, pkt, most)
		}
	}
	if done, err := e.fast.write6(e.nic, r, &params, pkt); done {
		return err
	}
	return e.ipv6Inner.WritePacket(r, params, pkt)
}
