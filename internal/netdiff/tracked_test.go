package netdiff

import (
	"context"
	"io"
	"net"
	"sync"
)

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

func (t *tracked) DialBy(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	c, err := t.network.DialBy(ctx, d, network, address)
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
	return t.keepListener(l, err)
}

func (t *tracked) ListenBy(ctx context.Context, lc *net.ListenConfig, network, address string) (net.Listener, error) {
	l, err := t.network.ListenBy(ctx, lc, network, address)
	return t.keepListener(l, err)
}

func (t *tracked) keepListener(l net.Listener, err error) (net.Listener, error) {
	if err == nil {
		l = &trackedListener{l.(tcpListener), t}
	}
	return keep(t, l, err)
}

func (t *tracked) ListenPacketBy(ctx context.Context, lc *net.ListenConfig, network, address string) (net.PacketConn, error) {
	c, err := t.network.ListenPacketBy(ctx, lc, network, address)
	return keep(t, c, err)
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

func (t *tracked) ListenMulticastUDP(network string, ifi *net.Interface, gaddr *net.UDPAddr) (udpConn, error) {
	c, err := t.network.ListenMulticastUDP(network, ifi, gaddr)
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
