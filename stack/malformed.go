package stack

import (
	"cmp"
	"math"
	"net"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// Callers give addresses as values, whose IP may have any length, and whose port may be
// any number. As a netip.AddrPort the one would be no address, which means the stack
// itself, and the other another port. What is said here of them instead is what
// package net says: of a length it itself, of a port the system call.

// malformed returns what is wrong with an IP address and a port, besides what they
// mean.
func (n network) malformed(call string, ip net.IP, port int) error {
	switch length := len(ip); {
	case length == 0, length == net.IPv4len, length == net.IPv6len:
	case n.family == '6', n.family == 0 && length > net.IPv4len:
		return &net.AddrError{Err: "non-IPv6 address", Addr: ip.String()}
	default:
		return &net.AddrError{Err: errNotIPv4, Addr: ip.String()}
	}
	if port < 0 || port > math.MaxUint16 {
		return sysErrno(call, syscall.EINVAL)
	}
	return nil
}

// malformedAddr is malformed for an address of the network, or nil.
func (n network) malformedAddr(call string, a net.Addr) error {
	switch a := a.(type) {
	case *net.TCPAddr:
		if a != nil {
			return n.malformed(call, a.IP, a.Port)
		}
	case *net.UDPAddr:
		if a != nil {
			return n.malformed(call, a.IP, a.Port)
		}
	}
	return nil
}

// malformedEnds does it for the two addresses of a dial.
func (n network) malformedEnds(from, to net.Addr) error {
	return cmp.Or(n.malformedAddr("bind", from), n.malformedAddr("connect", to))
}

// malformed does it for where to send.
func (c *UDPConn) malformed(call string, to *net.UDPAddr) error {
	n := network{family: '6'}
	if c.family == ipv4.ProtocolNumber {
		n.family = '4'
	}
	return n.malformed(call, to.IP, to.Port)
}
