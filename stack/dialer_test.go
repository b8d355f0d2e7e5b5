package stack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// unused returns a port that nobody listens on, on the kernel's loopback interface,
// and none that the kernel gives to who wants any, as other processes may.
func unused(t testing.TB) string {
	t.Helper()
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000))); err == nil {
			defer l.Close()
			return portOf(l.Addr())
		}
	}
	t.Fatal(err)
	return ""
}

// needIPv6 skips a test if the kernel's loopback interface has no IPv6 to compare
// with.
func needIPv6(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip(err)
	}
	l.Close()
}

// replaced returns a with a stack's addresses in the place of the kernel's loopback
// ones.
func replaced(a net.Addr) net.Addr {
	ip := func(ip net.IP) net.IP {
		switch {
		case ip.Equal(net.IPv4(127, 0, 0, 1)):
			return net.ParseIP(addrA)
		case ip.Equal(net.IPv6loopback):
			return net.ParseIP(globalA6)
		}
		return ip
	}
	switch a := a.(type) {
	case *net.TCPAddr:
		if a != nil {
			return &net.TCPAddr{IP: ip(a.IP), Port: a.Port}
		}
	case *net.UDPAddr:
		return &net.UDPAddr{IP: ip(a.IP), Port: a.Port}
	}
	return a
}

// TestDialerErrors gives the same dials to net.Dialer, and compares.
func TestDialerErrors(t *testing.T) {
	p := newPairWith(t, pairOptions{a: testConfig(addrA, globalA6), b: testConfig(addrB)})
	needIPv6(t)
	port := unused(t)
	past := time.Now().Add(-time.Hour)
	loop4, loop6 := net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback
	for _, tc := range []struct {
		network, address string // of the kernel's loopback interface
		dialer           net.Dialer
	}{
		{"tcp", "127.0.0.1:" + port, net.Dialer{}},
		{"tcp", "[::1]:" + port, net.Dialer{}},
		{"tcp", ":" + port, net.Dialer{}},
		{"tcp6", ":" + port, net.Dialer{}},
		{"tcp", "0.0.0.0:" + port, net.Dialer{}},
		{"tcp", "[::]:" + port, net.Dialer{}},
		{"tcp6", "[::]:" + port, net.Dialer{}},
		{"tcp4", "[::]:" + port, net.Dialer{}},
		{"tcp4", "[::1]:1", net.Dialer{}},
		{"tcp", "", net.Dialer{}},
		{"no", "", net.Dialer{}},
		{"tcp", "127.0.0.1:1", net.Dialer{Timeout: -1}},
		{"udp", "127.0.0.1:1", net.Dialer{Timeout: -1}},
		{"tcp", "127.0.0.1:1", net.Dialer{Deadline: past}},
		{"tcp", "127.0.0.1:1", net.Dialer{Timeout: time.Hour, Deadline: past}},
		{"udp", "[::1]:1", net.Dialer{Timeout: time.Hour, Deadline: past}},
		{"tcp", "127.0.0.1:1", net.Dialer{Timeout: -1, Deadline: time.Now().Add(time.Hour)}},
		{"tcp", "127.0.0.1:" + port, net.Dialer{LocalAddr: &net.TCPAddr{IP: loop4}}},
		{"tcp", "127.0.0.1:" + port, net.Dialer{LocalAddr: &net.TCPAddr{}}},
		{"tcp", "127.0.0.1:" + port, net.Dialer{LocalAddr: (*net.TCPAddr)(nil)}},
		{"tcp", "127.0.0.1:" + port, net.Dialer{LocalAddr: &net.TCPAddr{IP: loop6}}},
		{"tcp", "127.0.0.1:" + port, net.Dialer{LocalAddr: &net.UDPAddr{}}},
		{"tcp", "127.0.0.1:" + port, net.Dialer{LocalAddr: &net.UnixAddr{Name: "x", Net: "unix"}}},
		{"udp", "127.0.0.1:1", net.Dialer{LocalAddr: &net.TCPAddr{}}},
		{"udp", "[::1]:1", net.Dialer{LocalAddr: &net.UDPAddr{IP: loop4}}},
		{"tcp", "[::1]:" + port, net.Dialer{LocalAddr: &net.TCPAddr{IP: loop4}}},
		{"tcp", "[::1]:" + port, net.Dialer{LocalAddr: &net.TCPAddr{IP: loop6}}},
		{"tcp", "[::]:" + port, net.Dialer{LocalAddr: &net.TCPAddr{IP: loop6}}},
		{"tcp", "[::]:" + port, net.Dialer{LocalAddr: &net.TCPAddr{IP: loop4}}},
		{"tcp", ":" + port, net.Dialer{LocalAddr: &net.TCPAddr{IP: loop4}}},
		{"tcp", ":" + port, net.Dialer{LocalAddr: &net.TCPAddr{IP: loop6}}},
		{"tcp4", ":" + port, net.Dialer{LocalAddr: &net.TCPAddr{IP: loop4}}},
	} {
		d := Dialer{Stack: p.a, Timeout: tc.dialer.Timeout, Deadline: tc.dialer.Deadline, LocalAddr: replaced(tc.dialer.LocalAddr)}
		_, ours := d.Dial(tc.network, toOurs.Replace(tc.address))
		_, theirs := tc.dialer.Dial(tc.network, tc.address)
		if ours == nil || describe(ours) != describe(theirs) {
			t.Errorf("%s %q from %v:\n     %s\nnet: %s", tc.network, tc.address, tc.dialer.LocalAddr, describe(ours), describe(theirs))
		}
	}
}

