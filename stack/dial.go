package stack

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Dial connects to an address: see DialContext.
func (s *Stack) Dial(network, address string) (net.Conn, error) {
	return s.DialContext(context.Background(), network, address)
}

// DialContext connects to an address, as net.Dialer.DialContext does. The
// network is "tcp", "tcp4", "tcp6", "udp", "udp4" or "udp6". The host of the
// address is a literal; "localhost", none, and the wildcard mean the stack
// itself. Other names are not resolved.
//
// The connection is a *TCPConn or a *UDPConn. The error is a *net.OpError:
// errors.Is tells ECONNREFUSED, ECONNRESET, ENETUNREACH, EHOSTUNREACH,
// ETIMEDOUT, EADDRNOTAVAIL, ENETDOWN, context.Canceled,
// context.DeadlineExceeded and net.ErrClosed (the stack was closed) apart.
func (s *Stack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	n, err := parseNetwork(network)
	if err == nil && address == "" {
		err = errMissingAddress
	}
	var to netip.AddrPort
	if err == nil {
		to, err = s.resolve(ctx, n, address)
	}
	if err != nil {
		return nil, opError("dial", network, nil, nil, err)
	}
	// A nil *TCPConn must not become a net.Conn.
	if n.proto == "tcp" {
		if c, err := s.dialTCP(ctx, n, netip.AddrPort{}, to); err == nil {
			return c, nil
		} else {
			return nil, err
		}
	}
	if c, err := s.dialUDP(n, netip.AddrPort{}, to); err == nil {
		return c, nil
	} else {
		return nil, err
	}
}

// DialTCP acts like DialContext for TCP networks, from a local address if
// laddr is not nil.
func (s *Stack) DialTCP(ctx context.Context, network string, laddr, raddr *net.TCPAddr) (*TCPConn, error) {
	n, err := parseNetwork(network)
	switch {
	case err == nil && n.proto != "tcp":
		err = net.UnknownNetworkError(network)
	case err == nil && raddr == nil:
		err = errMissingAddress
	}
	if err != nil {
		return nil, opError("dial", network, opAddr(laddr), opAddr(raddr), err)
	}
	var from netip.AddrPort
	if laddr != nil {
		from = laddr.AddrPort()
	}
	return s.dialTCP(ctx, n, from, raddr.AddrPort())
}

// DialUDP acts like DialContext for UDP networks, from a local address if
// laddr is not nil.
func (s *Stack) DialUDP(network string, laddr, raddr *net.UDPAddr) (*UDPConn, error) {
	n, err := parseNetwork(network)
	switch {
	case err == nil && n.proto != "udp":
		err = net.UnknownNetworkError(network)
	case err == nil && raddr == nil:
		err = errMissingAddress
	}
	if err != nil {
		return nil, opError("dial", network, opAddr(laddr), opAddr(raddr), err)
	}
	var from netip.AddrPort
	if laddr != nil {
		from = laddr.AddrPort()
	}
	return s.dialUDP(n, from, raddr.AddrPort())
}

// opAddr returns a as an interface that is nil if a is.
func opAddr[T any, P interface {
	*T
	net.Addr
}](a P) net.Addr {
	if a == nil {
		return nil
	}
	return a
}

func (s *Stack) dialTCP(ctx context.Context, n network, from, to netip.AddrPort) (*TCPConn, error) {
	c := &TCPConn{}
	var source net.Addr
	if from.IsValid() {
		source = tcpAddr(from)
	}
	to, err := s.destination(n, to)
	raddr := net.Addr(tcpAddr(to))
	fail := func(err error) (*TCPConn, error) {
		return nil, opError("dial", n.name, source, raddr, err)
	}
	if err != nil {
		return fail(err)
	}
	if err := ctx.Err(); err != nil {
		return fail(contextError(err))
	}
	proto := familyOf(to.Addr())
	if err := c.open(s, n.name, proto, true); err != nil {
		return fail(err)
	}
	if err := c.connect(ctx, from, to); err != nil {
		c.close()
		return fail(err)
	}
	c.established(tcpAddr(s.localAddr(c.ep, proto)), tcpAddr(to))
	return c, nil
}

