package stack

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// TestNewProbing also wants what comes before a value that is out of bounds.
func TestNewProbing(t *testing.T) {
	most := 40000 * time.Second
	for _, c := range []struct {
		config net.KeepAliveConfig
		want   string // enabled, idle and interval in seconds, count
		fails  bool
	}{
		{net.KeepAliveConfig{}, "false 15 15 9", false},
		{net.KeepAliveConfig{Enable: true}, "true 15 15 9", false},
		{net.KeepAliveConfig{Idle: 1500 * time.Millisecond, Interval: 3 * time.Second, Count: 4}, "false 2 3 4", false},
		{net.KeepAliveConfig{Idle: -1, Interval: -1, Count: -1}, "false 0 0 0", false},
		{net.KeepAliveConfig{Idle: most, Interval: 3 * time.Second, Count: 4}, "false 0 0 0", true},
		{net.KeepAliveConfig{Idle: 2 * time.Second, Interval: most, Count: 4}, "false 2 0 0", true},
		{net.KeepAliveConfig{Idle: 2 * time.Second, Interval: 3 * time.Second, Count: 128}, "false 2 3 0", true},
	} {
		p, terr := newProbing(c.config)
		got := fmt.Sprint(p.enable, time.Duration(p.idle).Seconds(), time.Duration(p.interval).Seconds(), p.count)
		if got != c.want || (terr != nil) != c.fails {
			t.Errorf("%+v: %s, %v; want %s", c.config, got, terr, c.want)
		}
	}
}

// TestNewConnections looks at what connections begin with: their endpoints are set
// up in few steps, which must leave none of the options out.
func TestNewConnections(t *testing.T) {
	p := newPair(t)
	for _, want := range []net.KeepAliveConfig{
		{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 9},
		{Enable: true, Idle: 7 * time.Second, Interval: 8 * time.Second, Count: 3},
		{},
	} {
		keep := time.Duration(0)
		if !want.Enable {
			keep = -1
		}
		lc := ListenConfig{Stack: p.b, KeepAlive: keep, KeepAliveConfig: want}
		l, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort(addrB, "0"))
		if err != nil {
			t.Fatal(err)
		}
		d := Dialer{Stack: p.a, KeepAlive: keep, KeepAliveConfig: want}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []net.Conn{c, s} {
			ep := c.(*TCPConn).ep
			var timeout tcpip.TCPUserTimeoutOption
			var idle tcpip.KeepaliveIdleOption
			var interval tcpip.KeepaliveIntervalOption
			ep.GetSockOpt(&timeout)
			ep.GetSockOpt(&idle)
			ep.GetSockOpt(&interval)
			count, _ := ep.GetSockOptInt(tcpip.KeepaliveCountOption)
			got := net.KeepAliveConfig{Enable: ep.SocketOptions().GetKeepAlive(), Idle: time.Duration(idle), Interval: time.Duration(interval), Count: count}
			if got.Enable != want.Enable || want.Enable && got != want || timeout != 0 {
				t.Errorf("%+v, user timeout %v; want %+v and none", got, time.Duration(timeout), want)
			}
		}
		c.Close()
		s.Close()
		l.Close()
	}
}

// TestEstablishedAllocs counts what a connection of a listener costs beside its
// endpoint and itself: its addresses.
func TestEstablishedAllocs(t *testing.T) {
	p := newPair(t)
	c, _ := p.connect(t, "tcp", addrB)
	probing, _ := newProbing(net.KeepAliveConfig{Enable: true, Count: 4})
	local, remote := netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("[2001:db8::1]:4000")
	if got := testing.AllocsPerRun(1000, func() { c.established(local, remote, probing) }); got > 1 && !raceEnabled {
		t.Errorf("%v allocations, want 1", got)
	}
}

func TestTCPAddrs(t *testing.T) {
	all := []netip.AddrPort{
		{},
		netip.MustParseAddrPort("192.0.2.1:80"),
		netip.MustParseAddrPort("0.0.0.0:0"),
		netip.MustParseAddrPort("[2001:db8::1]:65535"),
		netip.MustParseAddrPort("[::ffff:192.0.2.1]:1"),
		netip.MustParseAddrPort("[fe80::1%eth0]:2"),
	}
	for _, a := range all {
		for _, b := range all {
			l, r := tcpAddrs(a, b)
			if want := net.TCPAddrFromAddrPort(a); !reflect.DeepEqual(l, want) {
				t.Errorf("%v: %#v, want %#v", a, l, want)
			}
			_ = append(l.IP, 0xff, 0xff)
			if want := net.TCPAddrFromAddrPort(b); !reflect.DeepEqual(r, want) {
				t.Errorf("%v: %#v, want %#v", b, r, want)
			}
		}
	}
}

// TestForeign4 asks a stack's interfaces for addresses, as netstack does for each
// route, with the short answer and without.
func TestForeign4(t *testing.T) {
	p := newPairWith(t, pairOptions{verified: true, a: testConfig("10.1.0.1", "10.2.0.1", addrA6), b: testConfig(addrB)})
	has := func(nic tcpip.NICID, a string) bool {
		ep, terr := p.a.ns.GetNetworkEndpoint(nic, familyOf(netip.MustParseAddr(a)))
		if terr != nil {
			t.Fatal(terr)
		}
		got := ep.(gstack.AddressableEndpoint).AcquireAssignedAddress(tcpipAddr(netip.MustParseAddr(a)), false, gstack.NeverPrimaryEndpoint, true)
		return got != nil
	}
	addrs := []string{
		"10.1.0.1", "10.1.0.2", "10.1.0.0", "10.1.0.255", "10.2.0.1", "10.2.0.2", "10.2.0.255", "10.3.0.1",
		"127.0.0.1", "127.9.9.9", "0.0.0.0", "224.0.0.1", "255.255.255.255", addrA6, "fd00::9999",
	}
	answers := func() (all []string) {
		for _, nic := range []tcpip.NICID{nicID, loopbackID} {
			for _, a := range addrs {
				all = append(all, fmt.Sprint(nic, a, has(nic, a)))
			}
		}
		return all
	}
	if !p.a.fast.off.Load() != p.a.fast.foreign4(tcpip.AddrFrom4([4]byte{10, 3, 0, 1})) {
		t.Error("10.3.0.1 is not known to be foreign")
	}
	short := answers()
	if p.a.Netstack(); p.a.fast.foreign4(tcpip.AddrFrom4([4]byte{10, 3, 0, 1})) {
		t.Error("an address is foreign for good, though one may be added now")
	}
	if long := answers(); !reflect.DeepEqual(short, long) {
		t.Errorf("short: %v\nlong:  %v", short, long)
	}
}
