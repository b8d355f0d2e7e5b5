package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Dial connects a kernel socket in the namespace. The address is a literal
// IP and port: package net creates the socket of a literal address on the
// calling goroutine, but would resolve names, and race the addresses it
// finds, on goroutines outside the namespace.
func (n *Namespace) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if err := checkLiteral(address); err != nil {
		return nil, err
	}
	err = n.Do(func() error {
		var d net.Dialer
		d.SetMultipathTCP(false)
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on a kernel socket in the namespace. The address is a
// literal IP and port, or a port alone, as in ":80".
func (n *Namespace) Listen(network, address string) (l net.Listener, err error) {
	if err := checkLiteral(address); err != nil {
		return nil, err
	}
	err = n.Do(func() error {
		// Package net listens with multipath TCP where it can. A plain
		// listener is what the stack is compared with.
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), network, address)
		return err
	})
	return l, err
}

// ListenPacket opens an unconnected kernel socket in the namespace. The
// address is as in Listen.
func (n *Namespace) ListenPacket(network, address string) (c net.PacketConn, err error) {
	if err := checkLiteral(address); err != nil {
		return nil, err
	}
	err = n.Do(func() error {
		var lc net.ListenConfig
		c, err = lc.ListenPacket(context.Background(), network, address)
		return err
	})
	return c, err
}

// checkLiteral admits "IP:port" and ":port". A zone has to be a number: the
// names are cached by package net, across namespaces.
func checkLiteral(address string) error {
	full := address
	if strings.HasPrefix(address, ":") {
		full = "0.0.0.0" + address
	}
	addr, err := netip.ParseAddrPort(full)
	if err != nil {
		return fmt.Errorf("lab: address %q is not a literal IP and port: %w", address, err)
	}
	if strings.Trim(addr.Addr().Zone(), "0123456789") != "" {
		return fmt.Errorf("lab: address %q: the zone is not an interface index", address)
	}
	return nil
}
