package stack

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// icmpNetwork parses "ip4:icmp" and the like. It reports false for other
// networks.
func icmpNetwork(name string) (n network, ok bool) {
	ip, proto, _ := strings.Cut(name, ":")
	n = network{name: name, proto: "icmp"}
	switch {
	case (ip == "ip4" || ip == "ip") && (proto == "icmp" || proto == "1"):
		n.family = '4'
	case (ip == "ip6" || ip == "ip") && (proto == "ipv6-icmp" || proto == "58"):
		n.family = '6'
	default:
		return n, false
	}
	return n, true
}

// icmpHosts returns the addresses of a host for a network that icmpNetwork knows,
// at least one. No host is an address that is not valid. A nil resolver is the
// stack's.
func (s *Stack) icmpHosts(ctx context.Context, r *net.Resolver, n network, host string) ([]netip.Addr, error) {
	if host == "" {
		return []netip.Addr{{}}, nil
	}
	if r == nil {
		r = s.Resolver()
	}
	addrs, err := s.hostAddrs(ctx, r, n, host)
	if err != nil {
		return nil, err
	}
	var fit []netip.Addr
	for _, a := range addrs {
		if n.admits(a) {
			fit = append(fit, a)
		}
	}
	if len(fit) == 0 {
		return nil, &net.AddrError{Err: errNoSuitable, Addr: host}
	}
	return fit, nil
}

// listenICMP is ListenPacket for networks that icmpNetwork knows. The address is
// a host without a port.
func (s *Stack) listenICMP(ctx context.Context, n network, address string) (*ICMPConn, error) {
	all, err := s.icmpHosts(ctx, nil, n, address)
	if err != nil {
		return nil, opError("listen", n.name, nil, nil, err)
	}
	at := all[0]
	if !at.IsValid() {
		at = n.wildcard()
	}
	c := &ICMPConn{}
	if err = s.listenable(n, at); err == nil {
		err = c.open(s, n, at, netip.Addr{})
	}
	if err != nil {
		return nil, opError("listen", n.name, nil, ipAddr(at), err)
	}
	return c, nil
}

// dialICMP is DialContext for networks that icmpNetwork knows. The address is a
// host without a port.
func (d *Dialer) dialICMP(ctx context.Context, n network, address string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) { return nil, opError("dial", n.name, nil, nil, err) }
	if err := d.usable(); err != nil {
		return fail(err)
	}
	if address == "" {
		return fail(errMissingAddress)
	}
	all, err := d.Stack.icmpHosts(ctx, d.Resolver, n, address)
	if err != nil {
		return fail(err)
	}
	var from netip.Addr
	switch a := d.LocalAddr.(type) {
	case nil:
	case *net.IPAddr:
		if a != nil && len(a.IP) != 0 {
			ip, _ := netip.AddrFromSlice(a.IP)
			if from = ip.Unmap().WithZone(a.Zone); !n.admits(from) {
				return fail(&net.AddrError{Err: errNoSuitable, Addr: a.String()})
			}
		}
	default:
		return fail(&net.AddrError{Err: "mismatched local address type", Addr: a.String()})
	}
	hosts := make([]netip.AddrPort, len(all))
	for i, a := range all {
		hosts[i] = netip.AddrPortFrom(a, 0)
	}
	r := race{
		one: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			c, err := d.Stack.connectICMP(ctx, n, from, to)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		fail: func(to netip.AddrPort, err error) error {
			return opError("dial", n.name, d.LocalAddr, ipAddr(to.Addr()), err)
		},
	}
	return r.inTurn(ctx, hosts)
}

// DialIP does for "ip4:icmp" and "ip6:ipv6-icmp" what DialTCP does for TCP networks.
func (d *Dialer) DialIP(ctx context.Context, network string, laddr, raddr netip.Addr) (*ICMPConn, error) {
	ctx, cancel := d.context(ctx)
	defer cancel()
	n, ok := icmpNetwork(network)
	err := d.usable()
	if !ok {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		var c *ICMPConn
		if c, err = d.Stack.connectICMP(ctx, n, laddr, netip.AddrPortFrom(raddr, 0)); err == nil {
			return c, nil
		}
	}
	return nil, opError("dial", network, ipAddr(laddr), ipAddr(raddr), err)
}

// connectICMP connects to one address, from another if that is valid. The error is
// what an OpError is to be put around.
func (s *Stack) connectICMP(ctx context.Context, n network, from netip.Addr, to netip.AddrPort) (*ICMPConn, error) {
	if wildcard(from) {
		from = netip.Addr{}
	} else if err := s.listenable(n, from.Unmap()); err != nil {
		return nil, err
	}
	to, err := s.destination("connect", n, to)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, contextError(err)
	}
	c := &ICMPConn{}
	if err := c.open(s, n, from.Unmap(), to.Addr()); err != nil {
		return nil, err
	}
	return c, nil
}

// wildcard returns the address that stands for all of the family.
func (n network) wildcard() netip.Addr {
	if n.family == '4' {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// open readies c for use at an address, and with a peer if that is valid: then the
// address need not be.
func (c *ICMPConn) open(s *Stack, n network, at, peer netip.Addr) error {
	e := &c.icmp
	e.sock, e.net, e.proto = &c.socket, ipv4.ProtocolNumber, header.ICMPv4ProtocolNumber
	if n.family == '6' {
		e.net, e.proto = ipv6.ProtocolNumber, header.ICMPv6ProtocolNumber
	}
	full := fullAddress(netip.AddrPortFrom(at, 0))
	e.nic, e.local = full.NIC, full.Addr
	if e.local.BitLen() != 0 {
		if e.nic = s.interfaceOf(e.net, e.local); e.nic == 0 {
			return sysError("bind", &tcpip.ErrBadLocalAddress{})
		}
	}
	e.in.limit = bufferDefault
	c.laddr = ipAddr(at)
	if err := c.start(s, "ip"+string(n.family), e); err != nil { // package net leaves the protocol out
		return err
	}
	if !peer.IsValid() {
		return nil
	}
	err := c.connect(peer)
	if err != nil {
		c.close()
	}
	return err
}

// connect sets the peer. It takes the lock for the reason that TCP's has.
func (c *ICMPConn) connect(peer netip.Addr) error {
	c.wr.mu.Lock()
	defer c.wr.mu.Unlock()
	if err := c.why(&c.wr.parker); err != nil {
		return err
	}
	r, terr := c.icmp.route(peer, c.icmp.local)
	if terr != nil {
		return c.callErr(&c.wr.parker, "connect", terr)
	}
	defer r.Release()
	c.peer, c.icmp.peer = peer, r.RemoteAddress()
	local := c.stack.addrPort(tcpip.FullAddress{Addr: r.LocalAddress()})
	c.laddr, c.raddr = ipAddr(local.Addr()), ipAddr(peer)
	return nil
}
