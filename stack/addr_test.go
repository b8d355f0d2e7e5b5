package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// TestAddressErrors gives the same bad addresses to package net, and compares.
func TestAddressErrors(t *testing.T) {
	p := newPair(t)
	type call struct {
		name         string
		ours, theirs func(network, address string) error
	}
	calls := []call{
		{"dial", func(n, a string) error { _, err := p.a.Dial(n, a); return err },
			func(n, a string) error { _, err := net.Dial(n, a); return err }},
		{"listen", func(n, a string) error { _, err := p.a.Listen(n, a); return err },
			func(n, a string) error { _, err := net.Listen(n, a); return err }},
		{"listen packet", func(n, a string) error { _, err := p.a.ListenPacket(n, a); return err },
			func(n, a string) error { _, err := net.ListenPacket(n, a); return err }},
	}
	for _, tc := range []struct{ network, address string }{
		{"carrier-pigeon", "10.0.0.2:1"},
		{"tcp", "10.0.0.2"},
		{"tcp", "10.0.0.2:99999"},
		{"tcp", "10.0.0.2:-1"},
		{"udp", "10.0.0.2:99999"},
		{"tcp", "[::1"},
		{"tcp", "::1:80"},
		{"tcp4", "[fd00::2]:80"},
		{"tcp6", "10.0.0.2:80"},
		{"tcp6", "[::ffff:10.0.0.2]:80"},
		{"udp4", "[fd00::2]:80"},
		{"udp6", "10.0.0.2:80"},
	} {
		for _, c := range calls {
			ours, theirs := c.ours(tc.network, tc.address), c.theirs(tc.network, tc.address)
			if ours == nil || theirs == nil {
				t.Errorf("%s %q %q: %v; package net has %v", c.name, tc.network, tc.address, ours, theirs)
				continue
			}
			if ours.Error() != theirs.Error() {
				t.Errorf("%s %q %q: %v; package net has %v", c.name, tc.network, tc.address, ours, theirs)
			}
			a, b := errors.Unwrap(ours), errors.Unwrap(theirs)
			if at, bt := fmt.Sprintf("%T", a), fmt.Sprintf("%T", b); at != bt {
				t.Errorf("%s %q %q: a %s inside; package net has a %s", c.name, tc.network, tc.address, at, bt)
			}
		}
	}
	_, err := p.a.Dial("tcp", "")
	if oe := wantOp(t, err, "dial", errMissingAddress); oe.Err.Error() != "missing address" {
		t.Errorf("%v", err)
	}
}

func TestDialErrors(t *testing.T) {
	p := newPair(t)
	for _, tc := range []struct {
		network, address string
		want             error
	}{
		{"tcp", "10.0.0.2:9", syscall.ECONNREFUSED},
		{"tcp", "[fd00::2]:9", syscall.ECONNREFUSED},
		{"tcp", "192.0.2.1:9", syscall.ENETUNREACH},
		{"udp", "192.0.2.1:9", syscall.ENETUNREACH},
		{"tcp", "[2001:db8::1]:9", syscall.ENETUNREACH},
		{"tcp", "127.0.0.1:9", syscall.ECONNREFUSED},
		{"tcp", "[::1]:9", syscall.ECONNREFUSED},
		{"tcp", "localhost:9", syscall.ECONNREFUSED},
		{"tcp", ":9", syscall.ECONNREFUSED},
		{"tcp", "[fe80::1%other]:9", syscall.EINVAL},
		{"tcp", "[fe80::1%77]:9", syscall.ENETUNREACH},
	} {
		_, err := p.a.Dial(tc.network, tc.address)
		if !errors.Is(err, tc.want) {
			t.Errorf("Dial(%q, %q): %v, want %v", tc.network, tc.address, err, tc.want)
		}
	}
	_, err := p.a.Listen("tcp", "10.0.0.9:9")
	wantOp(t, err, "listen", syscall.EADDRNOTAVAIL)
	_, err = p.a.Listen("tcp", "[fe80::1%77]:9")
	wantOp(t, err, "listen", syscall.ENODEV)
	_, err = p.a.ListenPacket("udp", "10.0.0.9:9")
	wantOp(t, err, "listen", syscall.EADDRNOTAVAIL)
	_, err = p.a.DialTCP(context.Background(), "tcp", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9)}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 9})
	wantOp(t, err, "dial", syscall.EADDRNOTAVAIL)
	_, err = p.a.DialTCP(context.Background(), "tcp", nil, nil)
	wantOp(t, err, "dial", errMissingAddress)
	_, err = p.a.DialUDP("tcp", nil, nil)
	wantOp(t, err, "dial", net.UnknownNetworkError("tcp"))
}

// TestDialBroadcast dials addresses of many hosts, at once: there are no connections
// with those.
func TestDialBroadcast(t *testing.T) {
	p := newPair(t)
	for _, host := range []string{"10.0.0.255", "255.255.255.255", "127.255.255.255", "[::ffff:10.0.0.255]"} {
		_, err := p.a.DialTimeout("tcp", host+":80", time.Minute)
		if oe := wantOp(t, err, "dial", syscall.ENETUNREACH); oe.Err.Error() != "connect: network is unreachable" {
			t.Errorf("%v: want the error of connect", err)
		}
	}
}

