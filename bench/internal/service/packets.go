package service

import (
	"net"
	"net/netip"
)

// maxDatagram holds every UDP datagram over IPv4.
const maxDatagram = 64 << 10

// addrPortConn is the form without an allocation per datagram, which the
// sockets of package net and of this project have.
type addrPortConn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
}

// echoPackets sends every datagram back to where it came from.
func echoPackets(c net.PacketConn) {
	b := make([]byte, maxDatagram)
	if a, ok := c.(addrPortConn); ok {
		for {
			n, from, err := a.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = a.WriteToUDPAddrPort(b[:n], from) // a datagram may be lost
		}
	}
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(b[:n], from)
	}
}