// TestDialTCPErrors does the same with pairs of addresses.
func TestDialTCPErrors(t *testing.T) {
	p := newPairWith(t, pairOptions{a: testConfig(addrA, globalA6), b: testConfig(addrB)})
	needIPv6(t)
	port := ":" + unused(t)
	for _, tc := range []struct {
		network, from, to string
	}{
		{"tcp", "", "127.0.0.1" + port},
		{"tcp", "127.0.0.1:0", "[::1]" + port},
		{"tcp", "[::1]:0", "127.0.0.1" + port},
		{"tcp", "[::1]:0", "[::1]" + port},
		{"tcp", "0.0.0.0:0", "127.0.0.1" + port},
		{"tcp", "[::1]:0", "0.0.0.0" + port},
		{"tcp4", "", "[::1]" + port},
		{"tcp4", "", "[::]" + port},
		{"tcp4", "[::1]:0", "127.0.0.1" + port},
		{"tcp6", "", "127.0.0.1" + port},
		{"tcp6", "", "0.0.0.0" + port},
		{"tcp6", "127.0.0.1:0", "[::1]" + port},
		{"tcp6", "[::1]:0", "[::1]" + port},
		{"udp", "", "127.0.0.1" + port},
		{"no", "", "127.0.0.1" + port},
	} {
		addrPort := func(s string) netip.AddrPort {
			ap, _ := netip.ParseAddrPort(s)
			return ap
		}
		var theirs net.Dialer
		_, want := theirs.DialTCP(t.Context(), tc.network, addrPort(tc.from), addrPort(tc.to))
		_, got := (&Dialer{Stack: p.a}).DialTCP(t.Context(), tc.network, addrPort(toOurs.Replace(tc.from)), addrPort(toOurs.Replace(tc.to)))
		if got == nil || describe(got) != describe(want) {
			t.Errorf("DialTCP %s %s to %s:\n     %s\nnet: %s", tc.network, tc.from, tc.to, describe(got), describe(want))
		}
		name := "udp" + strings.TrimPrefix(tc.network, "tcp")
		theirUDP, want := theirs.DialUDP(t.Context(), name, addrPort(tc.from), addrPort(tc.to))
		ourUDP, got := (&Dialer{Stack: p.a}).DialUDP(t.Context(), name, addrPort(toOurs.Replace(tc.from)), addrPort(toOurs.Replace(tc.to)))
		if got == nil && want == nil {
			if a, b := theirUDP.RemoteAddr().String(), toKernel.Replace(ourUDP.RemoteAddr().String()); a != b {
				t.Errorf("DialUDP %s %s to %s: connected to %s, with net to %s", name, tc.from, tc.to, b, a)
			}
			ourUDP.Close()
			theirUDP.Close()
		} else if describe(got) != describe(want) {
			t.Errorf("DialUDP %s %s to %s:\n     %s\nnet: %s", name, tc.from, tc.to, describe(got), describe(want))
		}
	} // What package net says depends on who is first, the kernel or the context.
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	to := netip.MustParseAddrPort(addrA + port)
	_, err := (&Dialer{Stack: p.a}).DialTCP(canceled, "tcp", netip.AddrPort{}, to)
	wantOp(t, err, "dial", context.Canceled)
	_, err = (&Dialer{Stack: p.a}).DialUDP(canceled, "udp", netip.AddrPort{}, to)
	wantOp(t, err, "dial", context.Canceled)
}

