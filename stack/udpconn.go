package stack

import (
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// Largest UDP payloads in bytes: what the 16-bit lengths leave. Netstack
// checks the sum of the headers and the payload, but not the IP length.
const (
	maxUDP4 = 65535 - 20 - 8 // total length less IPv4 and UDP headers
	maxUDP6 = 65535 - 8      // payload length less the UDP header
)

// A UDPConn is a UDP socket of a Stack. It implements net.PacketConn and, if
// it comes from Dial, net.Conn. All methods may be called from any goroutine.
// A datagram longer than the buffer that it is read to is cut, and the rest
// is lost.
//
// In steady state Read, ReadFromUDPAddrPort and all ways to write allocate
// nothing; ReadFrom and ReadFromUDP allocate the address.
type UDPConn struct {
	socket
	udp udpEndpoint

	family    tcpip.NetworkProtocolNumber
	dual      bool // takes IPv4 although family is IPv6
	connected bool

	tells atomic.Uint32 // ControlFlags
	peers peerCache     // guarded by rd.mu
}

// open readies c for use, but for an address.
func (c *UDPConn) open(s *Stack, network string) error {
	c.udp.init(s, &c.socket)
	return c.start(s, network, &c.udp)
}

// Read reads a datagram. On a connected socket the error is what an ICMP error
// about an earlier datagram says, as with Linux: ECONNREFUSED if nobody listens,
// EHOSTUNREACH or EACCES if it was filtered, EMSGSIZE if it was too long for the path:
// later ones go there in fragments.
func (c *UDPConn) Read(b []byte) (int, error) {
	if len(b) == 0 && !c.closed() {
		return 0, nil // as package net
	}
	c.rd.mu.Lock()
	n, _, err := c.read("read", b)
	c.rd.mu.Unlock()
	if err != nil {
		return 0, c.opErr("read", err)
	}
	return n, nil
}

// ReadFrom reads a datagram and returns its source, a *net.UDPAddr.
func (c *UDPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDP(b)
	if err != nil {
		return n, nil, err
	}
	return n, from, nil
}

// ReadFromUDP acts like ReadFrom.
func (c *UDPConn) ReadFromUDP(b []byte) (int, *net.UDPAddr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	return n, newUDPAddr(from), nil
}

// newUDPAddr is udpAddr with one allocation instead of two.
func newUDPAddr(ap netip.AddrPort) *net.UDPAddr {
	a := ap.Addr()
	d := &struct {
		net.UDPAddr
		ip [16]byte
	}{}
	if a.Is4() {
		b := a.As4()
		d.IP = d.ip[:copy(d.ip[:], b[:]):4]
	} else {
		d.ip = a.As16()
		d.IP = d.ip[:]
	}
	d.Port, d.Zone = int(ap.Port()), a.Zone()
	return &d.UDPAddr
}

// ReadFromUDPAddrPort acts like ReadFrom. An IPv4 source comes as IPv4, never
// mapped to IPv6.
func (c *UDPConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	c.rd.mu.Lock()
	n, from, err := c.read("recvfrom", b)
	c.rd.mu.Unlock()
	if err != nil {
		return 0, netip.AddrPort{}, c.opErr("read", err)
	}
	return n, from, nil
}

// read reads a datagram for a method that is the system call with that name in
// package net.
func (c *UDPConn) read(call string, b []byte) (int, netip.AddrPort, error) {
	d, err := c.next(call)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	n := d.copyTo(b)
	d.pkt.DecRef()
	return n, d.from, nil
}

// next returns the next datagram, for which it waits; its packet's reference is
// the caller's. Precondition: rd.mu is held.
func (c *UDPConn) next(call string) (datagram, error) {
	for {
		if c.rd.stop.Load() != 0 {
			if err := c.receiving(); err != nil {
				return datagram{}, err
			}
		}
		if terr := c.udp.failure(); terr != nil {
			return datagram{}, c.receiveErr(call, terr)
		}
		if d, ok := c.udp.in.pop(); ok {
			return d, nil
		}
		c.rd.park()
	}
}

// Write sends a datagram to the peer of a connected socket. The error is
// EDESTADDRREQ if there is none, EMSGSIZE if b is too long for a datagram.
func (c *UDPConn) Write(b []byte) (int, error) {
	n, err := c.send(b, netip.AddrPort{})
	if err != nil {
		err = c.opErr("write", err)
	}
	return n, err
}

// WriteTo sends a datagram to addr, which is a *net.UDPAddr. It waits while
// the send buffer is full.
func (c *UDPConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	a, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, opError("write", c.net, c.laddr, addr, syscall.EINVAL)
	}
	return c.WriteToUDP(b, a)
}

