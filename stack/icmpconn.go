package stack

import (
	"net"
	"net/netip"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// An ICMPConn sends ICMP echo requests and receives the replies to them. It is
// what Dial and ListenPacket return for "ip4:icmp" and "ip6:ipv6-icmp", and has the
// form that programs know from there and from golang.org/x/net/icmp: messages with
// their ICMP header and without an IP header, addresses of type *net.IPAddr. As
// with package net, Read of an IPv4 one has the IP header too.
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
	peer netip.Addr // not valid: it is not connected
}

func ipAddr(a netip.Addr) *net.IPAddr {
	return &net.IPAddr{IP: a.AsSlice(), Zone: a.Zone()}
}

// Read reads the next reply. Over IPv4 it begins with the IP header, as package
// net has it. On a conn that was dialed, the error is that of an ICMP error about a
// request, as with UDPConn.Read.
func (c *ICMPConn) Read(b []byte) (int, error) {
	if len(b) == 0 && !c.closed() {
		return 0, nil // as package net
	}
	n, _, _, err := c.read("read", b, c.icmp.net == ipv4.ProtocolNumber)
	return n, err
}

// ReadFrom reads the next reply, from its ICMP header on, and returns its source,
// a *net.IPAddr.
func (c *ICMPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromIP(b)
	if err != nil {
		return 0, nil, err
	}
	return n, from, nil
}

// ReadFromIP acts like ReadFrom.
func (c *ICMPConn) ReadFromIP(b []byte) (int, *net.IPAddr, error) {
	n, _, from, err := c.read("recvfrom", b, false)
	if err != nil {
		return 0, nil, err
	}
	return n, ipAddr(from), nil
}

// ReadMsgIP reads the next reply to b, over IPv4 with its IP header, as package net
// has it, and returns its length and source. There is no out-of-band data. The flags
// are those of Linux: 0x20 (MSG_TRUNC) if the reply was cut.
func (c *ICMPConn) ReadMsgIP(b, oob []byte) (n, oobn, flags int, addr *net.IPAddr, err error) {
	n, whole, from, err := c.read("recvmsg", b, c.icmp.net == ipv4.ProtocolNumber)
	if err != nil {
		return 0, 0, 0, nil, err
	}
	if n < whole {
		flags = flagCut
	}
	return n, 0, flags, ipAddr(from), nil
}

// read reads a reply for a method that is the system call with that name in
// package net, with the IP header or without. It returns the bytes read, and how
// many there were.
func (c *ICMPConn) read(call string, b []byte, header bool) (n, size int, from netip.Addr, err error) {
	c.rd.mu.Lock()
	defer c.rd.mu.Unlock()
	for {
		if err := c.receiving(); err != nil {
			return 0, 0, netip.Addr{}, c.opErr("read", err)
		}
		if terr := c.icmp.failure(); terr != nil {
			return 0, 0, netip.Addr{}, c.opErr("read", c.receiveErr(call, terr))
		}
		if d, ok := c.icmp.in.pop(); ok {
			parts := [2][]byte{nil, d.pkt.TransportHeader().Slice()}
			if header {
				parts[0] = d.pkt.NetworkHeader().Slice()
			}
			for _, p := range parts {
				n += copy(b[n:], p)
				size += len(p)
			}
			n += d.copyTo(b[n:])
			size += d.pkt.Data().Size()
			d.pkt.DecRef()
			return n, size, d.from.Addr(), nil
		}
		c.rd.park()
	}
}

// Write sends an echo request to the peer of a conn that was dialed: see WriteTo.
// The error is EDESTADDRREQ if there is none.
func (c *ICMPConn) Write(b []byte) (int, error) {
	if err := c.send("write", b, nil, c.peer); err != nil {
		return 0, c.opErr("write", err)
	}
	return len(b), nil
}

// WriteTo sends an echo request to addr, a *net.IPAddr. b is the message, whose
// checksum need not be there: it is computed. The error is EINVAL for anything
// else than an echo request of the connection's family, EADDRINUSE if another
// ICMPConn has its identifier, and ENOBUFS if this one has 64 already.
func (c *ICMPConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	a, ok := addr.(*net.IPAddr)
	if !ok {
		return 0, opError("write", c.net, c.laddr, addr, syscall.EINVAL)
	}
	return c.WriteToIP(b, a)
}

// WriteToIP acts like WriteTo.
func (c *ICMPConn) WriteToIP(b []byte, addr *net.IPAddr) (int, error) {
	if err := c.writeTo("sendto", b, nil, addr); err != nil {
		return 0, opError("write", c.net, c.laddr, opAddr(addr), err)
	}
	return len(b), nil
}

// writeTo is WriteToIP and WriteMsgIP, which are the system call with that name.
func (c *ICMPConn) writeTo(call string, b, oob []byte, addr *net.IPAddr) error {
	switch {
	case c.peer.IsValid():
		return net.ErrWriteToConnected
	case addr == nil:
		return errMissingAddress
	}
	ip, _ := netip.AddrFromSlice(addr.IP)
	to := ip.Unmap().WithZone(addr.Zone)
	n := network{name: c.net, family: '4'}
	if c.icmp.net == ipv6.ProtocolNumber {
		n.family = '6'
	}
	if err := n.malformed(call, addr.IP, 0); err != nil {
		return err
	}
	at, err := c.stack.destination(call, n, netip.AddrPortFrom(to, 0))
	if err != nil {
		return err
	}
	return c.send(call, b, oob, at.Addr())
}

// send sends an echo request for a method that is the system call with that name. It
// needs an address.
func (c *ICMPConn) send(call string, b, oob []byte, to netip.Addr) error {
	c.wr.mu.Lock()
	defer c.wr.mu.Unlock()
	if err := c.why(&c.wr.parker); err != nil {
		return err
	}
	if !to.IsValid() {
		return sysError(call, &tcpip.ErrDestinationRequired{})
	}
	how, err := c.stack.parseControl(oob)
	if err != nil {
		return err
	}
	if terr := c.icmp.write(b, to, how); terr != nil {
		return c.callErr(&c.wr.parker, call, terr)
	}
	return nil
}

// WriteMsgIP acts like WriteTo. Control messages in oob choose for the request what
// those of UDPConn.WriteMsgUDPAddrPort choose for a datagram.
func (c *ICMPConn) WriteMsgIP(b, oob []byte, addr *net.IPAddr) (n, oobn int, err error) {
	if err := c.writeTo("sendmsg", b, oob, addr); err != nil {
		return 0, 0, opError("write", c.net, c.laddr, opAddr(addr), err)
	}
	return len(b), len(oob), nil
}

// SetReadBuffer sets how many bytes of replies wait to be read, as that of a
// UDPConn does. Others are dropped.
func (c *ICMPConn) SetReadBuffer(bytes int) error {
	return c.set(func() tcpip.Error {
		c.icmp.in.setLimit(bufferSize(bytes))
		return nil
	})
}

// SetWriteBuffer has no effect: a request is sent at once or not at all.
func (c *ICMPConn) SetWriteBuffer(int) error { return c.set(func() tcpip.Error { return nil }) }

// LocalAddr returns the local address, a *net.IPAddr. It is shared by all calls:
// do not change it.
func (c *ICMPConn) LocalAddr() net.Addr { return c.laddr }

// RemoteAddr returns the peer's address, a *net.IPAddr, or nil if the conn was not
// dialed.
func (c *ICMPConn) RemoteAddr() net.Addr { return c.raddr }

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
