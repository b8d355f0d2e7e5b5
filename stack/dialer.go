package stack

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// A Dialer connects from a Stack. Its fields have the meaning and the defaults
// that net.Dialer's have, so that code which fills in a net.Dialer changes the
// type and adds Stack. It may be used by many goroutines, if none changes it.
type Dialer struct {
	// Stack is where connections start. It must be set.
	Stack *Stack

	// Timeout is how long a dial may take, the look-up of the name included. Of
	// several addresses of a host each gets its share of what is left. Zero means
	// no limit but TCP's own, which is about two minutes.
	Timeout time.Duration

	// Deadline is when a dial fails at the latest. Zero means never. The earliest
	// of it, of Timeout and of the context's deadline counts.
	Deadline time.Time

	// LocalAddr is the address to dial from: a *net.TCPAddr, a *net.UDPAddr or a
	// *net.IPAddr, as the network says. An address without an IP chooses only the
	// port. Of a host's addresses those of LocalAddr's family are dialed. Nil means
	// that the stack chooses.
	LocalAddr net.Addr

	// DualStack has no effect, as in package net.
	//
	// Deprecated: FallbackDelay below zero is what turns it off.
	DualStack bool

	// FallbackDelay is for how long the addresses of the family that comes first
	// are tried alone, if a host has both and the network is "tcp" (RFC 6555).
	// Global IPv6 addresses come first, if the stack has one and a route. Zero
	// means 300 ms; below zero all addresses are tried one after the other.
	FallbackDelay time.Duration

	// KeepAlive is how long a connection is idle before it is probed. Zero means
	// 15 s; below zero it is not probed. KeepAliveConfig.Enable overrides it.
	KeepAlive time.Duration

	// KeepAliveConfig says how a connection is probed if its Enable is true; see
	// TCPConn.SetKeepAliveConfig. Otherwise KeepAlive says it.
	KeepAliveConfig net.KeepAliveConfig

	// Resolver looks up names. Nil means Stack.Resolver. With net.DefaultResolver
	// queries leave by the kernel's sockets.
	Resolver *net.Resolver

	// Cancel cancels the dial when it is closed.
	//
	// Deprecated: use DialContext.
	Cancel <-chan struct{}

	// Control and ControlContext must be nil. In package net they are given the
	// file descriptor of the new socket; a Stack's have none. A dial with one of
	// them fails, with an error for which errors.Is holds with
	// errors.ErrUnsupported.
	Control        func(network, address string, c syscall.RawConn) error
	ControlContext func(ctx context.Context, network, address string, c syscall.RawConn) error

	multipath bool
}

// MultipathTCP reports what SetMultipathTCP has set; false by default.
func (d *Dialer) MultipathTCP() bool { return d.multipath }

// SetMultipathTCP asks for MPTCP. A Stack does not speak it: connections are
// those of plain TCP, as package net's are where the kernel has no MPTCP.
func (d *Dialer) SetMultipathTCP(use bool) { d.multipath = use }

// Dial acts like DialContext with context.Background.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to an address, as net.Dialer.DialContext does. The
// network is "tcp", "tcp4", "tcp6", "udp", "udp4" or "udp6"; or it is "ip4:icmp" or
// "ip6:ipv6-icmp", and the address a host without a port. The host of the
// address is a literal or a name, the port a number or the name of a service.
// "localhost", no host, and the wildcard mean the stack itself. A host's
// addresses are tried in turn: in the order of RFC 6724, by the routes of the
// stack, and both families at once when the first is slow; see FallbackDelay. UDP
// takes the first address to which there is a route.
//
// The end of ctx ends a dial that is not done, also one that waits for a
// nameserver, and means nothing for a connection that was made. When DialContext
// returns, attempts that were not successful, or came second, are over.
//
// The connection is a *TCPConn, a *UDPConn or an *ICMPConn. The error is a *net.OpError, that
// of the first address: errors.Is tells ECONNREFUSED, ECONNRESET, ENETUNREACH,
// EHOSTUNREACH, ETIMEDOUT, EADDRNOTAVAIL, ENETDOWN, context.Canceled,
// context.DeadlineExceeded and net.ErrClosed (the stack was closed) apart. If
// the name was not found, there is a *net.DNSError inside.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := d.context(ctx)
	defer cancel()
	if n, ok := icmpNetwork(network); ok {
		return d.dialICMP(ctx, n, address)
	}
	n, all, err := d.addresses(ctx, network, address)
	if err != nil {
		return nil, opError("dial", network, nil, nil, err)
	}
	from, _ := addrPortOf(n.proto, d.LocalAddr)
	r := race{
		delay: d.FallbackDelay,
		one: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return d.one(ctx, n, from, to)
		},
		fail: func(to netip.AddrPort, err error) error {
			return opError("dial", network, d.LocalAddr, n.addr(to), err)
		},
	}
	if d.FallbackDelay < 0 || network != "tcp" {
		return r.inTurn(ctx, all)
	}
	return r.both(ctx, all)
}

