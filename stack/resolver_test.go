package stack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNames uses names and services wherever an address is taken.
func TestNames(t *testing.T) {
	n := newNamed(t)
	l, err := n.b.Listen("tcp", ":http")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := l.Addr().String(); got != "[::]:80" {
		t.Errorf("Listen on :http is %s", got)
	}
	d := &Dialer{Stack: n.a, FallbackDelay: time.Hour} // IPv6 comes first, however long it takes
	for _, tc := range []struct{ network, address, peer string }{
		{"tcp", "both.test:http", "[" + globalB6 + "]:80"},
		{"tcp4", "both.test:http", addrB + ":80"},
		{"tcp6", "BOTH.test:80", "[" + globalB6 + "]:80"},
		{"tcp", "four.test:80", addrB + ":80"},
		{"tcp", "six.test:80", "[" + globalB6 + "]:80"},
		{"udp", "both.test:domain", "[" + globalB6 + "]:53"},
		{"udp4", "both.test:53", addrB + ":53"},
	} {
		c, err := d.Dial(tc.network, tc.address)
		if err != nil {
			t.Errorf("Dial(%q, %q): %v", tc.network, tc.address, err)
			continue
		}
		if got := c.RemoteAddr().String(); got != tc.peer {
			t.Errorf("Dial(%q, %q) is connected to %s, want %s", tc.network, tc.address, got, tc.peer)
		}
		c.Close()
	}
	// Of a name's addresses, listeners and Resolve take an IPv4 one.
	n.ns.v4, n.ns.v6 = netip.MustParseAddr(addrA), netip.MustParseAddr(globalA6)
	for _, tc := range []struct{ network, address, want string }{
		{"tcp", "both.test:81", addrA + ":81"},
		{"tcp6", "both.test:82", "[" + globalA6 + "]:82"},
		{"udp", "both.test:83", addrA + ":83"},
		{"udp", "six.test:84", "[" + globalA6 + "]:84"},
	} {
		var at, resolved net.Addr
		var err, rerr error
		if tc.network[0] == 't' {
			var l net.Listener
			if l, err = n.a.Listen(tc.network, tc.address); err == nil {
				at = l.Addr()
				l.Close()
			}
			resolved, rerr = n.a.ResolveTCPAddr(tc.network, tc.address)
		} else {
			var c net.PacketConn
			if c, err = n.a.ListenPacket(tc.network, tc.address); err == nil {
				at = c.LocalAddr()
				c.Close()
			}
			resolved, rerr = n.a.ResolveUDPAddr(tc.network, tc.address)
		}
		if err != nil || at.String() != tc.want {
			t.Errorf("listen on %q, %q: %v, %v, want %s", tc.network, tc.address, at, err, tc.want)
		}
		if rerr != nil || resolved.String() != tc.want {
			t.Errorf("resolve %q, %q: %v, %v, want %s", tc.network, tc.address, resolved, rerr, tc.want)
		}
	}
	if a, err := n.a.ResolveTCPAddr("", "[both.test]:80"); err != nil || a.String() != "["+globalA6+"]:80" {
		t.Errorf("resolve in brackets: %v, %v, want IPv6", a, err)
	}
	if txt, err := n.a.Resolver().LookupTXT(t.Context(), "four.test."); err != nil || !slices.Equal(txt, []string{"v=1"}) {
		t.Errorf("LookupTXT: %q, %v", txt, err)
	}
}

// TestTruncated looks up what does not fit in a datagram.
func TestTruncated(t *testing.T) {
	n := newNamed(t)
	all, err := n.a.Resolver().LookupHost(t.Context(), "many.test.")
	if err != nil || len(all) != many {
		t.Errorf("%d addresses, %v, want %d", len(all), err, many)
	}
	if udp, tcp := n.ns.count("udp", "many.test", "TypeA"), n.ns.count("tcp", "many.test", "TypeA"); udp != 1 || tcp != 1 {
		t.Errorf("%d queries by UDP and %d by TCP, want one each", udp, tcp)
	}
}

