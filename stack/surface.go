package stack

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"
)

// What the types are, as far as the compiler can tell: the interfaces that package
// net's have, and those that libraries ask for by type assertion. There is no
// SyscallConn and no File, for there is no file descriptor; surface_test.go has the
// list of what package net's types have and these do not.
var (
	_ net.Conn       = (*TCPConn)(nil)
	_ io.ReaderFrom  = (*TCPConn)(nil)
	_ io.WriterTo    = (*TCPConn)(nil)
	_ net.Listener   = (*TCPListener)(nil)
	_ net.Conn       = (*UDPConn)(nil)
	_ net.PacketConn = (*UDPConn)(nil)
	_ net.Conn       = (*ICMPConn)(nil)
	_ net.PacketConn = (*ICMPConn)(nil)

	// net/http closes half a connection before it closes the other, and so do
	// crypto/tls, and httputil.ReverseProxy when protocols are switched. net/http's
	// server has ReadFrom copy files and other connections.
	_ interface {
		net.Conn
		io.ReaderFrom
		CloseRead() error
		CloseWrite() error
	} = (*TCPConn)(nil)

	// Servers and proxies set buffers and keepalive.
	_ interface {
		SetReadBuffer(bytes int) error
		SetWriteBuffer(bytes int) error
		SetNoDelay(noDelay bool) error
		SetLinger(sec int) error
		SetKeepAlive(keepalive bool) error
		SetKeepAlivePeriod(d time.Duration) error
		SetKeepAliveConfig(config net.KeepAliveConfig) error
	} = (*TCPConn)(nil)

	// quic-go sets the buffers of what need not have a file descriptor; what has
	// SyscallConn besides has to have all that goes with one.
	_ interface {
		net.PacketConn
		SetReadBuffer(bytes int) error
		SetWriteBuffer(bytes int) error
	} = (*UDPConn)(nil)

	// miekg/dns, and Go's resolver, send without the length in front what is a
	// PacketConn too.
	_ interface {
		net.Conn
		net.PacketConn
	} = (*UDPConn)(nil)

	// Addresses without allocation, for wireguard-go, pion and DNS servers.
	_ interface {
		ReadFromUDPAddrPort(b []byte) (n int, addr netip.AddrPort, err error)
		WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
		ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error)
		WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error)
	} = (*UDPConn)(nil)

	// Datagrams with what comes beside them.
	_ interface {
		ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error)
		WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error)
	} = (*UDPConn)(nil)
	_ interface {
		ReadMsgIP(b, oob []byte) (n, oobn, flags int, addr *net.IPAddr, err error)
		WriteMsgIP(b, oob []byte, addr *net.IPAddr) (n, oobn int, err error)
		SetReadBuffer(bytes int) error
		SetWriteBuffer(bytes int) error
	} = (*ICMPConn)(nil)

	// Deadlines of Accept, for servers that stop.
	_ interface {
		net.Listener
		SetDeadline(time.Time) error
	} = (*TCPListener)(nil)

	// What takes the place of a dial function: http.Transport.DialContext,
	// grpc.WithContextDialer with a network, redis.Options.Dialer, proxy.ContextDialer
	// of golang.org/x/net.
	_ interface {
		Dial(network, address string) (net.Conn, error)
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = (*Dialer)(nil)
	_ interface {
		Dial(network, address string) (net.Conn, error)
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = (*Stack)(nil)
)

// MultipathTCP reports whether the connection uses Multipath TCP: it does not,
// since there is one interface.
func (c *TCPConn) MultipathTCP() (bool, error) { return false, nil }
