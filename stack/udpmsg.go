package stack

import (
	"net"
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// SetControlMessage chooses what ReadMsgUDP, ReadMsgUDPAddrPort and ReadBatch
// tell of each datagram, as the methods of that name in golang.org/x/net/ipv4 and
// ipv6 do; ControlMessage.Parse there reads it. Nothing is told unless this is
// called. The error is EINVAL for flags that are not known.
func (c *UDPConn) SetControlMessage(flags ControlFlags, on bool) error {
	return c.set(func() tcpip.Error {
		if flags&^controlAll != 0 {
			return &tcpip.ErrInvalidOptionValue{}
		}
		if on {
			c.tells.Or(uint32(flags))
		} else {
			c.tells.And(^uint32(flags))
		}
		return nil
	})
}

// ReadMsgUDP acts like ReadMsgUDPAddrPort.
func (c *UDPConn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	n, oobn, flags, from, err := c.ReadMsgUDPAddrPort(b, oob)
	if err != nil {
		return 0, 0, 0, nil, err
	}
	return n, oobn, flags, newUDPAddr(from), nil
}

// ReadMsgUDPAddrPort reads a datagram to b and what SetControlMessage has asked
// for to oob. It returns the bytes of both, the flags, and the source. The flags
// are those of Linux: 0x20 (MSG_TRUNC) if the datagram was cut, 0x8 (MSG_CTRUNC)
// if a control message did not fit.
func (c *UDPConn) ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error) {
	c.rd.mu.Lock()
	d, err := c.next("recvmsg")
	c.rd.mu.Unlock()
	if err != nil {
		return 0, 0, 0, netip.AddrPort{}, c.opErr("read", err)
	}
	n = d.copyTo(b)
	if n < d.pkt.Data().Size() {
		flags |= flagCut
	}
	oobn, cut := c.controlOf(oob, &d)
	d.pkt.DecRef()
	return n, oobn, flags | cut, d.from, nil
}

// controlOf writes what is to be told of a datagram.
func (c *UDPConn) controlOf(oob []byte, d *datagram) (n, flags int) {
	if f := ControlFlags(c.tells.Load()); f != 0 {
		return c.stack.writeControl(oob, f, d.pkt)
	}
	return 0, 0
}

// WriteMsgUDP acts like WriteMsgUDPAddrPort. Without an address it sends to the
// peer of a connected socket.
func (c *UDPConn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	var to netip.AddrPort
	if addr != nil {
		if to = addr.AddrPort(); !c.connected {
			err = c.malformed("sendmsg", addr)
		}
	}
	if err == nil {
		n, err = c.writeMsg(b, oob, to, addr != nil)
	}
	if err != nil {
		return n, 0, opError("write", c.net, c.laddr, opAddr(addr), err)
	}
	return n, len(oob), nil
}

// WriteMsgUDPAddrPort sends a datagram to addr, or to the peer of a connected
// socket if addr is the zero AddrPort. Control messages in oob, in the form that
// Linux has for them and golang.org/x/net's ControlMessage.Marshal makes, choose
// for it the TTL or hop limit, the TOS or traffic class, and the source address.
// Others are refused with EINVAL.
func (c *UDPConn) WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error) {
	n, err = c.writeMsg(b, oob, addr, addr.IsValid())
	if err != nil {
		return n, 0, opError("write", c.net, c.laddr, udpAddr(addr), err)
	}
	return n, len(oob), nil
}

func (c *UDPConn) writeMsg(b, oob []byte, to netip.AddrPort, given bool) (n int, err error) {
	switch {
	case c.connected && given:
		return 0, net.ErrWriteToConnected
	case !c.connected && !given:
		return 0, errMissingAddress
	case given:
		if to, err = c.target("sendmsg", to); err != nil {
			return 0, err
		}
	}
	c.wr.mu.Lock()
	defer c.wr.mu.Unlock()
	if len(oob) == 0 {
		return c.sendLocked("sendmsg", b, nil, to, nil)
	}
	if err := c.why(&c.wr.parker); err != nil {
		return 0, err
	}
	how, err := c.stack.parseControl(oob)
	if err != nil {
		return 0, err
	}
	return c.sendLocked("sendmsg", b, nil, to, &how)
}

// sizeOf returns the length of a datagram in pieces.
func sizeOf(b []byte, more [][]byte) int {
	n := len(b)
	for _, p := range more {
		n += len(p)
	}
	return n
}

// sendLocked sends a datagram, in one piece or several, to an address, or to the
// peer if the address is not valid. It waits while the send buffer is full.
// Precondition: wr.mu is held.
func (c *UDPConn) sendLocked(call string, b []byte, more [][]byte, to netip.AddrPort, how *sendControl) (int, error) {
	for {
		if c.wr.stop.Load() != 0 {
			if err := c.why(&c.wr.parker); err != nil {
				return 0, err
			}
		}
		n, err := c.trySend(call, b, more, to, how, false)
		if err != syscall.EAGAIN {
			return n, err
		}
		c.wr.park()
	}
}

// trySend is sendLocked but for the waiting: the error is EAGAIN then. A later datagram
// of a batch leaves it to the next call to tell what ICMP has said.
func (c *UDPConn) trySend(call string, b []byte, more [][]byte, to netip.AddrPort, how *sendControl, later bool) (int, error) {
	n := sizeOf(b, more)
	if n > c.longest(to) {
		return 0, sysError(call, &tcpip.ErrMessageTooLong{})
	}
	if !later {
		if terr := c.udp.failure(); terr != nil {
			return 0, c.callErr(&c.wr.parker, call, terr)
		}
	}
	switch terr := c.udp.write(b, more, to, how); {
	case terr == nil:
		return n, nil
	case isWouldBlock(terr):
		return 0, syscall.EAGAIN
	default:
		return 0, c.callErr(&c.wr.parker, call, terr)
	}
}
