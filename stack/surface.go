package stack

import (
	"io"
	"net"
	"net/netip"
	"time"
)

// What the types are, as far as the compiler can tell. There is no SyscallConn and
// no File, for there is no file descriptor; surface_test.go has the list of what
// package net's types have and these do not.
var (
	_ net.Conn       = (*TCPConn)(nil)
	_ io.ReaderFrom  = (*TCPConn)(nil)
	_ io.WriterTo    = (*TCPConn)(nil)
	_ net.Listener   = (*TCPListener)(nil)
	_ net.Conn       = (*UDPConn)(nil)
	_ net.PacketConn = (*UDPConn)(nil)
	_ net.Conn       = (*ICMPConn)(nil)
	_ net.PacketConn = (*ICMPConn)(nil)

	// Half a connection is closed by net/http, crypto/tls and proxies.
	_ interface {
		CloseRead() error
		CloseWrite() error
	} = (*TCPConn)(nil)

	// Buffers are set, and keepalive, by servers and by QUIC.
	_ interface {
		SetReadBuffer(bytes int) error
		SetWriteBuffer(bytes int) error
		SetNoDelay(noDelay bool) error
		SetKeepAlive(keepalive bool) error
		SetKeepAlivePeriod(d time.Duration) error
		SetKeepAliveConfig(config net.KeepAliveConfig) error
	} = (*TCPConn)(nil)
	_ interface {
		SetReadBuffer(bytes int) error
		SetWriteBuffer(bytes int) error
	} = (*UDPConn)(nil)

	// Addresses without allocation, for wireguard-go, pion and DNS servers.
	_ interface {
		ReadFromUDPAddrPort(b []byte) (n int, addr netip.AddrPort, err error)
		WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
		ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error)
		WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error)
	} = (*UDPConn)(nil)

	// Deadlines of Accept, for servers that stop.
	_ interface{ SetDeadline(time.Time) error } = (*TCPListener)(nil)
)

// MultipathTCP reports whether the connection uses Multipath TCP: it does not,
// since there is one interface.
func (c *TCPConn) MultipathTCP() (bool, error) { return false, nil }