func TestDialFrom(t *testing.T) {
	p := newPair(t)
	l, err := p.b.ListenTCP("tcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(dialable(l.Addr())))
	for _, from := range []*net.TCPAddr{
		{IP: net.IPv4(10, 0, 0, 1), Port: 5001},
		{Port: 5002},
	} {
		c, err := p.a.DialTCP(context.Background(), "tcp", from, to)
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%s:%d", addrA, from.Port)
		if c.LocalAddr().String() != want || s.RemoteAddr().String() != want {
			t.Errorf("from %v: local %v, peer sees %v", from, c.LocalAddr(), s.RemoteAddr())
		}
		_, err = p.a.DialTCP(context.Background(), "tcp", from, to)
		wantOp(t, err, "dial", syscall.EADDRINUSE)
		c.Close()
		s.Close()
	}
}

// TestOwnAddress connects a stack to itself.
func TestOwnAddress(t *testing.T) {
	for _, gso := range []bool{false, true} {
		p := newPairWith(t, pairOptions{gso: gso, verified: gso, a: testConfig(addrA, addrA6), b: testConfig(addrB)})
		l, err := p.a.Listen("tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"", "localhost", addrA, "[" + addrA6 + "]", "0.0.0.0", "[::]"} {
			c, err := p.a.Dial("tcp", host+":80")
			if err != nil {
				t.Fatalf("Dial(%q): %v", host+":80", err)
			}
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			data := make([]byte, 100<<10)
			go s.Write(data)
			within(t, "read", func() {
				if n, err := readFull(c, data); n != len(data) || err != nil {
					t.Errorf("read %d, %v", n, err)
				}
			})
			c.Close()
			s.Close()
		}
		l.Close()
	}
}

func readFull(c net.Conn, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = c.Read(b[n:])
		n += m
	}
	return n, err
}

// TestListenFamilies checks who can connect to what, and the address shown.
func TestListenFamilies(t *testing.T) {
	p := newPair(t)
	for i, tc := range []struct {
		network, host string
		addr          string
		v4, v6        bool
	}{
		{"tcp", "", "::", true, true},
		{"tcp", "0.0.0.0", "::", true, true}, // as package net
		{"tcp", "::", "::", true, true},
		{"tcp4", "", "0.0.0.0", true, false},
		{"tcp6", "", "::", false, true},
		{"tcp", addrB, addrB, true, false},
		{"tcp", addrB6, addrB6, false, true},
		{"tcp", "localhost", "127.0.0.1", false, false},
	} {
		port := fmt.Sprint(7000 + i)
		l, err := p.b.Listen(tc.network, net.JoinHostPort(tc.host, port))
		if err != nil {
			t.Errorf("Listen(%q, %q): %v", tc.network, tc.host, err)
			continue
		}
		if got := l.Addr().String(); got != net.JoinHostPort(tc.addr, port) {
			t.Errorf("Listen(%q, %q): Addr is %s", tc.network, tc.host, got)
		}
		for host, want := range map[string]bool{addrB: tc.v4, addrB6: tc.v6} {
			c, err := p.a.Dial("tcp", net.JoinHostPort(host, port))
			if !want {
				wantOp(t, err, "dial", syscall.ECONNREFUSED)
				continue
			}
			if err != nil {
				t.Errorf("Listen(%q, %q), Dial(%s): %v", tc.network, tc.host, host, err)
				continue
			}
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if s.LocalAddr().String() != net.JoinHostPort(host, port) || s.RemoteAddr().String() != c.LocalAddr().String() {
				t.Errorf("accepted: %v from %v", s.LocalAddr(), s.RemoteAddr())
			}
			c.Close()
			s.Close()
		}
		l.Close()
	}
}

func TestOneFamily(t *testing.T) {
	p := newPairWith(t, pairOptions{a: testConfig(addrA), b: testConfig(addrB)})
	l, err := p.b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := l.Addr().String(); got != "0.0.0.0:80" {
		t.Errorf("Addr is %s", got)
	}
	p.connectTo(t, l)
	if _, err := p.a.Dial("tcp6", "localhost:80"); err == nil {
		t.Error("tcp6 localhost, without an IPv6 address: no error")
	}
}

func TestAddressInUse(t *testing.T) {
	p := newPair(t)
	for i, tc := range []struct{ network1, host1, network2, host2 string }{
		{"tcp", "", "tcp", ""},
		{"tcp", "", "tcp4", ""},
		{"tcp", "", "tcp6", ""},
		{"tcp4", "", "tcp", ""},
		{"tcp", addrB, "tcp", addrB},
		{"tcp", "", "tcp", addrB},
		{"tcp", addrB, "tcp", ""},
		{"tcp4", "", "tcp", addrB},
	} {
		port := fmt.Sprint(6000 + i)
		l, err := p.b.Listen(tc.network1, net.JoinHostPort(tc.host1, port))
		if err != nil {
			t.Fatal(err)
		}
		l2, err := p.b.Listen(tc.network2, net.JoinHostPort(tc.host2, port))
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s %q, then %s %q: %v, want EADDRINUSE", tc.network1, tc.host1, tc.network2, tc.host2, err)
		}
		if err == nil {
			l2.Close()
		}
		l.Close()
	}
	l4, err := p.b.Listen("tcp4", ":6100")
	if err != nil {
		t.Fatal(err)
	}
	defer l4.Close()
	l6, err := p.b.Listen("tcp6", ":6100")
	if err != nil {
		t.Fatalf("the other family: %v", err)
	}
	l6.Close()
	u, err := p.b.ListenPacket("udp", ":6100")
	if err != nil {
		t.Fatalf("the other protocol: %v", err)
	}
	defer u.Close()
	_, err = p.b.ListenPacket("udp", addrB+":6100")
	wantOp(t, err, "listen", syscall.EADDRINUSE)
}
