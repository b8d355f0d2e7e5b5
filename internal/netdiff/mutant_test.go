package netdiff

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A mutant is a network with a mistake: whatever it makes goes through one of its
// functions, those that are not nil.
type mutant struct {
	network
	tcp      func(tcpConn) tcpConn
	udp      func(udpConn) udpConn
	listener func(tcpListener) tcpListener
	dialErr  func(error) error
	context  func(context.Context) context.Context
	dialer   func(*net.Dialer)
	config   func(*net.ListenConfig)
	typedNil bool // a failed dial returns a nil of a type
	reuse    bool // a port that is taken is replaced by another
}

func (m *mutant) asTCP(c tcpConn, err error) (tcpConn, error) {
	if err == nil && m.tcp != nil {
		c = m.tcp(c)
	}
	return c, m.failed(err)
}

func (m *mutant) asUDP(c udpConn, err error) (udpConn, error) {
	if err == nil && m.udp != nil {
		c = m.udp(c)
	}
	return c, m.failed(err)
}

func (m *mutant) asListener(l tcpListener, err error) (tcpListener, error) {
	if err != nil {
		return l, err
	}
	if m.tcp != nil {
		l = acceptsMutants{l, m.tcp}
	}
	if m.listener != nil {
		l = m.listener(l)
	}
	return l, nil
}

type acceptsMutants struct {
	tcpListener
	tcp func(tcpConn) tcpConn
}

func (l acceptsMutants) Accept() (net.Conn, error) {
	c, err := l.tcpListener.Accept()
	if err != nil {
		return nil, err
	}
	return l.tcp(c.(tcpConn)), nil
}

func (m *mutant) failed(err error) error {
	if err != nil && m.dialErr != nil {
		return m.dialErr(err)
	}
	return err
}

func (m *mutant) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if m.context != nil {
		ctx = m.context(ctx)
	}
	return m.asConn(m.network.Dial(ctx, network, address))
}

func (m *mutant) DialBy(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	if m.context != nil {
		ctx = m.context(ctx)
	}
	if m.dialer != nil {
		mine := *d
		d = &mine
		m.dialer(d)
	}
	return m.asConn(m.network.DialBy(ctx, d, network, address))
}

func (m *mutant) ListenBy(ctx context.Context, lc *net.ListenConfig, network, address string) (net.Listener, error) {
	if m.config != nil {
		mine := *lc
		lc = &mine
		m.config(lc)
	}
	l, err := m.network.ListenBy(ctx, lc, network, address)
	if err != nil {
		return nil, err
	}
	return m.asListener(l.(tcpListener), nil)
}

func (m *mutant) asConn(c net.Conn, err error) (net.Conn, error) {
	switch c := c.(type) {
	case udpConn:
		return m.asUDP(c, err)
	case tcpConn:
		return m.asTCP(c, err)
	}
	if m.typedNil {
		return (*net.TCPConn)(nil), err
	}
	return nil, m.failed(err)
}

func (m *mutant) DialTCP(network string, laddr, raddr *net.TCPAddr) (tcpConn, error) {
	return m.asTCP(m.network.DialTCP(network, laddr, raddr))
}

func (m *mutant) DialUDP(network string, laddr, raddr *net.UDPAddr) (udpConn, error) {
	return m.asUDP(m.network.DialUDP(network, laddr, raddr))
}

