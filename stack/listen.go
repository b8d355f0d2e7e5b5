package stack

import (
	"context"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// Listen announces a TCP service on an address of the stack, as a ListenConfig
// without settings does: see ListenConfig.Listen.
func (s *Stack) Listen(network, address string) (net.Listener, error) {
	return (&ListenConfig{Stack: s}).Listen(context.Background(), network, address)
}

// ListenTCP acts like Listen. If laddr is nil the port is chosen.
func (s *Stack) ListenTCP(network string, laddr *net.TCPAddr) (*TCPListener, error) {
	n, err := parseNetwork(network)
	if err == nil && n.proto != "tcp" {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		err = n.malformedAddr("bind", laddr)
	}
	if err == nil && laddr != nil {
		err = n.wrongIP(laddr.IP, "bind", &tcpip.ErrInvalidEndpointState{})
	}
	if err != nil {
		return nil, opError("listen", network, nil, opAddr(laddr), err)
	}
	if laddr == nil {
		laddr = &net.TCPAddr{}
	}
	l, err := s.listenTCP(n, laddr.AddrPort(), &ListenConfig{})
	if err != nil {
		return nil, opError("listen", network, nil, laddr, err)
	}
	return l, nil
}

// ListenPacket opens a UDP or an ICMP socket on an address of the stack: see
// ListenConfig.ListenPacket.
func (s *Stack) ListenPacket(network, address string) (net.PacketConn, error) {
	return (&ListenConfig{Stack: s}).ListenPacket(context.Background(), network, address)
}

// ListenUDP acts like ListenPacket. If laddr is nil the port is chosen.
func (s *Stack) ListenUDP(network string, laddr *net.UDPAddr) (*UDPConn, error) {
	n, err := parseNetwork(network)
	if err == nil && n.proto != "udp" {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		err = n.malformedAddr("bind", laddr)
	}
	if err == nil && laddr != nil {
		err = n.wrongIP(laddr.IP, "bind", &tcpip.ErrInvalidEndpointState{})
	}
	if err != nil {
		return nil, opError("listen", network, nil, opAddr(laddr), err)
	}
	if laddr == nil {
		laddr = &net.UDPAddr{}
	}
	c, err := s.listenUDP(n, laddr.AddrPort())
	if err != nil {
		return nil, opError("listen", network, nil, laddr, err)
	}
	return c, nil
}

// listenTCP listens as lc says, but for its Stack. The error is what an OpError is
// to be put around.
func (s *Stack) listenTCP(n network, at netip.AddrPort, lc *ListenConfig) (*TCPListener, error) {
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if err := s.listenable(n, at.Addr()); err != nil {
		return nil, err
	}
	for {
		l, err := s.bindListener(n, at)
		if err != nil {
			return nil, err
		}
		l.probing, _ = newProbing(keepAlive(lc.KeepAlive, lc.KeepAliveConfig)) // as in dialTCP
		if !s.ports.take(l.claim) {
			l.claim = nil
			l.Close()
			if at.Port() == 0 {
				continue // netstack chose a port that is taken in part
			}
			return nil, sysError("bind", &tcpip.ErrPortInUse{})
		}
		// Netstack lets this many wait, and one less be half open; with Linux it is
		// one more than the backlog, and the backlog.
		if terr := l.ep.Listen(lc.backlog() + 1); terr != nil {
			err := l.callErr(&l.rd.parker, "listen", terr)
			l.Close()
			return nil, err
		}
		return l, nil
	}
}

// bindListener makes a listener that has its address but not the port yet.
func (s *Stack) bindListener(n network, at netip.AddrPort) (*TCPListener, error) {
	l := &TCPListener{}
	proto, v6only := s.listenFamily(n, at.Addr())
	if err := l.open(s, n.name, proto, v6only); err != nil {
		return nil, err
	}
	// Connections that were accepted on the port may be alive, or in
	// TIME-WAIT.
	l.ep.SocketOptions().SetReuseAddress(true)
	if terr := l.bind(at); terr != nil {
		err := l.callErr(&l.rd.parker, "bind", terr)
		l.close()
		return nil, err
	}
	local := s.localAddr(l.ep, proto)
	l.laddr = tcpAddr(local)
	l.claim = newClaim(local, proto, v6only)
	return l, nil
}

// listenUDP does for UDP what listenTCP does for TCP.
func (s *Stack) listenUDP(n network, at netip.AddrPort) (*UDPConn, error) {
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	group := at.Addr().IsMulticast()
	if group {
		at = netip.AddrPortFrom(at.Addr().WithZone(s.cfg.Interface), at.Port()) // whatever it came with
	}
	if err := s.listenable(n, at.Addr()); err != nil {
		return nil, err
	}
	c := &UDPConn{}
	proto, v6only := s.listenFamily(n, at.Addr())
	if group {
		at, v6only = s.shareGroup(c, n, at)
	}
	c.family, c.dual = proto, proto == ipv6.ProtocolNumber && !v6only
	if err := c.open(s, n.name); err != nil {
		return nil, err
	}
	if err := c.listen(at); err != nil {
		c.close()
		return nil, err
	}
	c.laddr = udpAddr(c.udp.localAddr(proto))
	return c, nil
}

// listen takes the address. It takes the lock for the reason that connect has.
func (c *UDPConn) listen(at netip.AddrPort) error {
	c.wr.mu.Lock()
	defer c.wr.mu.Unlock()
	if err := c.why(&c.wr.parker); err != nil {
		return err
	}
	nets := []tcpip.NetworkProtocolNumber{c.family}
	if c.dual {
		nets = append(nets, ipv4.ProtocolNumber)
	}
	terr := c.udp.bind(fullAddress(at), nets...)
	if terr == nil {
		terr = c.udp.enter()
	}
	if terr != nil {
		return c.callErr(&c.wr.parker, "bind", terr)
	}
	return nil
}

// A TCPListener accepts TCP connections. It implements net.Listener. All
// methods may be called from any goroutine.
type TCPListener struct {
	tcpSocket
	claim *claim // nil before it is taken

	probing *probing // of accepted connections

	peer tcpip.FullAddress // that Accept has returned last; guarded by rd.mu
}

// Accept returns the next connection, a *TCPConn. It waits for one. After
// Close the error is net.ErrClosed in a *net.OpError. When the device goes down it is
// ENETDOWN, once, and the OpError's Temporary is true: the next call waits for the device.
// Once that is gone it is ENODEV as well, each time, and Temporary is false.
func (l *TCPListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptTCP acts like Accept.
func (l *TCPListener) AcceptTCP() (*TCPConn, error) {
	ep, c, raddr, err := l.accept()
	if err == nil {
		err = c.adopt(l.stack, l.net, ep, c.wq)
	}
	if err != nil {
		return nil, opError("accept", l.net, nil, l.laddr, err)
	}
	local := l.stack.localAddr(ep, 0)
	c.established(local, raddr, l.probing)
	return c, nil
}

func (l *TCPListener) accept() (tcpip.Endpoint, *TCPConn, netip.AddrPort, error) {
	l.rd.mu.Lock()
	defer l.rd.mu.Unlock()
	for {
		if err := l.receiving(); err != nil {
			return nil, nil, netip.AddrPort{}, err
		}
		ep, wq, terr := l.ep.Accept(&l.peer)
		if terr == nil {
			c := &TCPConn{}
			c.wq = wq
			return ep, c, l.stack.addrPort(l.peer), nil
		}
		if !isWouldBlock(terr) {
			return nil, nil, netip.AddrPort{}, l.receiveErr("accept", terr)
		}
		l.rd.park()
	}
}

// Addr returns the address that the listener listens on, a *net.TCPAddr, also after
// Close. It is shared by all calls: do not change it.
func (l *TCPListener) Addr() net.Addr { return l.laddr }

// SetDeadline makes Accept give up at t; zero means never. The error then is
// os.ErrDeadlineExceeded in a *net.OpError. After Close SetDeadline returns
// net.ErrClosed as it is, as package net does.
func (l *TCPListener) SetDeadline(t time.Time) error {
	if err := l.setDeadline(t, &l.rd); err != nil {
		return net.ErrClosed // the one error that there is
	}
	return nil
}

// Close ends listening. It wakes all blocked calls of Accept. Connections
// that nobody has accepted are reset; accepted ones stay. A second Close
// returns net.ErrClosed in a *net.OpError.
func (l *TCPListener) Close() error {
	first := l.close()
	if l.claim != nil {
		l.stack.ports.free(l.claim)
	}
	if !first {
		return opError("close", l.net, nil, l.laddr, net.ErrClosed)
	}
	return nil
}
