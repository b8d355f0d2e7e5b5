package stack

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Dial connects to an address: see DialContext.
func (s *Stack) Dial(network, address string) (net.Conn, error) {
	return s.DialContext(context.Background(), network, address)
}

// DialTimeout acts like Dial, and gives up after a time that is not zero, which
// includes the look-up of a name.
func (s *Stack) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	return (&Dialer{Stack: s, Timeout: timeout}).Dial(network, address)
}

// DialContext connects to an address, as a Dialer without settings does: see
// Dialer.DialContext.
func (s *Stack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return (&Dialer{Stack: s}).DialContext(ctx, network, address)
}

// DialTCP acts like DialContext for TCP networks, from a local address if
// laddr is not nil.
func (s *Stack) DialTCP(ctx context.Context, network string, laddr, raddr *net.TCPAddr) (*TCPConn, error) {
	return (&Dialer{Stack: s}).dialTCP(ctx, network, laddr, raddr)
}

// DialUDP acts like DialContext for UDP networks, from a local address if
// laddr is not nil.
func (s *Stack) DialUDP(network string, laddr, raddr *net.UDPAddr) (*UDPConn, error) {
	return (&Dialer{Stack: s}).dialUDP(context.Background(), network, laddr, raddr)
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

// dialTCP connects two addresses. The error is what an OpError is to be put
// around.
func (s *Stack) dialTCP(ctx context.Context, n network, from, to netip.AddrPort, probe net.KeepAliveConfig) (*TCPConn, error) {
	if to.Addr().Unmap().IsMulticast() {
		return nil, sysError("connect", &tcpip.ErrNetworkUnreachable{})
	}
	to, err := s.peer(n, from, to)
	if err != nil {
		return nil, err
	}
	if s.isBroadcast(to.Addr()) || s.offLink(to.Addr()) {
		return nil, sysError("connect", &tcpip.ErrNetworkUnreachable{})
	}
	if err := ctx.Err(); err != nil {
		return nil, contextError(err)
	}
	if from, err = s.dialSource(from, to); err != nil {
		return nil, err
	}
	c := &TCPConn{}
	proto := familyOf(to.Addr())
	if err := c.open(s, n.name, proto, true); err != nil {
		return nil, err
	}
	if err := c.connect(ctx, from, to); err != nil {
		c.close()
		return nil, err
	}
	p, _ := newProbing(probe) // as package net: what is out of bounds is left as it is
	c.established(s.localAddr(c.ep, proto), to, p)
	return c, nil
}

// peer returns where to connect to. The errors for addresses that do not go with
// each other are those of Linux, where package net asks it: there an IPv4 address
// is mapped if the other is not IPv4.
func (s *Stack) peer(n network, from, to netip.AddrPort) (netip.AddrPort, error) {
	f, t := from.Addr().Unmap(), to.Addr().Unmap()
	for _, a := range []netip.Addr{f, t} {
		if n.family == '4' && a.Is6() {
			return to, &net.AddrError{Err: errNotIPv4, Addr: a.String()}
		}
	}
	switch anyFrom, anyTo := wildcard(f), wildcard(t); {
	case n.family == '6' && f.Is4() && !anyFrom:
		return to, sysError("bind", &tcpip.ErrInvalidOptionValue{})
	case n.family == '6' && t.Is4() && !anyTo:
		return to, sysError("connect", &tcpip.ErrNetworkUnreachable{})
	case anyFrom: // goes with everything
	case anyTo && f.Is4():
		n.family = '4'
	case anyTo:
		n.family = '6'
	case f.Is4() != t.Is4() && s.ns.CheckLocalAddress(0, familyOf(f), tcpipAddr(f)) == 0:
		return to, sysError("bind", &tcpip.ErrBadLocalAddress{})
	case f.Is4() && t.Is6():
		return to, sysError("connect", &tcpip.ErrAddressFamilyNotSupported{})
	case f.Is6() && t.Is4():
		return to, sysError("connect", &tcpip.ErrNetworkUnreachable{})
	}
	if scoped(f) {
		if _, terr := s.zoned("bind", f); terr != nil {
			return to, sysError("bind", terr)
		}
		if t.Zone() == "" { // the socket is bound to the interface
			to = netip.AddrPortFrom(t.WithZone(s.cfg.Interface), to.Port())
		}
	}
	return s.destination("connect", n, to)
}

// dialFrom returns the local address to bind to before a socket connects, if
// from says one.
func dialFrom(from netip.AddrPort) (local netip.AddrPort, bound bool) {
	local = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	return local, local.IsValid() || local.Port() != 0
}

// bind names the interface to netstack, which otherwise takes any that has the
// address, and then connects by way of that. Two have: see addLoopback.
func (k *tcpSocket) bind(local netip.AddrPort) tcpip.Error {
	full := fullAddress(local)
	if full.Addr.BitLen() != 0 && full.NIC == 0 {
		if full.NIC = k.stack.interfaceOf(familyOf(local.Addr()), full.Addr); full.NIC == 0 {
			return &tcpip.ErrBadLocalAddress{}
		}
	}
	return k.ep.Bind(full)
}

// connect starts the handshake and waits for its end. It holds the lock of
// writers: nobody else has k yet but the stack, which may be closed.
func (k *tcpSocket) connect(ctx context.Context, from, to netip.AddrPort) error {
	k.wr.mu.Lock()
	defer k.wr.mu.Unlock()
	if local, bound := dialFrom(from); bound {
		if terr := k.bind(local); terr != nil {
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
	// Netstack then keeps what an ICMP error has said, besides that there was one.
	// Once connected it would keep any number of them.
	o := k.ep.SocketOptions()
	o.SetIPv4RecvError(true)
	o.SetIPv6RecvError(true)
	defer o.SetIPv4RecvError(false)
	defer o.SetIPv6RecvError(false)
	terr := k.ep.Connect(to)
	if _, ok := terr.(*tcpip.ErrConnectStarted); !ok && terr != nil {
		if local, lerr := k.ep.GetLocalAddress(); lerr == nil {
			terr = k.stack.routeError(addrOf(local.Addr), addrOf(to.Addr), terr)
		}
		return k.callErr(&k.wr.parker, "connect", terr)
	}
	for {
		switch tcp.EndpointState(k.ep.State()) {
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		case tcp.StateError, tcp.StateClose:
			if err := quit(); err != nil {
				return err
			}
			if kept := o.DequeueErr(); kept != nil {
				if cause, ok := kept.Cause.(*icmpError); ok {
					return k.callErr(&k.wr.parker, "connect", told(cause.errno))
				}
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

// dialUDP does for UDP what dialTCP does for TCP. It does not wait.
func (s *Stack) dialUDP(ctx context.Context, n network, from, to netip.AddrPort) (*UDPConn, error) {
	to, err := s.peer(n, from, to)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, contextError(err)
	}
	c := &UDPConn{}
	c.family = familyOf(to.Addr())
	if err := c.open(s, n.name); err != nil {
		return nil, err
	}
	if err := c.connect(from, to); err != nil {
		c.close()
		return nil, err
	}
	c.connected = true
	c.laddr, c.raddr = udpAddr(c.udp.localAddr(c.family)), udpAddr(to)
	return c, nil
}

// connect sets the peer. It takes the lock for the reason that TCP's has.
func (c *UDPConn) connect(from, to netip.AddrPort) error {
	c.wr.mu.Lock()
	defer c.wr.mu.Unlock()
	if err := c.why(&c.wr.parker); err != nil {
		return err
	}
	if local, bound := dialFrom(from); bound {
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