func (m *mutant) Listen(network, address string) (net.Listener, error) {
	l, err := m.network.Listen(network, address)
	if err != nil && m.reuse {
		host, _, _ := net.SplitHostPort(address)
		l, err = m.network.Listen(network, net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return nil, err
	}
	return m.asListener(l.(tcpListener), nil)
}

func (m *mutant) ListenTCP(network string, laddr *net.TCPAddr) (tcpListener, error) {
	return m.asListener(m.network.ListenTCP(network, laddr))
}

func (m *mutant) ListenPacket(network, address string) (net.PacketConn, error) {
	c, err := m.network.ListenPacket(network, address)
	if err != nil {
		return nil, err
	}
	return m.asUDP(c.(udpConn), nil)
}

func (m *mutant) ListenUDP(network string, laddr *net.UDPAddr) (udpConn, error) {
	return m.asUDP(m.network.ListenUDP(network, laddr))
}

func (m *mutant) ListenMulticastUDP(network string, ifi *net.Interface, gaddr *net.UDPAddr) (udpConn, error) {
	return m.asUDP(m.network.ListenMulticastUDP(network, ifi, gaddr))
}

// badTCP is a connection with a mistake in the methods that are not nil.
type badTCP struct {
	tcpConn
	read             func(tcpConn, []byte) (int, error)
	write            func(tcpConn, []byte) (int, error)
	close            func(tcpConn) error
	closeRead        func(tcpConn) error
	closeWrite       func(tcpConn) error
	local, remote    func(tcpConn) net.Addr
	setDeadline      func(tcpConn, time.Time) error
	setReadDeadline  func(tcpConn, time.Time) error
	setWriteDeadline func(tcpConn, time.Time) error
	setLinger        func(tcpConn, int) error
	readFrom         func(tcpConn, io.Reader) (int64, error)
	writeTo          func(tcpConn, io.Writer) (int64, error)
}

func (c *badTCP) ReadFrom(r io.Reader) (int64, error) {
	if c.readFrom != nil {
		return c.readFrom(c.tcpConn, r)
	}
	return c.tcpConn.ReadFrom(r)
}

func (c *badTCP) WriteTo(w io.Writer) (int64, error) {
	if c.writeTo != nil {
		return c.writeTo(c.tcpConn, w)
	}
	return c.tcpConn.WriteTo(w)
}

func (c *badTCP) Read(b []byte) (int, error) {
	if c.read != nil {
		return c.read(c.tcpConn, b)
	}
	return c.tcpConn.Read(b)
}

func (c *badTCP) Write(b []byte) (int, error) {
	if c.write != nil {
		return c.write(c.tcpConn, b)
	}
	return c.tcpConn.Write(b)
}

// orElse calls f if there is one.
func orElse[C, R any](f func(C) R, c C, otherwise func() R) R {
	if f != nil {
		return f(c)
	}
	return otherwise()
}

func (c *badTCP) Close() error      { return orElse(c.close, c.tcpConn, c.tcpConn.Close) }
func (c *badTCP) CloseRead() error  { return orElse(c.closeRead, c.tcpConn, c.tcpConn.CloseRead) }
func (c *badTCP) CloseWrite() error { return orElse(c.closeWrite, c.tcpConn, c.tcpConn.CloseWrite) }

func (c *badTCP) LocalAddr() net.Addr  { return orElse(c.local, c.tcpConn, c.tcpConn.LocalAddr) }
func (c *badTCP) RemoteAddr() net.Addr { return orElse(c.remote, c.tcpConn, c.tcpConn.RemoteAddr) }

func (c *badTCP) SetDeadline(t time.Time) error {
	if c.setDeadline != nil {
		return c.setDeadline(c.tcpConn, t)
	}
	return c.tcpConn.SetDeadline(t)
}

func (c *badTCP) SetReadDeadline(t time.Time) error {
	if c.setReadDeadline != nil {
		return c.setReadDeadline(c.tcpConn, t)
	}
	return c.tcpConn.SetReadDeadline(t)
}

func (c *badTCP) SetWriteDeadline(t time.Time) error {
	if c.setWriteDeadline != nil {
		return c.setWriteDeadline(c.tcpConn, t)
	}
	return c.tcpConn.SetWriteDeadline(t)
}

func (c *badTCP) SetLinger(sec int) error {
	if c.setLinger != nil {
		return c.setLinger(c.tcpConn, sec)
	}
	return c.tcpConn.SetLinger(sec)
}

// badUDP is a socket with a mistake: all ways to read come together in read, and
// all ways to write to an address in writeTo.
type badUDP struct {
	udpConn
	read             func(c udpConn, b []byte) (int, netip.AddrPort, error)
	readAs           func(c udpConn, b []byte) (int, error) // Read alone
	write            func(c udpConn, b []byte) (int, error)
	writeTo          func(c udpConn, b []byte, to netip.AddrPort) (int, error)
	close            func(udpConn) error
	remote           func(udpConn) net.Addr
	setDeadline      func(udpConn, time.Time) error
	setReadDeadline  func(udpConn, time.Time) error
	setWriteDeadline func(udpConn, time.Time) error
	setReadBuffer    func(udpConn, int) error
	readMsg          func(c udpConn, b, oob []byte) (n, oobn, flags int, a *net.UDPAddr, err error)
	writeMsg         func(c udpConn, b, oob []byte, to *net.UDPAddr) (n, oobn int, err error)
	readBatch        func(c udpConn, ms []message) (int, error)
	writeBatch       func(c udpConn, ms []message) (int, error)
	joinGroup        func(c udpConn, group net.Addr) error
}

func (c *badUDP) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, a *net.UDPAddr, err error) {
	if c.readMsg != nil {
		return c.readMsg(c.udpConn, b, oob)
	}
	return c.udpConn.ReadMsgUDP(b, oob)
}

func (c *badUDP) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	if c.writeMsg != nil {
		return c.writeMsg(c.udpConn, b, oob, to)
	}
	return c.udpConn.WriteMsgUDP(b, oob, to)
}

func (c *badUDP) ReadBatch(ms []message, flags int) (int, error) {
	if c.readBatch != nil {
		return c.readBatch(c.udpConn, ms)
	}
	return c.udpConn.ReadBatch(ms, flags)
}