// dialFrom returns the local address to bind to before a socket connects, if
// from says one.
func dialFrom(from, to netip.AddrPort) (local netip.AddrPort, bound bool, err error) {
	local = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	a := local.Addr()
	if a.IsValid() && !a.IsUnspecified() && a.Is4() != to.Addr().Is4() {
		return local, false, &net.AddrError{Err: "mismatched local address type", Addr: a.String()}
	}
	return local, a.IsValid() || local.Port() != 0, nil
}

// connect starts the handshake and waits for its end. It holds the lock of
// writers: nobody else has k yet but the stack, which may be closed.
func (k *tcpSocket) connect(ctx context.Context, from, to netip.AddrPort) error {
	k.wr.mu.Lock()
	defer k.wr.mu.Unlock()
	local, bound, err := dialFrom(from, to)
	if err != nil {
		return err
	}
	if bound {
		if terr := k.ep.Bind(fullAddress(local)); terr != nil {
			return k.callErr(&k.wr.parker, "bind", terr)
		}
	}
	p := &k.wr.parker
	if ctx.Done() != nil {
		var canceled atomic.Bool
		stop := context.AfterFunc(ctx, func() {
			canceled.Store(true)
			p.wake() // a wakeup too many does no harm if the dial is over
		})
		defer stop()
		return k.handshake(fullAddress(to), func() error {
			if canceled.Load() {
				return contextError(ctx.Err())
			}
			return k.why(p)
		})
	}
	return k.handshake(fullAddress(to), func() error { return k.why(p) })
}

// handshake connects; it gives up when quit returns an error.
func (k *tcpSocket) handshake(to tcpip.FullAddress, quit func() error) error {
	if err := quit(); err != nil {
		return err
	}
	terr := k.ep.Connect(to)
	if _, ok := terr.(*tcpip.ErrConnectStarted); !ok && terr != nil {
		return k.callErr(&k.wr.parker, "connect", terr)
	}
	for {
		switch tcp.EndpointState(k.ep.State()) {
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		case tcp.StateError, tcp.StateClose:
			if err := quit(); err != nil {
				return err
			}
			if terr := k.ep.LastError(); terr != nil {
				return k.callErr(&k.wr.parker, "connect", terr)
			}
			return sysError("connect", &tcpip.ErrConnectionAborted{})
		default:
			return nil
		}
		if err := quit(); err != nil {
			return err
		}
		k.wr.park()
	}
}

func (s *Stack) dialUDP(n network, from, to netip.AddrPort) (*UDPConn, error) {
	c := &UDPConn{}
	var source net.Addr
	if from.IsValid() {
		source = udpAddr(from)
	}
	to, err := s.destination(n, to)
	raddr := udpAddr(to)
	fail := func(err error) (*UDPConn, error) {
		return nil, opError("dial", n.name, source, raddr, err)
	}
	if err != nil {
		return fail(err)
	}
	c.family = familyOf(to.Addr())
	if err := c.open(s, n.name); err != nil {
		return fail(err)
	}
	if err := c.connect(from, to); err != nil {
		c.close()
		return fail(err)
	}
	c.connected = true
	c.laddr, c.raddr = udpAddr(c.udp.localAddr(c.family)), raddr
	return c, nil
}

// connect sets the peer. It takes the lock for the reason that TCP's has.
func (c *UDPConn) connect(from, to netip.AddrPort) error {
	c.wr.mu.Lock()
	defer c.wr.mu.Unlock()
	if err := c.why(&c.wr.parker); err != nil {
		return err
	}
	local, bound, err := dialFrom(from, to)
	if err != nil {
		return err
	}
	if bound {
		if terr := c.udp.bind(fullAddress(local), c.family); terr != nil {
			return c.callErr(&c.wr.parker, "bind", terr)
		}
	}
	terr := c.udp.connect(to)
	if terr == nil {
		terr = c.udp.enter()
	}
	if terr != nil {
		return c.callErr(&c.wr.parker, "connect", terr)
	}
	return nil
}
