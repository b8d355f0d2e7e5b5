// A plain listener of the kernel is what the stack is compared with, not one of
// multipath TCP.
//
//go:debug multipathtcp=0

package netdiff

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/afxnet/afxnet/stack"
)

// A network is what package net and a stack.Stack have in common: a behaviour
// knows nothing else.
type network interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	DialBy(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error)
	DialTCP(network string, laddr, raddr *net.TCPAddr) (tcpConn, error)
	DialUDP(network string, laddr, raddr *net.UDPAddr) (udpConn, error)
	Listen(network, address string) (net.Listener, error)
	ListenBy(ctx context.Context, lc *net.ListenConfig, network, address string) (net.Listener, error)
	ListenPacketBy(ctx context.Context, lc *net.ListenConfig, network, address string) (net.PacketConn, error)
	ListenTCP(network string, laddr *net.TCPAddr) (tcpListener, error)
	ListenPacket(network, address string) (net.PacketConn, error)
	ListenUDP(network string, laddr *net.UDPAddr) (udpConn, error)
	ListenMulticastUDP(network string, ifi *net.Interface, gaddr *net.UDPAddr) (udpConn, error)
}

// A message is a datagram of a batch, for both networks.
type message = ipv4.Message

// tcpConn has the methods of a TCP connection.
type tcpConn interface {
	net.Conn
	io.ReaderFrom
	io.WriterTo
	CloseRead() error
	CloseWrite() error
	MultipathTCP() (bool, error)
	SetKeepAlive(keepalive bool) error
	SetKeepAliveConfig(config net.KeepAliveConfig) error
	SetKeepAlivePeriod(d time.Duration) error
	SetLinger(sec int) error
	SetNoDelay(noDelay bool) error
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}

// tcpListener has the methods of a TCP listener, but for AcceptTCP, whose result
// is of a type of its own in each network.
type tcpListener interface {
	net.Listener
	SetDeadline(t time.Time) error
}

// udpConn has the methods of a UDP socket, and of those that golang.org/x/net/ipv4
// and ipv6 put around package net's, which the stack's has itself.
type udpConn interface {
	udpMethodSet
	ReadBatch(ms []message, flags int) (int, error)
	WriteBatch(ms []message, flags int) (int, error)
	JoinGroup(group net.Addr) error
	LeaveGroup(group net.Addr) error
	member
}

// udpMethodSet has the methods of package net's sockets.
type udpMethodSet interface {
	net.Conn
	net.PacketConn
	ReadFromUDP(b []byte) (int, *net.UDPAddr, error)
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error)
	ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error)
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
	WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error)
	WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error)
	WriteToUDP(b []byte, addr *net.UDPAddr) (int, error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
}

// The two conform, whatever becomes of them.
var (
	_ tcpConn     = (*net.TCPConn)(nil)
	_ tcpConn     = (*stack.TCPConn)(nil)
	_ tcpListener = (*net.TCPListener)(nil)
	_ tcpListener = (*stack.TCPListener)(nil)

	_ udpMethodSet = (*net.UDPConn)(nil)
	_ udpMethodSet = (*stack.UDPConn)(nil)
)

// orNil returns a result as an interface that is nil if there was an error.
func orNil[I any, T any](c T, err error, as func(T) I) (I, error) {
	if err != nil {
		var none I
		return none, err
	}
	return as(c), nil
}

// whole makes the UDP sockets among what a network opens into a udpConn.
func whole[C any](c C, err error) (C, error) {
	if err != nil {
		return c, err
	}
	switch u := any(c).(type) {
	case *net.UDPConn:
		c = any(newKernelUDP(u)).(C)
	case *stack.UDPConn:
		c = any(stackUDP{u}).(C)
	}
	return c, nil
}

// kernel is package net. in, if not nil, runs a function in the network namespace
// that sockets are made in.
type kernel struct{ in func(func() error) error }

func made[T any](k kernel, f func() (T, error)) (v T, err error) {
	if k.in == nil {
		return f()
	}
	err = k.in(func() error {
		v, err = f()
		return err
	})
	return v, err
}

func (k kernel) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return k.DialBy(ctx, new(net.Dialer), network, address)
}

func (k kernel) DialBy(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	return whole(made(k, func() (net.Conn, error) { return d.DialContext(ctx, network, address) }))
}

func (k kernel) DialTCP(network string, laddr, raddr *net.TCPAddr) (tcpConn, error) {
	c, err := made(k, func() (*net.TCPConn, error) { return net.DialTCP(network, laddr, raddr) })
	return orNil(c, err, func(c *net.TCPConn) tcpConn { return c })
}

func (k kernel) DialUDP(network string, laddr, raddr *net.UDPAddr) (udpConn, error) {
	c, err := made(k, func() (*net.UDPConn, error) { return net.DialUDP(network, laddr, raddr) })
	return orNil(c, err, newKernelUDP)
}