func (c *badUDP) WriteBatch(ms []message, flags int) (int, error) {
	if c.writeBatch != nil {
		return c.writeBatch(c.udpConn, ms)
	}
	return c.udpConn.WriteBatch(ms, flags)
}

func (c *badUDP) JoinGroup(group net.Addr) error {
	if c.joinGroup != nil {
		return c.joinGroup(c.udpConn, group)
	}
	return c.udpConn.JoinGroup(group)
}

func (c *badUDP) Read(b []byte) (int, error) {
	switch {
	case c.readAs != nil:
		return c.readAs(c.udpConn, b)
	case c.read != nil && len(b) != 0:
		n, _, err := c.read(c.udpConn, b)
		return n, err
	}
	return c.udpConn.Read(b)
}

func (c *badUDP) ReadFrom(b []byte) (int, net.Addr, error) {
	if c.read == nil {
		return c.udpConn.ReadFrom(b)
	}
	n, a, err := c.read(c.udpConn, b)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(a), nil
}

func (c *badUDP) ReadFromUDP(b []byte) (int, *net.UDPAddr, error) {
	if c.read == nil {
		return c.udpConn.ReadFromUDP(b)
	}
	n, a, err := c.read(c.udpConn, b)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(a), nil
}

func (c *badUDP) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	if c.read == nil {
		return c.udpConn.ReadFromUDPAddrPort(b)
	}
	return c.read(c.udpConn, b)
}

func (c *badUDP) Write(b []byte) (int, error) {
	if c.write != nil {
		return c.write(c.udpConn, b)
	}
	return c.udpConn.Write(b)
}

func (c *badUDP) WriteTo(b []byte, to net.Addr) (int, error) {
	if a, ok := to.(*net.UDPAddr); ok && c.writeTo != nil {
		return c.writeTo(c.udpConn, b, a.AddrPort())
	}
	return c.udpConn.WriteTo(b, to)
}

func (c *badUDP) WriteToUDP(b []byte, to *net.UDPAddr) (int, error) {
	if to != nil && c.writeTo != nil {
		return c.writeTo(c.udpConn, b, to.AddrPort())
	}
	return c.udpConn.WriteToUDP(b, to)
}

func (c *badUDP) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if c.writeTo != nil {
		return c.writeTo(c.udpConn, b, to)
	}
	return c.udpConn.WriteToUDPAddrPort(b, to)
}

func (c *badUDP) Close() error         { return orElse(c.close, c.udpConn, c.udpConn.Close) }
func (c *badUDP) RemoteAddr() net.Addr { return orElse(c.remote, c.udpConn, c.udpConn.RemoteAddr) }

func (c *badUDP) SetDeadline(t time.Time) error {
	if c.setDeadline != nil {
		return c.setDeadline(c.udpConn, t)
	}
	return c.udpConn.SetDeadline(t)
}

func (c *badUDP) SetReadDeadline(t time.Time) error {
	if c.setReadDeadline != nil {
		return c.setReadDeadline(c.udpConn, t)
	}
	return c.udpConn.SetReadDeadline(t)
}

func (c *badUDP) SetWriteDeadline(t time.Time) error {
	if c.setWriteDeadline != nil {
		return c.setWriteDeadline(c.udpConn, t)
	}
	return c.udpConn.SetWriteDeadline(t)
}

func (c *badUDP) SetReadBuffer(bytes int) error {
	if c.setReadBuffer != nil {
		return c.setReadBuffer(c.udpConn, bytes)
	}
	return c.udpConn.SetReadBuffer(bytes)
}

// badListener is a listener with a mistake.
type badListener struct {
	tcpListener
	accept      func(tcpListener) (net.Conn, error)
	addr        func(tcpListener) net.Addr
	close       func(tcpListener) error
	setDeadline func(tcpListener, time.Time) error
}

func (l *badListener) Accept() (net.Conn, error) {
	if l.accept != nil {
		return l.accept(l.tcpListener)
	}
	return l.tcpListener.Accept()
}

func (l *badListener) Addr() net.Addr { return orElse(l.addr, l.tcpListener, l.tcpListener.Addr) }
func (l *badListener) Close() error   { return orElse(l.close, l.tcpListener, l.tcpListener.Close) }

func (l *badListener) SetDeadline(t time.Time) error {
	if l.setDeadline != nil {
		return l.setDeadline(l.tcpListener, t)
	}
	return l.tcpListener.SetDeadline(t)
}

// inside counts calls that are going on.
type inside struct {
	mu sync.Mutex
	n  int
}

func (i *inside) enter() (leave func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.n++
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.n--
	}
}

func (i *inside) any() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.n != 0
}
