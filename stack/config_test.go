package stack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

func TestConfigErrors(t *testing.T) {
	good := func() Config {
		return Config{Interface: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}
	}
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	nameservers := func(all ...string) (parsed []netip.AddrPort) {
		for _, a := range all {
			parsed = append(parsed, netip.MustParseAddrPort(a))
		}
		return parsed
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, tc := range []struct {
		change func(*Config)
		want   string // "" is no error
	}{
		{func(c *Config) {}, ""},
		{func(c *Config) { c.Interface = "" }, ""},
		{func(c *Config) { c.Interface = "a-name-of-16-byt" }, "stack: Config.Interface: \"a-name-of-16-byt\": longer than 15 bytes"},
		{func(c *Config) { c.Addresses = nil }, "stack: Config.Addresses: empty"},
		{func(c *Config) { c.Addresses = append(c.Addresses, prefix("224.0.0.1/24")) }, "stack: Config.Addresses[1]: 224.0.0.1/24: multicast"},
		{func(c *Config) { c.Addresses[0] = prefix("10.0.0.0/24") }, "network address"},
		{func(c *Config) { c.Addresses[0] = prefix("10.0.0.255/24") }, "broadcast address"},
		{func(c *Config) { c.Addresses[0] = prefix("10.0.0.0/31") }, ""},
		{func(c *Config) { c.Addresses[0] = prefix("10.0.0.7/32") }, ""},
		{func(c *Config) { c.Addresses[0] = prefix("10.0.0.7/0") }, "prefix length is 0"},
		{func(c *Config) { c.Addresses[0] = prefix("127.0.0.1/8") }, "loopback"},
		{func(c *Config) { c.Addresses[0] = prefix("0.0.0.0/8") }, "unspecified"},
		{func(c *Config) { c.Addresses[0] = prefix("255.255.255.255/8") }, "broadcast"},
		{func(c *Config) { c.Addresses[0] = prefix("::ffff:10.0.0.1/120") }, "IPv4-mapped"},
		{func(c *Config) { c.Addresses[0] = netip.Prefix{} }, "not a prefix"},
		{func(c *Config) { c.Addresses = append(c.Addresses, prefix("10.0.0.1/8")) }, "there twice"},
		{func(c *Config) { c.Gateways = []netip.Addr{addr("10.0.0.254")} }, ""},
		{func(c *Config) { c.Gateways = []netip.Addr{addr("fe80::1%eth0")} }, ""},
		{func(c *Config) { c.Gateways = []netip.Addr{addr("fe80::1%eth1")} }, "its zone"},
		{func(c *Config) { c.Gateways = []netip.Addr{addr("10.0.1.254")} }, "stack: Config.Gateways[0]: 10.0.1.254: not on the link"},
		{func(c *Config) { c.Gateways = []netip.Addr{addr("10.0.0.1")} }, "stack itself"},
		{func(c *Config) { c.Gateways = []netip.Addr{addr("10.0.0.2"), addr("10.0.0.3")} }, "second gateway"},
		{func(c *Config) {
			c.Routes = []Route{{Destination: prefix("10.0.1.254/32")}}
			c.Gateways = []netip.Addr{addr("10.0.1.254")}
		}, ""},
		{func(c *Config) { c.Routes = []Route{{}} }, "stack: Config.Routes[0]"},
		{func(c *Config) { c.Routes = []Route{{Destination: prefix("10.9.0.1/16")}} }, "host bits"},
		{func(c *Config) { c.Routes = []Route{{prefix("fd00::/64"), addr("10.0.0.2")}} }, "not of one family"},
		{func(c *Config) { c.Routes = []Route{{prefix("10.9.0.0/16"), addr("10.0.0.2")}} }, ""},
		{func(c *Config) { c.Gateways = []netip.Addr{addr("10.0.0.255")} }, "stack: Config.Gateways[0]: 10.0.0.255: broadcast address"},
		{func(c *Config) {
			c.Addresses[0], c.Gateways = prefix("10.0.0.6/31"), []netip.Addr{addr("10.0.0.7")}
		}, ""},
		{func(c *Config) { c.Routes = []Route{{prefix("0.0.0.0/0"), addr("10.0.0.2")}} }, ""},
		{func(c *Config) {
			c.Routes = []Route{{prefix("10.9.0.0/16"), addr("10.0.0.2")}, {prefix("10.9.0.0/16"), addr("10.0.0.3")}}
		}, "stack: Config.Routes[1]: 10.9.0.0/16 via 10.0.0.3: the destination is there twice"},
		{func(c *Config) {
			c.Routes = []Route{{prefix("0.0.0.0/0"), addr("10.0.0.2")}}
			c.Gateways = []netip.Addr{addr("10.0.0.3")}
		}, "a default route beside the one of Gateways"},
		{func(c *Config) {
			c.Routes = []Route{{prefix("0.0.0.0/0"), addr("10.0.0.2")}}
			c.Gateways = []netip.Addr{addr("fe80::1")}
		}, ""},
		{func(c *Config) { c.Neighbors = []Neighbor{{addr("10.0.0.2"), mac}} }, ""},
		{func(c *Config) { c.Neighbors = []Neighbor{{addr("10.0.0.2"), mac}, {addr("10.0.0.2"), mac}} }, "stack: Config.Neighbors[1].Addr: 10.0.0.2: the address is there twice"},
		{func(c *Config) { c.Neighbors = []Neighbor{{addr("fe80::2%eth0"), mac}} }, ""},
		{func(c *Config) { c.Neighbors = []Neighbor{{addr("fe80::2%eth1"), mac}} }, "its zone"},
		{func(c *Config) { c.Neighbors = []Neighbor{{addr("10.0.0.2"), mac[:5]}} }, "stack: Config.Neighbors[0].HardwareAddr"},
		{func(c *Config) { c.Neighbors = []Neighbor{{netip.Addr{}, mac}} }, "stack: Config.Neighbors[0].Addr"},
		{func(c *Config) { c.Nameservers = nameservers("10.0.0.2:53", "[fe80::1%eth0]:0") }, ""},
		{func(c *Config) { c.Nameservers = nameservers("10.0.0.2:53", "127.0.0.53:53") }, "stack: Config.Nameservers[1]: 127.0.0.53:53: loopback address"},
		{func(c *Config) { c.Nameservers = nameservers("[fe80::1%eth1]:53") }, "its zone"},
		{func(c *Config) { c.Nameservers = make([]netip.AddrPort, 1) }, "not an address"},
		{func(c *Config) { c.Nameservers = slices.Repeat(nameservers("10.0.0.2:53"), 17) }, "stack: Config.Nameservers: 17 of them: at most 16"},
		{func(c *Config) { c.Profile = 7 }, "stack: Config.Profile: Profile(7)"},
	} {
		c := good()
		tc.change(&c)
		err := c.validate()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%+v: %v", c, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%+v: %v, want %q", c, err, tc.want)
		}
	}
}