// TestNameErrors compares the errors of names with those of package net.
func TestNameErrors(t *testing.T) {
	n := newNamed(t)
	theirs := net.Dialer{Resolver: newNameserver("127.0.0.1", "::1").inKernel(t)}
	for _, tc := range []struct {
		network, address string
		timeout          time.Duration // below 0: canceled before
	}{
		{"tcp", "nobody.test.:1", 0},
		{"udp", "nobody.test.:1", 0},
		{"tcp4", "six.test.:1", 0},
		{"udp6", "four.test.:1", 0},
		{"tcp", "busy.test.:1", 0},
		{"tcp", "silent.test.:1", 50 * time.Millisecond},
		{"tcp", "silent.test.:1", -1},
		{"udp", "silent.test.:1", -1},
		{"tcp", "both.test.:no-such-service", 0},
		{"tcp", "both.test.:65536", 0},
		{"tcp", "a b:1", 0},
		{"tcp", "both..test:1", 0},
		{"tcp", strings.Repeat("a", 64) + ".test.:1", 0},
		{"tcp", "x.onion:1", 0},
	} {
		dial := func(f func(context.Context, string, string) (net.Conn, error)) error {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			switch {
			case tc.timeout < 0:
				cancel()
			case tc.timeout > 0:
				ctx, cancel = context.WithTimeout(ctx, tc.timeout)
				defer cancel()
			}
			c, err := f(ctx, tc.network, tc.address)
			if err == nil {
				c.Close()
			}
			return err
		}
		o, th := dial(n.a.DialContext), dial(theirs.DialContext)
		var ours, want *net.DNSError
		if !errors.As(o, &ours) || !errors.As(th, &want) {
			if (ours == nil) != (want == nil) || describe(o) != describe(th) {
				t.Errorf("%s %q:\n     %s\nnet: %s", tc.network, tc.address, describe(o), describe(th))
			}
			continue
		}
		if want.Server != "" && ours.Server != addrB+":53" {
			t.Errorf("%s %q: %v: the server is %q", tc.network, tc.address, o, ours.Server)
		}
		ours.Server, want.Server = "", ""
		if describe(o) != describe(th) {
			t.Errorf("%s %q:\n     %s\nnet: %s", tc.network, tc.address, describe(o), describe(th))
		}
	}
}

// TestNameserverFails has nameservers of which only one is of use.
func TestNameserverFails(t *testing.T) {
	for _, how := range []string{"refuses", "is busy", "cannot be reached"} {
		t.Run(how, func(t *testing.T) {
			a := testConfig(addrA, addrA6)
			bad := netip.MustParseAddrPort(addrB + ":5353")
			if how == "cannot be reached" {
				bad = netip.MustParseAddrPort("192.0.2.1:53")
			}
			a.Nameservers = []netip.AddrPort{bad, netip.MustParseAddrPort("[" + addrB6 + "]:53")}
			p := newPairWith(t, pairOptions{a: a, b: testConfig(addrB, addrB6), verified: true})
			newNameserver(addrB, addrB6).on(t, p.b, "["+addrB6+"]:53")
			if how == "is busy" {
				busy, err := p.b.ListenPacket("udp", bad.String())
				if err != nil {
					t.Fatal(err)
				}
				defer busy.Close()
				go refuseAll(busy)
			}
			for range 3 {
				got, err := p.a.Resolver().LookupNetIP(t.Context(), "ip4", "four.test.")
				if err != nil || !slices.Equal(got, []netip.Addr{netip.MustParseAddr(addrB)}) {
					t.Fatalf("%v, %v", got, err)
				}
			}
			if turn := p.a.resolver.turn.Load(); turn != 1 {
				t.Errorf("nameservers were given up %d times, want once", turn)
			}
		})
	}
}

// TestNameserverFailsByTCP has a nameserver whose answers do not fit in a datagram, and
// which is of no use by TCP. The next one is asked.
func TestNameserverFailsByTCP(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(query []byte) []byte // the length in front of both
	}{
		{"hangs up", func([]byte) []byte { return nil }},
		{"hangs up half-way", func(q []byte) []byte { return q[:len(q)-1] }},
		{"is busy", func(q []byte) []byte {
			q[2+2], q[2+3] = 0x80, 2 // an answer; the code
			return q
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := testConfig(addrA, addrA6)
			bad := netip.MustParseAddrPort(addrB + ":5353")
			a.Nameservers = []netip.AddrPort{bad, netip.MustParseAddrPort("[" + addrB6 + "]:53")}
			p := newPairWith(t, pairOptions{a: a, b: testConfig(addrB, addrB6), verified: true})
			newNameserver(addrB, addrB6).on(t, p.b, "["+addrB6+"]:53")
			u, err := p.b.ListenPacket("udp", bad.String())
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			go answerAll(u, 0x82, 0) // it is cut
			l, err := p.b.Listen("tcp", bad.String())
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					q := make([]byte, 2048)
					if n, err := c.Read(q); err == nil {
						c.Write(tc.answer(q[:n])) //nolint:errcheck // the query tells
					}
					c.Close()
				}
			}()
			for range 3 {
				got, err := p.a.Resolver().LookupNetIP(t.Context(), "ip4", "four.test.")
				if err != nil || !slices.Equal(got, []netip.Addr{netip.MustParseAddr(addrB)}) {
					t.Fatalf("%v, %v", got, err)
				}
			}
			if turn := p.a.resolver.turn.Load(); turn != 1 {
				t.Errorf("nameservers were given up %d times, want once", turn)
			}
		})
	}
}