// WriteToUDP acts like WriteTo.
func (c *UDPConn) WriteToUDP(b []byte, addr *net.UDPAddr) (int, error) {
	var err error
	var n int
	switch {
	case c.connected:
		err = net.ErrWriteToConnected
	case addr == nil:
		err = errMissingAddress
	default:
		var to netip.AddrPort
		if err = c.malformed("sendto", addr); err == nil {
			to, err = c.target("sendto", addr.AddrPort())
		}
		if err == nil {
			n, err = c.send(b, to)
		}
	}
	if err != nil {
		return n, opError("write", c.net, c.laddr, opAddr(addr), err)
	}
	return n, nil
}

// WriteToUDPAddrPort acts like WriteTo.
func (c *UDPConn) WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	var err error
	var n int
	switch {
	case c.connected:
		err = net.ErrWriteToConnected
	case !addr.IsValid():
		err = errMissingAddress
	default:
		var to netip.AddrPort
		if to, err = c.target("sendto", addr); err == nil {
			n, err = c.send(b, to)
		}
	}
	if err != nil {
		return n, opError("write", c.net, c.laddr, udpAddr(addr), err)
	}
	return n, nil
}

// target returns where to send, by a system call, for an address of either family,
// mapped or not.
func (c *UDPConn) target(call string, to netip.AddrPort) (netip.AddrPort, error) {
	a := to.Addr().Unmap()
	fits := !a.IsValid() || c.dual || familyOf(a) == c.family
	if !fits && c.family == ipv4.ProtocolNumber {
		return to, &net.AddrError{Err: "non-IPv4 address", Addr: a.String()}
	}
	if !fits {
		return to, sysError(call, &tcpip.ErrNetworkUnreachable{})
	}
	n := network{name: c.net}
	if !c.dual && c.family == ipv4.ProtocolNumber {
		n.family = '4'
	} else if !c.dual {
		n.family = '6'
	}
	return c.stack.destination(call, n, netip.AddrPortFrom(a, to.Port()))
}

// longest returns the most bytes that a datagram to an address may have.
func (c *UDPConn) longest(to netip.AddrPort) int {
	if to.Addr().Is4() || !to.IsValid() && c.family == ipv4.ProtocolNumber {
		return maxUDP4
	}
	return maxUDP6
}

// send sends b to an address, or to the peer if the address is not valid.
func (c *UDPConn) send(b []byte, to netip.AddrPort) (int, error) {
	c.wr.mu.Lock()
	defer c.wr.mu.Unlock()
	call := "write"
	if to.IsValid() {
		call = "sendto"
	}
	return c.sendLocked(call, b, nil, to, nil)
}

// Close ends the socket. Blocked calls return net.ErrClosed in a *net.OpError,
// and so does a second Close.
func (c *UDPConn) Close() error {
	if !c.close() {
		return c.opErr("close", net.ErrClosed)
	}
	return nil
}

// Dropped returns how many datagrams the socket was sent and did not take,
// because its receive buffer was full. Stats has the sum for the Stack.
func (c *UDPConn) Dropped() uint64 {
	_, dropped := c.udp.in.counts()
	return dropped
}

// LocalAddr returns the local address, a *net.UDPAddr. It is shared by all
// calls: do not change it.
func (c *UDPConn) LocalAddr() net.Addr { return c.laddr }

// RemoteAddr returns the peer's address, a *net.UDPAddr, or nil if the socket
// is not connected.
func (c *UDPConn) RemoteAddr() net.Addr { return c.raddr }

// SetDeadline sets both deadlines. Zero means none.
func (c *UDPConn) SetDeadline(t time.Time) error {
	return c.setDeadline(t, &c.rd, &c.wr)
}

// SetReadDeadline makes reads give up at t with os.ErrDeadlineExceeded in a
// *net.OpError whose Timeout is true.
func (c *UDPConn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(t, &c.rd)
}

// SetWriteDeadline does for writes what SetReadDeadline does for reads.
func (c *UDPConn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(t, &c.wr)
}