// TestConfigMTU refuses addresses of IPv6 on a link that has no IPv6.
func TestConfigMTU(t *testing.T) {
	both, four := testConfig(addrA, addrA6), testConfig(addrA)
	if err := errors.Join(both.checkMTU("eth0", 1280), four.checkMTU("eth0", 576)); err != nil {
		t.Error(err)
	}
	w, err := wire.New(wire.Config{Ports: [2]wire.PortConfig{{MTU: 1279}}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: 64, OnHeap: true})
	if err != nil {
		t.Fatal(err)
	}
	defer region.Close()
	p := w.Port(0)
	sock, err := p.Open(0, region, xsk.RingSizes{Fill: 16, Completion: 16, RX: 16, TX: 16})
	if err != nil {
		t.Fatal(err)
	}
	d, err := netdev.NewOn([]*xsk.Socket{sock}, netdev.Link{Name: p.Name(), MAC: p.MAC(), MTU: p.MTU()}, netdev.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenOn(both, d)
	if err == nil {
		s.Close()
	}
	says := fmt.Sprintf("IPv6 needs an MTU of 1280, %s has 1279 (ip link set %[1]s mtu 1280)", p.Name())
	if err == nil || !strings.Contains(err.Error(), "stack: Config.Addresses[1]") || !strings.Contains(err.Error(), says) {
		t.Errorf("%v does not name the address and say %q", err, says)
	}
}

func TestProfiles(t *testing.T) {
	for profile, want := range map[Profile]struct {
		rto time.Duration
		cc  tcpip.CongestionControlOption
	}{ProfileWAN: {200 * time.Millisecond, "cubic"}, ProfileLAN: {50 * time.Millisecond, "reno"}} {
		cfg := testConfig(addrA)
		cfg.Profile = profile
		p := newPairWith(t, pairOptions{a: cfg, b: testConfig(addrB)})
		var rto tcpip.TCPMinRTOOption
		var cc tcpip.CongestionControlOption
		var rec tcpip.TCPRecovery
		for _, o := range []tcpip.GettableTransportProtocolOption{&rto, &cc, &rec} {
			if terr := p.a.ns.TransportProtocolOption(tcp.ProtocolNumber, o); terr != nil {
				t.Fatal(terr)
			}
		}
		if time.Duration(rto) != want.rto || cc != want.cc || rec != 0 {
			t.Errorf("%v: minimum RTO %v, %q, recovery %v", profile, time.Duration(rto), cc, rec)
		}
	}
}

// TestRandom checks that two stacks do not choose the same ports.
func TestRandom(t *testing.T) {
	same := true
	p, q := newPair(t), newPair(t)
	for range 4 {
		u, v := listenUDP(t, p.a, "udp", ":0"), listenUDP(t, q.a, "udp", ":0")
		same = same && portOf(u.LocalAddr()) == portOf(v.LocalAddr())
	}
	if same {
		t.Error("ephemeral ports are not random")
	}
}
