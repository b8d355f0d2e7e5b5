package stack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// A ListenConfig listens on a Stack. Its fields have the meaning and the defaults
// that net.ListenConfig's have, so that code which fills in a net.ListenConfig
// changes the type and adds Stack. It may be used by many goroutines, if none
// changes it.
type ListenConfig struct {
	// Stack is where to listen. It must be set.
	Stack *Stack

	// Control must be nil. In package net it is given the file descriptor of the
	// new socket; a Stack's have none. Listening with it fails, with an error for
	// which errors.Is holds with errors.ErrUnsupported.
	Control func(network, address string, c syscall.RawConn) error

	// KeepAlive is how long an accepted connection is idle before it is probed.
	// Zero means 15 s; below zero it is not probed. KeepAliveConfig.Enable
	// overrides it.
	KeepAlive time.Duration

	// KeepAliveConfig says how accepted connections are probed if its Enable is
	// true; see TCPConn.SetKeepAliveConfig. Otherwise KeepAlive says it.
	KeepAliveConfig net.KeepAliveConfig

	// Backlog is how many connections may wait to be accepted, besides one; package
	// net has the kernel's net.core.somaxconn for it. Peers for whom there is no
	// room are not answered, and try again. As many as Backlog says may be half
	// open; beyond that SYN cookies are sent. Zero means 4096; at most 65535.
	Backlog int

	noMultipath bool
}

// maxBacklog is the largest ListenConfig.Backlog: that of Linux before 5.4, where
// it had 16 bits.
const maxBacklog = 65535

// MultipathTCP reports what SetMultipathTCP has set; true by default, as in
// package net.
func (lc *ListenConfig) MultipathTCP() bool { return !lc.noMultipath }

// SetMultipathTCP allows MPTCP. A Stack does not speak it: connections are those
// of plain TCP, as package net's are where the kernel has no MPTCP.
func (lc *ListenConfig) SetMultipathTCP(use bool) { lc.noMultipath = !use }

// Listen announces a TCP service on an address of the stack, as
// net.ListenConfig.Listen does. The network is "tcp", "tcp4" or "tcp6". Without a
// host, or with a wildcard, "tcp" takes both families if the stack has both. Of
// the addresses of a name it takes one, an IPv4 one if there is any. ctx ends the
// look-up of a name, and means nothing for the listener.
//
// The listener is a *TCPListener. The error is a *net.OpError: errors.Is tells
// EADDRINUSE, EADDRNOTAVAIL and net.ErrClosed (the stack was closed) apart.
func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	n, at, err := lc.address(ctx, "tcp", network, address)
	if err != nil {
		return nil, err
	}
	l, err := lc.Stack.listenTCP(n, at, lc)
	if err != nil {
		return nil, opError("listen", network, nil, tcpAddr(at), err)
	}
	return l, nil
}

// ListenPacket opens a UDP or ICMP socket on an address of the stack, as
// net.ListenConfig.ListenPacket does. The network is "udp", "udp4" or "udp6", and
// the socket a *UDPConn; or it is "ip4:icmp" or "ip6:ipv6-icmp", and the socket an
// *ICMPConn. At a multicast group it listens at the wildcard, may share the port with
// others that do, and is no member yet: see UDPConn.JoinGroup. See Listen for the rest.
func (lc *ListenConfig) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	if n, ok := icmpNetwork(network); ok {
		return lc.listenICMP(ctx, n, address)
	}
	n, at, err := lc.address(ctx, "udp", network, address)
	if err != nil {
		return nil, err
	}
	c, err := lc.Stack.listenUDP(n, at)
	if err != nil {
		return nil, opError("listen", network, nil, udpAddr(at), err)
	}
	return c, nil
}

// listenICMP is ListenPacket for networks that icmpNetwork knows.
func (lc *ListenConfig) listenICMP(ctx context.Context, n network, address string) (net.PacketConn, error) {
	if err := lc.usable(); err != nil {
		return nil, opError("listen", n.name, nil, nil, err)
	}
	c, err := lc.Stack.listenICMP(ctx, n, address)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// address returns where to listen. The error is whole.
func (lc *ListenConfig) address(ctx context.Context, proto, name, address string) (n network, at netip.AddrPort, err error) {
	if err = lc.usable(); err == nil {
		n, err = parseNetwork(name)
	}
	var all []netip.AddrPort
	if err == nil {
		all, err = lc.Stack.resolve(ctx, nil, n, address)
	}
	if err != nil {
		return n, at, opError("listen", name, nil, nil, err)
	}
	at = first(all, is4)
	if n.proto != proto {
		err = &net.AddrError{Err: "unexpected address type", Addr: address}
		return n, at, opError("listen", name, nil, n.addr(at), err)
	}
	return n, at, nil
}

// usable says what is wrong with lc, whatever it is to listen on.
func (lc *ListenConfig) usable() error {
	switch {
	case lc.Stack == nil:
		return errNoStack("ListenConfig")
	case lc.Control != nil:
		return unsupportedError("ListenConfig.Control")
	case lc.Backlog < 0 || lc.Backlog > maxBacklog:
		return fmt.Errorf("stack: ListenConfig.Backlog: %d: not in 0 to %d", lc.Backlog, maxBacklog)
	}
	return nil
}

// backlog returns the value that counts.
func (lc *ListenConfig) backlog() int {
	if lc.Backlog == 0 {
		return listenBacklog
	}
	return lc.Backlog
}
