package stack

import (
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// An ICMPConn sends ICMP echo requests and receives the replies to them. It is
// what ListenPacket returns for "ip4:icmp" and "ip6:ipv6-icmp", and has the form
// that programs know from there and from golang.org/x/net/icmp: messages with
// their ICMP header and without an IP header, addresses of type *net.IPAddr.
//
// Unlike a raw socket, and like the unprivileged ICMP socket of Linux, it sends
// echo requests only, and sees of what arrives only the replies that have the
// identifier of a request it has sent. An identifier belongs to one ICMPConn of
// the stack at a time. Other messages are netstack's: it answers requests, and
// errors reach the connections that they are about.
//
// All methods may be called from any goroutine.
type ICMPConn struct {
	socket
	icmp icmpEndpoint
}

// icmpNetwork parses "ip4:icmp" and the like. It reports false for other
// networks.
func icmpNetwork(name string) (n network, ok bool) {
	ip, proto, _ := strings.Cut(name, ":")
	n = network{name: name, proto: "icmp"}
	switch {
	case ip == "ip4" && (proto == "icmp" || proto == "1"):
		n.family = '4'
	case ip == "ip6" && (proto == "ipv6-icmp" || proto == "58"):
		n.family = '6'
	default:
		return n, false
	}
	return n, true
}

// listenICMP is ListenPacket for networks that icmpNetwork knows. The address is
// a host without a port.
func (s *Stack) listenICMP(n network, address string) (*ICMPConn, error) {
	c := &ICMPConn{}
	var at netip.Addr
	fail := func(err error) (*ICMPConn, error) {
		var addr net.Addr
		if at.IsValid() {
			addr = ipAddr(at)
		}
		return nil, opError("listen", n.name, nil, addr, err)
	}
	switch address {
	case "":
		if at = netip.IPv6Unspecified(); n.family == '4' {
			at = netip.IPv4Unspecified()
		}
	case "localhost":
		at = s.loopbackOf(n.family, n.family)
	default:
		var err error
		if at, err = netip.ParseAddr(address); err != nil {
			return fail(&net.DNSError{Err: "no such host", Name: address, IsNotFound: true})
		}
	}
	at = at.Unmap()
	if !at.IsValid() {
		return fail(&net.AddrError{Err: errNoSuitable, Addr: address})
	}
	if err := s.listenable(n, at); err != nil {
		return fail(err)
	}
	if err := c.open(s, n, at); err != nil {
		return fail(err)
	}
	return c, nil
}

// open readies c for use at an address.
func (c *ICMPConn) open(s *Stack, n network, at netip.Addr) error {
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
	return c.start(s, n.name, e)
}

func ipAddr(a netip.Addr) *net.IPAddr {
	return &net.IPAddr{IP: a.AsSlice(), Zone: a.Zone()}
}

// ReadFrom reads the next reply, from its ICMP header on, and returns its source,
// a *net.IPAddr.
func (c *ICMPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.rd.mu.Lock()
	defer c.rd.mu.Unlock()
	for {
		if err := c.why(&c.rd.parker); err != nil {
			return 0, nil, c.opErr("read", err)
		}
		if d, ok := c.icmp.in.pop(); ok {
			n := copy(b, d.pkt.TransportHeader().Slice())
			n += d.copyTo(b[n:])
			d.pkt.DecRef()
			return n, ipAddr(d.from.Addr()), nil
		}
		c.rd.park()
	}
}

// WriteTo sends an echo request to addr, a *net.IPAddr. b is the message, whose
// checksum need not be there: it is computed. The error is EINVAL for anything
// else than an echo request of the connection's family, EADDRINUSE if another
// ICMPConn has its identifier, and ENOBUFS if this one has 64 already.
func (c *ICMPConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	fail := func(err error) (int, error) { return 0, opError("write", c.net, c.laddr, addr, err) }
	a, ok := addr.(*net.IPAddr)
	if !ok || a == nil {
		return fail(syscall.EINVAL)
	}
	ip, _ := netip.AddrFromSlice(a.IP)
	to := ip.Unmap().WithZone(a.Zone)
	if to.Is4() {
		to = to.WithZone("")
	}
	n := network{name: c.net, family: '4'}
	if c.icmp.net == ipv6.ProtocolNumber {
		n.family = '6'
	}
	at, err := c.stack.destination(n, netip.AddrPortFrom(to, 0))
	if err != nil {
		return fail(err)
	}
	c.wr.mu.Lock()
	defer c.wr.mu.Unlock()
	if err := c.why(&c.wr.parker); err != nil {
		return fail(err)
	}
	if terr := c.icmp.write(b, at.Addr()); terr != nil {
		return fail(c.callErr(&c.wr.parker, "sendto", terr))
	}
	return len(b), nil
}

// LocalAddr returns the local address, a *net.IPAddr. It is shared by all calls:
// do not change it.
func (c *ICMPConn) LocalAddr() net.Addr { return c.laddr }

// Close ends the connection. Blocked calls return net.ErrClosed in a
// *net.OpError, and so does a second Close.
func (c *ICMPConn) Close() error {
	if !c.close() {
		return c.opErr("close", net.ErrClosed)
	}
	return nil
}

// SetDeadline sets both deadlines. Zero means none.
func (c *ICMPConn) SetDeadline(t time.Time) error {
	return c.setDeadline(t, &c.rd, &c.wr)
}

// SetReadDeadline makes reads give up at t with os.ErrDeadlineExceeded in a
// *net.OpError whose Timeout is true.
func (c *ICMPConn) SetReadDeadline(t time.Time) error { return c.setDeadline(t, &c.rd) }

// SetWriteDeadline does for writes what SetReadDeadline does for reads.
func (c *ICMPConn) SetWriteDeadline(t time.Time) error { return c.setDeadline(t, &c.wr) }
