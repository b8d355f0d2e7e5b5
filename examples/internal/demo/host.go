package demo

import (
	"context"
	"net"

	"github.com/afxnet/afxnet/internal/lab"
)

// A Host is where sockets come from: a *stack.Stack as it is, or Kernel.
type Host interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
	ListenPacket(network, address string) (net.PacketConn, error)
}

// Kernel is package net in the namespace of a lab.
type Kernel struct{ *lab.Namespace }

// DialContext is net.Dialer's.
func (k Kernel) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return k.Dial(ctx, network, address)
}