func (k kernel) Listen(network, address string) (net.Listener, error) {
	return k.ListenBy(context.Background(), new(net.ListenConfig), network, address)
}

func (k kernel) ListenBy(ctx context.Context, lc *net.ListenConfig, network, address string) (net.Listener, error) {
	return made(k, func() (net.Listener, error) { return lc.Listen(ctx, network, address) })
}

func (k kernel) ListenPacketBy(ctx context.Context, lc *net.ListenConfig, network, address string) (net.PacketConn, error) {
	return whole(made(k, func() (net.PacketConn, error) { return lc.ListenPacket(ctx, network, address) }))
}

func (k kernel) ListenTCP(network string, laddr *net.TCPAddr) (tcpListener, error) {
	l, err := made(k, func() (*net.TCPListener, error) { return net.ListenTCP(network, laddr) })
	return orNil(l, err, func(l *net.TCPListener) tcpListener { return l })
}

func (k kernel) ListenPacket(network, address string) (net.PacketConn, error) {
	return k.ListenPacketBy(context.Background(), new(net.ListenConfig), network, address)
}

func (k kernel) ListenUDP(network string, laddr *net.UDPAddr) (udpConn, error) {
	c, err := made(k, func() (*net.UDPConn, error) { return net.ListenUDP(network, laddr) })
	return orNil(c, err, newKernelUDP)
}

func (k kernel) ListenMulticastUDP(network string, ifi *net.Interface, gaddr *net.UDPAddr) (udpConn, error) {
	c, err := made(k, func() (*net.UDPConn, error) { return net.ListenMulticastUDP(network, ifi, gaddr) })
	return orNil(c, err, newKernelUDP)
}

// ours is a stack of this module.
type ours struct{ *stack.Stack }

func (o ours) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return whole(o.DialContext(ctx, network, address))
}

func (o ours) DialBy(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	//lint:ignore SA1019 Cancel is compared too
	cancel := d.Cancel
	mine := stack.Dialer{
		Stack: o.Stack, Timeout: d.Timeout, Deadline: d.Deadline, LocalAddr: d.LocalAddr,
		FallbackDelay: d.FallbackDelay, KeepAlive: d.KeepAlive, KeepAliveConfig: d.KeepAliveConfig,
		Resolver: d.Resolver, Control: d.Control, ControlContext: d.ControlContext,
	}
	//lint:ignore SA1019 as above
	mine.Cancel = cancel
	mine.SetMultipathTCP(d.MultipathTCP())
	return whole(mine.DialContext(ctx, network, address))
}

func (o ours) config(lc *net.ListenConfig) *stack.ListenConfig {
	mine := &stack.ListenConfig{Stack: o.Stack, Control: lc.Control, KeepAlive: lc.KeepAlive, KeepAliveConfig: lc.KeepAliveConfig}
	mine.SetMultipathTCP(lc.MultipathTCP())
	return mine
}

func (o ours) ListenBy(ctx context.Context, lc *net.ListenConfig, network, address string) (net.Listener, error) {
	return o.config(lc).Listen(ctx, network, address)
}

func (o ours) ListenPacketBy(ctx context.Context, lc *net.ListenConfig, network, address string) (net.PacketConn, error) {
	return whole(o.config(lc).ListenPacket(ctx, network, address))
}

func (o ours) ListenPacket(network, address string) (net.PacketConn, error) {
	return whole(o.Stack.ListenPacket(network, address))
}

func (o ours) DialTCP(network string, laddr, raddr *net.TCPAddr) (tcpConn, error) {
	c, err := o.Stack.DialTCP(context.Background(), network, laddr, raddr)
	return orNil(c, err, func(c *stack.TCPConn) tcpConn { return c })
}

func (o ours) DialUDP(network string, laddr, raddr *net.UDPAddr) (udpConn, error) {
	c, err := o.Stack.DialUDP(network, laddr, raddr)
	return orNil(c, err, func(c *stack.UDPConn) udpConn { return stackUDP{c} })
}

func (o ours) ListenTCP(network string, laddr *net.TCPAddr) (tcpListener, error) {
	l, err := o.Stack.ListenTCP(network, laddr)
	return orNil(l, err, func(l *stack.TCPListener) tcpListener { return l })
}

func (o ours) ListenUDP(network string, laddr *net.UDPAddr) (udpConn, error) {
	c, err := o.Stack.ListenUDP(network, laddr)
	return orNil(c, err, func(c *stack.UDPConn) udpConn { return stackUDP{c} })
}

func (o ours) ListenMulticastUDP(network string, ifi *net.Interface, gaddr *net.UDPAddr) (udpConn, error) {
	c, err := o.Stack.ListenMulticastUDP(network, ifi, gaddr)
	return orNil(c, err, func(c *stack.UDPConn) udpConn { return stackUDP{c} })
}
