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
	"sync"
	"time"

	"github.com/afxnet/afxnet/stack"
)

// A network is what package net and a stack.Stack have in common: a behaviour
// knows nothing else.
type network interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	DialTCP(network string, laddr, raddr *net.TCPAddr) (tcpConn, error)
	DialUDP(network string, laddr, raddr *net.UDPAddr) (udpConn, error)
	Listen(network, address string) (net.Listener, error)
	ListenTCP(network string, laddr *net.TCPAddr) (tcpListener, error)
	ListenPacket(network, address string) (net.PacketConn, error)
	ListenUDP(network string, laddr *net.UDPAddr) (udpConn, error)
}

// tcpConn has the methods of a TCP connection.
type tcpConn interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
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

// udpConn has the methods of a UDP socket.
type udpConn interface {
	net.Conn
	net.PacketConn
	ReadFromUDP(b []byte) (int, *net.UDPAddr, error)
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
	WriteToUDP(b []byte, addr *net.UDPAddr) (int, error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
}

// The two conform, whatever becomes of them.
var (
	_ tcpConn     = (*net.TCPConn)(nil)
	_ tcpConn     = (*stack.TCPConn)(nil)
	_ tcpListener = (*net.TCPListener)(nil)
	_ tcpListener = (*stack.TCPListener)(nil)
	_ udpConn     = (*net.UDPConn)(nil)
	_ udpConn     = (*stack.UDPConn)(nil)
)

// orNil returns a result as an interface that is nil if there was an error.
func orNil[I any, T any](c T, err error, as func(T) I) (I, error) {
	if err != nil {
		var none I
		return none, err
	}
	return as(c), nil
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
	return made(k, func() (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, address) })
}

func (k kernel) DialTCP(network string, laddr, raddr *net.TCPAddr) (tcpConn, error) {
	c, err := made(k, func() (*net.TCPConn, error) { return net.DialTCP(network, laddr, raddr) })
	return orNil(c, err, func(c *net.TCPConn) tcpConn { return c })
}

func (k kernel) DialUDP(network string, laddr, raddr *net.UDPAddr) (udpConn, error) {
	c, err := made(k, func() (*net.UDPConn, error) { return net.DialUDP(network, laddr, raddr) })
	return orNil(c, err, func(c *net.UDPConn) udpConn { return c })
}

func (k kernel) Listen(network, address string) (net.Listener, error) {
	return made(k, func() (net.Listener, error) { return net.Listen(network, address) })
}

func (k kernel) ListenTCP(network string, laddr *net.TCPAddr) (tcpListener, error) {
	l, err := made(k, func() (*net.TCPListener, error) { return net.ListenTCP(network, laddr) })
	return orNil(l, err, func(l *net.TCPListener) tcpListener { return l })
}

func (k kernel) ListenPacket(network, address string) (net.PacketConn, error) {
	return made(k, func() (net.PacketConn, error) { return net.ListenPacket(network, address) })
}

func (k kernel) ListenUDP(network string, laddr *net.UDPAddr) (udpConn, error) {
	c, err := made(k, func() (*net.UDPConn, error) { return net.ListenUDP(network, laddr) })
	return orNil(c, err, func(c *net.UDPConn) udpConn { return c })
}

// ours is a stack of this module.
type ours struct{ *stack.Stack }

func (o ours) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return o.DialContext(ctx, network, address)
}

func (o ours) DialTCP(network string, laddr, raddr *net.TCPAddr) (tcpConn, error) {
	c, err := o.Stack.DialTCP(context.Background(), network, laddr, raddr)
	return orNil(c, err, func(c *stack.TCPConn) tcpConn { return c })
}

func (o ours) DialUDP(network string, laddr, raddr *net.UDPAddr) (udpConn, error) {
	c, err := o.Stack.DialUDP(network, laddr, raddr)
	return orNil(c, err, func(c *stack.UDPConn) udpConn { return c })
}

func (o ours) ListenTCP(network string, laddr *net.TCPAddr) (tcpListener, error) {
	l, err := o.Stack.ListenTCP(network, laddr)
	return orNil(l, err, func(l *stack.TCPListener) tcpListener { return l })
}

func (o ours) ListenUDP(network string, laddr *net.UDPAddr) (udpConn, error) {
	c, err := o.Stack.ListenUDP(network, laddr)
	return orNil(c, err, func(c *stack.UDPConn) udpConn { return c })
}

// tracked remembers all sockets of a network, so that a behaviour need not close
// any: at its end, or if it hangs, closeAll does.
type tracked struct {
	network
	mu     sync.Mutex
	opened []io.Closer
}

func keep[T io.Closer](t *tracked, c T, err error) (T, error) {
	if err == nil {
		t.mu.Lock()
		t.opened = append(t.opened, c)
		t.mu.Unlock()
	}
	return c, err
}

func (t *tracked) closeAll() {
	t.mu.Lock()
	opened := t.opened
	t.opened = nil
	t.mu.Unlock()
	for _, c := range opened {
		c.Close()
	}
}

func (t *tracked) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := t.network.Dial(ctx, network, address)
	return keep(t, c, err)
}

func (t *tracked) DialTCP(network string, laddr, raddr *net.TCPAddr) (tcpConn, error) {
	c, err := t.network.DialTCP(network, laddr, raddr)
	return keep(t, c, err)
}

func (t *tracked) DialUDP(network string, laddr, raddr *net.UDPAddr) (udpConn, error) {
	c, err := t.network.DialUDP(network, laddr, raddr)
	return keep(t, c, err)
}

func (t *tracked) Listen(network, address string) (net.Listener, error) {
	l, err := t.network.Listen(network, address)
	if err == nil {
		l = &trackedListener{l.(tcpListener), t}
	}
	return keep(t, l, err)
}

func (t *tracked) ListenTCP(network string, laddr *net.TCPAddr) (tcpListener, error) {
	l, err := t.network.ListenTCP(network, laddr)
	if err == nil {
		l = &trackedListener{l, t}
	}
	return keep(t, l, err)
}

func (t *tracked) ListenPacket(network, address string) (net.PacketConn, error) {
	c, err := t.network.ListenPacket(network, address)
	return keep(t, c, err)
}

func (t *tracked) ListenUDP(network string, laddr *net.UDPAddr) (udpConn, error) {
	c, err := t.network.ListenUDP(network, laddr)
	return keep(t, c, err)
}

// A trackedListener has what it accepts remembered.
type trackedListener struct {
	tcpListener
	t *tracked
}

func (l *trackedListener) Accept() (net.Conn, error) {
	c, err := l.tcpListener.Accept()
	return keep(l.t, c, err)
}
