package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

// A resolver is Go's own, with queries that go out by the sockets of a Stack.
type resolver struct {
	net.Resolver
	stack *Stack

	// turn counts the nameservers that have failed: it chooses among
	// Config.Nameservers.
	turn atomic.Uint32
}

func (r *resolver) init(s *Stack) {
	r.stack = s
	r.PreferGo, r.Dial = true, r.dial
}

// whole returns nameservers with their ports, and those on the link with a zone.
func whole(all []netip.AddrPort, zone string) []netip.AddrPort {
	with := make([]netip.AddrPort, len(all))
	for i, n := range all {
		a, port := n.Addr(), n.Port()
		if scoped(a) {
			a = a.WithZone(zone)
		}
		if port == 0 {
			port = 53
		}
		with[i] = netip.AddrPortFrom(a, port)
	}
	return with
}

// Resolver returns the resolver that the stack's names are looked up with, always
// the same. It is Go's own: it reads the hosts file and resolv.conf (search
// domains, timeout, attempts, and the nameservers unless Config.Nameservers has
// others), and asks the nameservers from the stack's addresses, by UDP, and by
// TCP for answers that are too long.
//
// Two things of its results are the host's: addresses are in the order that the
// kernel's routes suggest (Dial orders them again, by the stack's), and the Server
// of a *net.DNSError is one of resolv.conf, also where a nameserver of the Config
// was asked in its place (errors of Dial and Listen name that one).
func (s *Stack) Resolver() *net.Resolver { return &s.resolver.Resolver }

// dial is called by the resolver for each query, with the address of a nameserver
// of resolv.conf.
func (r *resolver) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n, err := parseNetwork(network)
	if err != nil {
		return nil, err
	}
	to, turn, err := r.nameserver(address)
	if err != nil {
		return nil, err
	}
	if a, ok := ctx.Value(askedKey{}).(*atomic.Value); ok {
		a.Store(to.String())
	}
	failed := func() {
		if ctx.Err() != context.Canceled {
			r.turn.CompareAndSwap(turn, turn+1)
		}
	}
	d := Dialer{Stack: r.stack}
	c, err := d.one(ctx, n, netip.AddrPort{}, to)
	if err != nil {
		failed()
		return nil, opError("dial", network, nil, n.addr(to), err)
	}
	// The resolver cancels ctx after the query; during it only if nobody waits for
	// the answer any more, and then reads on all the same.
	context.AfterFunc(ctx, func() {
		if ctx.Err() == context.Canceled {
			c.Close()
		}
	})
	switch c := c.(type) {
	case *UDPConn:
		return &query{c, failed}, nil
	case *TCPConn:
		return &longQuery{TCPConn: c, failed: failed}, nil
	}
	return c, nil
}

// nameserver returns the one to ask where the host would ask another, and the
// turn that it is.
func (r *resolver) nameserver(host string) (netip.AddrPort, uint32, error) {
	turn := r.turn.Load()
	if all := r.stack.cfg.Nameservers; len(all) != 0 {
		return all[turn%uint32(len(all))], turn, nil
	}
	to, err := netip.ParseAddrPort(host)
	if err == nil && to.Addr().IsLoopback() {
		err = fmt.Errorf("resolv.conf names a nameserver on the host's loopback interface, %v, which the stack cannot reach: set Config.Nameservers", to.Addr())
	}
	return to, turn, err
}

// A query is the socket of one query. To the resolver it must be a net.PacketConn:
// that tells it how messages are framed.
type query struct {
	*UDPConn
	failed func() // the nameserver is of no use
}

// Read reads an answer.
func (q *query) Read(b []byte) (int, error) {
	n, err := q.UDPConn.Read(b)
	if err != nil || n >= 4 && !conclusive(b[3]&0xf) {
		q.failed()
	}
	return n, err
}

// A longQuery is the connection of one query by TCP.
type longQuery struct {
	*TCPConn
	failed func() // as in query
	n      int    // bytes read
}

// Read reads some of an answer, which has its length in front.
func (q *longQuery) Read(b []byte) (int, error) {
	n, err := q.TCPConn.Read(b)
	code := 2 + 3 - q.n // where it is in b
	q.n += n
	if err != nil || code >= 0 && code < n && !conclusive(b[code]&0xf) {
		q.failed()
	}
	return n, err
}

// conclusive reports whether a DNS answer's code (RFC 1035, section 4.1.1) says
// something of the name, and not of the nameserver.
func conclusive(code byte) bool { return code == 0 || code == 3 }

// askedKey is the context key of the *atomic.Value with the string of the
// nameserver that was asked last.
type askedKey struct{}

// lookup returns the addresses of a name. If family is not 0, only its are asked
// for; the hosts file may have others still.
func (s *Stack) lookup(ctx context.Context, r *net.Resolver, family byte, host string) (all []netip.Addr, err error) {
	var asked atomic.Value
	if r == s.Resolver() {
		ctx = context.WithValue(ctx, askedKey{}, &asked)
	}
	if family != 0 {
		all, err = r.LookupNetIP(ctx, "ip"+string(family), host)
	} else {
		var addrs []net.IPAddr
		addrs, err = r.LookupIPAddr(ctx, host)
		for _, a := range addrs {
			if ip, ok := netip.AddrFromSlice(a.IP); ok {
				all = append(all, ip.WithZone(a.Zone))
			}
		}
	}
	if err != nil {
		return nil, s.lookupError(err, asked.Load())
	}
	for i, a := range all {
		all[i] = a.Unmap()
	}
	return all, nil
}

// lookupError returns what a name could not be looked up for. A *net.DNSError has
// lost it if the stack or its device was gone, and does not know which nameserver
// was asked.
func (s *Stack) lookupError(err error, asked any) error {
	if gone := s.gone(); gone != nil {
		return gone
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.Server != "" && asked != nil {
		mine := *dns // others may have the same
		mine.Server = asked.(string)
		return &mine
	}
	return err
}

// gone returns why the stack has no network, or nil if it has one.
func (s *Stack) gone() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.down != nil:
		return s.down
	}
	return nil
}
