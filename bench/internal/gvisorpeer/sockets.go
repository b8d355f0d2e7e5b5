package gvisorpeer

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Sockets gives a netstack's gonet sockets by network and address strings, as
// package net does. Its methods may be called from any goroutine.
type Sockets struct{ Stack *gstack.Stack }

// Listen announces on a TCP address: network is "tcp4" or "tcp6". A host that
// is empty stands for all addresses.
func (s Sockets) Listen(network, address string) (net.Listener, error) {
	addr, proto, err := resolve("tcp", network, address)
	if err != nil {
		return nil, err
	}
	var wq waiter.Queue
	ep, terr := s.Stack.NewEndpoint(tcp.ProtocolNumber, proto, &wq)
	if terr != nil {
		return nil, listenError(network, address, terr)
	}
	// As package net does, and gonet does not: connections of an earlier
	// listener may still be closing.
	ep.SocketOptions().SetReuseAddress(true)
	if terr := ep.Bind(addr); terr != nil {
		ep.Close()
		return nil, listenError(network, address, terr)
	}
	if terr := ep.Listen(backlog); terr != nil {
		ep.Close()
		return nil, listenError(network, address, terr)
	}
	return gonet.NewTCPListener(s.Stack, &wq, ep), nil
}

// backlog is the number of connections that wait to be accepted: that of
// package stack, and of Linux.
const backlog = 4096

func listenError(network, address string, terr tcpip.Error) error {
	return fmt.Errorf("gvisorpeer: listen %s %s: %s", network, address, terr)
}

// ListenPacket announces on a UDP address: network is "udp4" or "udp6". A host
// that is empty stands for all addresses.
func (s Sockets) ListenPacket(network, address string) (net.PacketConn, error) {
	addr, proto, err := resolve("udp", network, address)
	if err != nil {
		return nil, err
	}
	c, err := gonet.DialUDP(s.Stack, &addr, nil, proto)
	if err != nil {
		return nil, fmt.Errorf("gvisorpeer: listen %s %s: %w", network, address, err)
	}
	return c, nil
}

// DialContext connects over TCP or UDP: network is one of those of Listen and
// ListenPacket. The address is a literal.
func (s Sockets) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "udp4" || network == "udp6" {
		addr, proto, err := resolve("udp", network, address)
		if err != nil {
			return nil, err
		}
		c, err := gonet.DialUDP(s.Stack, nil, &addr, proto)
		if err != nil {
			return nil, fmt.Errorf("gvisorpeer: dial %s %s: %w", network, address, err)
		}
		return c, nil
	}
	addr, proto, err := resolve("tcp", network, address)
	if err != nil {
		return nil, err
	}
	c, err := gonet.DialContextTCP(ctx, s.Stack, addr, proto)
	if err != nil {
		return nil, fmt.Errorf("gvisorpeer: dial %s %s: %w", network, address, err)
	}
	return c, nil
}

// resolve turns strings into what gonet wants. transport is what network must
// start with.
func resolve(transport, network, address string) (tcpip.FullAddress, tcpip.NetworkProtocolNumber, error) {
	var proto tcpip.NetworkProtocolNumber
	switch network {
	case transport + "4":
		proto = header.IPv4ProtocolNumber
	case transport + "6":
		proto = header.IPv6ProtocolNumber
	default:
		return tcpip.FullAddress{}, 0, net.UnknownNetworkError(network)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return tcpip.FullAddress{}, 0, fmt.Errorf("gvisorpeer: %w", err)
	}
	port, err := net.LookupPort(network, service)
	if err != nil {
		return tcpip.FullAddress{}, 0, fmt.Errorf("gvisorpeer: %w", err)
	}
	full := tcpip.FullAddress{Port: uint16(port)}
	if host == "" {
		return full, proto, nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return tcpip.FullAddress{}, 0, fmt.Errorf("gvisorpeer: %w", err)
	}
	if protocolOf(addr) != proto {
		return tcpip.FullAddress{}, 0, &net.AddrError{Err: "address is not of network " + network, Addr: host}
	}
	if !addr.IsUnspecified() {
		full.NIC = NICID
		full.Addr = tcpip.AddrFromSlice(addr.AsSlice())
	}
	return full, proto, nil
}