// addresses returns where to dial, in order.
func (d *Dialer) addresses(ctx context.Context, network, address string) (n network, all []netip.AddrPort, err error) {
	if err = d.usable(); err != nil {
		return n, nil, err
	}
	if n, err = parseNetwork(network); err != nil {
		return n, nil, err
	}
	if address == "" {
		return n, nil, errMissingAddress
	}
	if all, err = d.Stack.resolve(ctx, d.Resolver, n, address); err != nil {
		return n, nil, err
	}
	all, err = suitable(all, n.proto, d.LocalAddr)
	return n, all, err
}

// one connects to one address. Unlike what it calls, it returns no interface that
// is not nil with a nil pointer inside.
func (d *Dialer) one(ctx context.Context, n network, from, to netip.AddrPort) (net.Conn, error) {
	if err := n.malformedAddr("bind", d.LocalAddr); err != nil {
		return nil, err
	}
	if n.proto == "tcp" {
		if c, err := d.Stack.dialTCP(ctx, n, from, to, keepAlive(d.KeepAlive, d.KeepAliveConfig)); err == nil {
			return c, nil
		} else {
			return nil, err
		}
	}
	if c, err := d.Stack.dialUDP(ctx, n, from, to); err == nil {
		return c, nil
	} else {
		return nil, err
	}
}

// DialTCP acts like DialContext for TCP networks, between two addresses. Of laddr
// what is not valid or zero is chosen by the stack; LocalAddr has no meaning. A
// raddr that is not valid, or unspecified, means the stack itself.
func (d *Dialer) DialTCP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*TCPConn, error) {
	return d.dialTCP(ctx, network, tcpAddr(laddr), tcpAddr(raddr))
}

func (d *Dialer) dialTCP(ctx context.Context, network string, laddr, raddr *net.TCPAddr) (*TCPConn, error) {
	ctx, cancel := d.context(ctx)
	defer cancel()
	n, err := d.network("tcp", network, raddr == nil)
	if err == nil {
		err = n.malformedEnds(laddr, raddr)
	}
	if err == nil {
		var c *TCPConn
		c, err = d.Stack.dialTCP(ctx, n, laddr.AddrPort(), raddr.AddrPort(), keepAlive(d.KeepAlive, d.KeepAliveConfig))
		if err == nil {
			return c, nil
		}
	}
	return nil, opError("dial", network, opAddr(laddr), opAddr(raddr), err)
}

// DialUDP does for UDP networks what DialTCP does for TCP ones.
func (d *Dialer) DialUDP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*UDPConn, error) {
	return d.dialUDP(ctx, network, udpAddr(laddr), udpAddr(raddr))
}

func (d *Dialer) dialUDP(ctx context.Context, network string, laddr, raddr *net.UDPAddr) (*UDPConn, error) {
	ctx, cancel := d.context(ctx)
	defer cancel()
	n, err := d.network("udp", network, raddr == nil)
	if err == nil {
		err = n.malformedEnds(laddr, raddr)
	}
	if err == nil {
		var c *UDPConn
		if c, err = d.Stack.dialUDP(ctx, n, laddr.AddrPort(), raddr.AddrPort()); err == nil {
			return c, nil
		}
	}
	return nil, opError("dial", network, opAddr(laddr), opAddr(raddr), err)
}

// network checks what DialTCP and DialUDP are given.
func (d *Dialer) network(proto, name string, missing bool) (network, error) {
	n, err := parseNetwork(name)
	switch {
	case err != nil:
	case n.proto != proto:
		err = net.UnknownNetworkError(name)
	case missing:
		err = errMissingAddress
	default:
		err = d.usable()
	}
	return n, err
}

// usable says what is wrong with d, whatever it is to dial.
func (d *Dialer) usable() error {
	switch {
	case d.Stack == nil:
		return errNoStack("Dialer")
	case d.ControlContext != nil:
		return unsupportedError("Dialer.ControlContext")
	case d.Control != nil:
		return unsupportedError("Dialer.Control")
	}
	return nil
}

// context returns ctx with what else ends a dial.
func (d *Dialer) context(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx == nil {
		panic("nil context")
	}
	deadline, cancel := d.Deadline, func() {}
	if d.Timeout != 0 { // below zero too, as package net has it: it has passed
		if t := time.Now().Add(d.Timeout); deadline.IsZero() || t.Before(deadline) {
			deadline = t
		}
	}
	if !deadline.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, deadline)
	}
	if d.Cancel == nil {
		return ctx, cancel
	}
	sub, cancelSub := context.WithCancel(ctx)
	go func() {
		select {
		case <-d.Cancel:
			cancelSub()
		case <-sub.Done():
		}
	}()
	return sub, func() { cancelSub(); cancel() }
}