// TestDialerRefuses uses dialers and listeners that cannot do what they are asked.
func TestDialerRefuses(t *testing.T) {
	p := newPair(t)
	control := func(string, string, syscall.RawConn) error { return nil }
	controlContext := func(context.Context, string, string, syscall.RawConn) error { return nil }
	for _, tc := range []struct {
		d    Dialer
		want string
	}{
		{Dialer{}, "Dialer.Stack"},
		{Dialer{Stack: p.a, Control: control}, "Dialer.Control"},
		{Dialer{Stack: p.a, ControlContext: controlContext}, "Dialer.ControlContext"},
	} {
		to := netip.MustParseAddrPort(addrB + ":1")
		_, err := tc.d.Dial("tcp", to.String())
		_, terr := tc.d.DialTCP(t.Context(), "tcp", netip.AddrPort{}, to)
		_, uerr := tc.d.DialUDP(t.Context(), "udp", netip.AddrPort{}, to)
		for _, err := range []error{err, terr, uerr} {
			oe := wantOp(t, err, "dial", err)
			if !strings.Contains(oe.Err.Error(), tc.want+":") || errors.Is(err, errors.ErrUnsupported) != (tc.d.Stack != nil) {
				t.Errorf("%v: want one that names %s", err, tc.want)
			}
		}
	}
	for _, tc := range []struct {
		lc   ListenConfig
		want string
	}{
		{ListenConfig{}, "ListenConfig.Stack"},
		{ListenConfig{Stack: p.a, Control: control}, "ListenConfig.Control"},
		{ListenConfig{Stack: p.a, Backlog: -1}, "ListenConfig.Backlog"},
		{ListenConfig{Stack: p.a, Backlog: 65536}, "ListenConfig.Backlog"},
	} {
		_, err := tc.lc.Listen(t.Context(), "tcp", ":0")
		_, perr := tc.lc.ListenPacket(t.Context(), "udp", ":0")
		for _, err := range []error{err, perr} {
			oe := wantOp(t, err, "listen", err)
			if !strings.Contains(oe.Err.Error(), tc.want+":") || errors.Is(err, errors.ErrUnsupported) != (tc.lc.Control != nil) {
				t.Errorf("%v: want one that names %s", err, tc.want)
			}
		}
	}
}

func TestMultipathTCP(t *testing.T) {
	var d, lc interface {
		MultipathTCP() bool
		SetMultipathTCP(bool)
	} = &Dialer{}, &ListenConfig{}
	if d.MultipathTCP() != new(net.Dialer).MultipathTCP() || lc.MultipathTCP() != new(net.ListenConfig).MultipathTCP() {
		t.Errorf("by default %t, %t", d.MultipathTCP(), lc.MultipathTCP())
	}
	for _, use := range []bool{true, false} {
		d.SetMultipathTCP(use)
		lc.SetMultipathTCP(use)
		if d.MultipathTCP() != use || lc.MultipathTCP() != use {
			t.Errorf("%t, %t after it was set to %t", d.MultipathTCP(), lc.MultipathTCP(), use)
		}
	}
}

// TestDialTimeout dials who does not answer.
func TestDialTimeout(t *testing.T) {
	p := newPair(t)
	p.wb.loseAll(0)
	_, err := p.a.DialTimeout("tcp", addrB+":1", time.Millisecond)
	wantTimeout(t, err, "dial")
	_, err = (&Dialer{Stack: p.a, Timeout: time.Hour, Deadline: time.Now().Add(time.Millisecond)}).Dial("tcp", addrB+":1")
	wantTimeout(t, err, "dial")
	to := netip.MustParseAddrPort(addrB + ":1")
	_, err = (&Dialer{Stack: p.a, Timeout: time.Millisecond}).DialTCP(t.Context(), "tcp", netip.AddrPort{}, to)
	wantTimeout(t, err, "dial")
	if n := endpoints(p.a); n != 0 {
		t.Errorf("%d endpoints are left", n)
	}
}