// TestNameserverOnLink has a nameserver at an address of the link, without its zone.
func TestNameserverOnLink(t *testing.T) {
	a := testConfig(addrA, "fe80::1")
	a.Interface = "eth0"
	a.Nameservers = []netip.AddrPort{netip.MustParseAddrPort("[fe80::2]:0")}
	p := newPairWith(t, pairOptions{a: a, b: testConfig(addrB, "fe80::2")})
	newNameserver(addrB, addrB6).on(t, p.b, "[fe80::2]:53")
	got, err := p.a.Resolver().LookupNetIP(t.Context(), "ip4", "four.test.")
	if err != nil || !slices.Equal(got, []netip.Addr{netip.MustParseAddr(addrB)}) {
		t.Errorf("%v, %v", got, err)
	}
}

// refuseAll answers every query with SERVFAIL.
func refuseAll(p net.PacketConn) { answerAll(p, 0x80, 2) }

// answerAll answers every query with the same flags.
func answerAll(p net.PacketConn, first, second byte) {
	b := make([]byte, 2048)
	for {
		n, from, err := p.ReadFrom(b)
		if err != nil {
			return
		}
		b[2], b[3] = first, second // an answer; the code
		p.WriteTo(b[:n], from)
	}
}

// TestLoopbackNameserver has a resolv.conf with a nameserver out of reach.
func TestLoopbackNameserver(t *testing.T) {
	p := newPair(t)
	for _, address := range []string{"127.0.0.53:53", "[::1]:53"} {
		_, err := p.a.Resolver().Dial(t.Context(), "udp", address)
		if err == nil || !strings.Contains(err.Error(), "Config.Nameservers") {
			t.Errorf("%s: %v, want the remedy", address, err)
		}
	}
}

// TestLookupCanceled cancels dials that wait for a nameserver. No socket may be
// left waiting.
func TestLookupCanceled(t *testing.T) {
	n := newNamed(t)
	for _, d := range []Dialer{{Stack: n.a}, {Stack: n.a, Cancel: make(chan struct{})}} {
		ctx, cancel := context.WithCancel(t.Context())
		dialed := make(chan error, 1)
		go func() { _, err := d.DialContext(ctx, "tcp", "silent.test.:1"); dialed <- err }()
		n.ns.wait(t, "silent.test")
		cancel()
		within(t, "dial", func() {
			err := <-dialed
			wantOp(t, err, "dial", context.Canceled)
			var dns *net.DNSError
			if !errors.As(err, &dns) || dns.Err != "operation was canceled" || dns.Name != "silent.test." {
				t.Errorf("%v: want a *net.DNSError", err)
			}
		})
		noSockets(t, n.a)
	}
	canceled := make(chan struct{})
	dialed := make(chan error, 1)
	go func() {
		_, err := (&Dialer{Stack: n.a, Cancel: canceled}).Dial("tcp", "silent.test.:1")
		dialed <- err
	}()
	n.ns.wait(t, "silent.test")
	close(canceled)
	within(t, "dial", func() { wantOp(t, <-dialed, "dial", context.Canceled) })
}

// noSockets fails unless all sockets of a stack are closed soon.
func noSockets(t testing.TB, s *Stack) {
	t.Helper()
	for end := time.Now().Add(4 * time.Second); ; runtime.Gosched() { // a query waits for 5
		s.mu.Lock()
		first := s.first
		s.mu.Unlock()
		if first == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("a socket is left: %v to %v", first.laddr, first.raddr)
		}
	}
}

// TestLookupOfGoneStack ends the stack, or its device, under a look-up.
func TestLookupOfGoneStack(t *testing.T) {
	cause := errors.New("unplugged")
	for want, end := range map[error]func(s *Stack){
		net.ErrClosed:    func(s *Stack) { s.Close() },
		syscall.ENETDOWN: func(s *Stack) { s.linkDown(cause) },
	} {
		n := newNamed(t)
		dialed := make(chan error, 1)
		go func() { _, err := n.a.Dial("tcp", "silent.test.:1"); dialed <- err }()
		n.ns.wait(t, "silent.test")
		end(n.a)
		within(t, "dial", func() { wantOp(t, <-dialed, "dial", want) })
		_, err := n.a.Dial("tcp", "both.test.:1")
		wantOp(t, err, "dial", want)
		_, err = n.a.Listen("tcp", "both.test.:1")
		wantOp(t, err, "listen", want)
	}
}
