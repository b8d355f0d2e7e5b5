package netdiff

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// opened is what an attempt to make a socket came to.
func (e *env) opened(isNil bool, err error) string {
	if err != nil {
		return fmt.Sprintf("nil=%v, %s", isNil, e.err(err))
	}
	return "a socket"
}

func (e *env) tryDial(network, address string) string {
	ctx, cancel := context.WithDeadline(context.Background(), e.late())
	defer cancel()
	c, err := e.near.Dial(ctx, network, address)
	return e.opened(c == nil, err)
}

func (e *env) tryListen(network, address string) string {
	l, err := e.near.Listen(network, address)
	return e.opened(l == nil, err)
}

func (e *env) tryListenPacket(network, address string) string {
	c, err := e.near.ListenPacket(network, address)
	return e.opened(c == nil, err)
}

// addressBehaviours are about the words that say where to: networks, addresses as
// text, addresses as values.
func addressBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) { all = append(all, behaviour{name: "address/" + name, run: run}) }
	texts := []struct{ name, text string }{
		{"nothing", ""},
		{"no port", "HOST"},
		{"only a colon", ":"},
		{"too many colons", "1:2:3"},
		{"a bracket too few", "[HOST:80"},
		{"a bracket too many", "HOST]:80"},
		{"a bare IPv6 address", "fe80::77"},
		{"port is negative", "HOST:-1"},
		{"port is too large", "HOST:65536"},
		{"port is no number and no service", "HOST:nosuchservice"},
		{"port is a number with a sign", "HOST:+80000"},
	}
	for _, x := range texts {
		address := func(e *env) string { return strings.ReplaceAll(x.text, "HOST", bracket(e.nearHost)) }
		add("Dial TCP/"+x.name, func(e *env) { e.saw("%s", e.tryDial(e.tcp(), address(e))) })
		add("Dial UDP/"+x.name, func(e *env) { e.saw("%s", e.tryDial(e.udp(), address(e))) })
		add("Listen/"+x.name, func(e *env) { e.saw("%s", e.tryListen(e.tcp(), address(e))) })
		add("ListenPacket/"+x.name, func(e *env) { e.saw("%s", e.tryListenPacket(e.udp(), address(e))) })
	}
	for _, network := range []string{"", "tcp5", "udp9", "TCP", "tcp ", "ipx"} {
		at := func(e *env) string { return hostPort(e.nearHost, 0) }
		add(fmt.Sprintf("Dial/network %q", network), func(e *env) { e.saw("%s", e.tryDial(network, hostPort(e.nearHost, 80))) })
		add(fmt.Sprintf("Listen/network %q", network), func(e *env) { e.saw("%s", e.tryListen(network, at(e))) })
		add(fmt.Sprintf("ListenPacket/network %q", network), func(e *env) { e.saw("%s", e.tryListenPacket(network, at(e))) })
	}
	for _, network := range []string{"", "tcp5", "udp9", "tcp", "udp", "ip"} {
		if !strings.HasPrefix(network, "tcp") || network == "tcp5" {
			add(fmt.Sprintf("DialTCP/network %q", network), func(e *env) {
				c, err := e.near.DialTCP(network, nil, e.nearTCP(80))
				e.saw("%s", e.opened(c == nil, err))
			})
			add(fmt.Sprintf("ListenTCP/network %q", network), func(e *env) {
				l, err := e.near.ListenTCP(network, e.nearTCP(0))
				e.saw("%s", e.opened(l == nil, err))
			})
		}
		if !strings.HasPrefix(network, "udp") || network == "udp9" {
			add(fmt.Sprintf("DialUDP/network %q", network), func(e *env) {
				c, err := e.near.DialUDP(network, nil, e.nearUDP(80))
				e.saw("%s", e.opened(c == nil, err))
			})
			add(fmt.Sprintf("ListenUDP/network %q", network), func(e *env) {
				c, err := e.near.ListenUDP(network, e.nearUDP(0))
				e.saw("%s", e.opened(c == nil, err))
			})
		}
	}
	add("Listen/a network of UDP", func(e *env) { e.saw("%s", e.tryListen(e.udp(), hostPort(e.nearHost, 0))) })
	add("ListenPacket/a network of TCP", func(e *env) { e.saw("%s", e.tryListenPacket(e.tcp(), hostPort(e.nearHost, 0))) })

	// A network of the other family than the address.
	add("Dial TCP/other family", func(e *env) { e.saw("%s", e.tryDial("tcp"+e.other(), hostPort(e.nearHost, 80))) })
	add("Dial UDP/other family", func(e *env) { e.saw("%s", e.tryDial("udp"+e.other(), hostPort(e.nearHost, 80))) })
	add("Listen/other family", func(e *env) { e.saw("%s", e.tryListen("tcp"+e.other(), hostPort(e.nearHost, 0))) })
	add("ListenPacket/other family", func(e *env) { e.saw("%s", e.tryListenPacket("udp"+e.other(), hostPort(e.nearHost, 0))) })
	add("DialTCP/other family", func(e *env) {
		c, err := e.near.DialTCP("tcp"+e.other(), nil, e.nearTCP(80))
		e.saw("%s", e.opened(c == nil, err))
	})
	add("DialUDP/other family", func(e *env) {
		c, err := e.near.DialUDP("udp"+e.other(), nil, e.nearUDP(80))
		e.saw("%s", e.opened(c == nil, err))
	})
	add("ListenTCP/other family", func(e *env) {
		l, err := e.near.ListenTCP("tcp"+e.other(), e.nearTCP(0))
		e.saw("%s", e.opened(l == nil, err))
	})
	add("ListenUDP/other family", func(e *env) {
		c, err := e.near.ListenUDP("udp"+e.other(), e.nearUDP(0))
		e.saw("%s", e.opened(c == nil, err))
	})
	add("DialTCP/local address of the other family", func(e *env) {
		c, err := e.near.DialTCP("tcp", &net.TCPAddr{IP: e.strange(e.other()).AsSlice()}, e.farTCP(80))
		e.saw("%s", e.opened(c == nil, err))
	})
	add("DialUDP/local address of the other family", func(e *env) {
		c, err := e.near.DialUDP("udp", &net.UDPAddr{IP: e.strange(e.other()).AsSlice()}, e.farUDP(80))
		e.saw("%s", e.opened(c == nil, err))
	})

	// No address.
	add("DialTCP/nil", func(e *env) {
		c, err := e.near.DialTCP(e.tcp(), nil, nil)
		e.saw("%s", e.opened(c == nil, err))
	})
	add("DialTCP/nil, with a local address", func(e *env) {
		c, err := e.near.DialTCP(e.tcp(), e.nearTCP(0), nil)
		e.saw("%s", e.opened(c == nil, err))
	})
	add("DialUDP/nil", func(e *env) {
		c, err := e.near.DialUDP(e.udp(), nil, nil)
		e.saw("%s", e.opened(c == nil, err))
	})
	add("ListenTCP/nil", func(e *env) {
		l, err := e.near.ListenTCP(e.tcp(), nil)
		e.must(err)
		e.call(l.Addr(), "near")
		e.saw("%s %s", e.addr(l.Addr()), e.names.text(l.Addr().String()))
	})
	add("ListenUDP/nil", func(e *env) {
		c, err := e.near.ListenUDP(e.udp(), nil)
		e.must(err)
		e.call(c.LocalAddr(), "near")
		e.saw("%s %s", e.addr(c.LocalAddr()), e.names.text(c.LocalAddr().String()))
	})
	add("ListenTCP/IP of 3 bytes", func(e *env) {
		l, err := e.near.ListenTCP(e.tcp(), &net.TCPAddr{IP: net.IP{1, 2, 3}})
		e.saw("%s", e.opened(l == nil, err))
	})
	add("ListenUDP/IP of 3 bytes", func(e *env) {
		c, err := e.near.ListenUDP(e.udp(), &net.UDPAddr{IP: net.IP{1, 2, 3}})
		e.saw("%s", e.opened(c == nil, err))
	})

	// An address that is not ours.
	add("Listen/not ours", func(e *env) { e.saw("%s", e.tryListen(e.tcp(), hostPort(e.strange(string(e.family)), 0))) })
	add("ListenPacket/not ours", func(e *env) {
		e.saw("%s", e.tryListenPacket(e.udp(), hostPort(e.strange(string(e.family)), 0)))
	})
	add("DialTCP/from an address not ours", func(e *env) {
		c, err := e.near.DialTCP(e.tcp(), &net.TCPAddr{IP: e.strange(string(e.family)).AsSlice()}, e.farTCP(80))
		e.saw("%s", e.opened(c == nil, err))
	})
	add("DialUDP/from an address not ours", func(e *env) {
		c, err := e.near.DialUDP(e.udp(), &net.UDPAddr{IP: e.strange(string(e.family)).AsSlice()}, e.farUDP(80))
		e.saw("%s", e.opened(c == nil, err))
	})

	// How addresses look.
	for _, x := range []struct{ name, network, host string }{
		{"family, no host", "FAMILY", ""}, {"no host", "", ""},
		{"IPv4 wildcard", "", "0.0.0.0"}, {"IPv6 wildcard", "", "[::]"},
		{"a host", "", "HOST"}, {"family and a host", "FAMILY", "HOST"},
	} {
		words := func(e *env, proto string) (network, address string) {
			network = proto + strings.ReplaceAll(x.network, "FAMILY", string(e.family))
			return network, strings.ReplaceAll(x.host, "HOST", bracket(e.nearHost)) + ":0"
		}
		add("Listen/shape/"+x.name, func(e *env) {
			l, err := e.near.Listen(words(e, "tcp"))
			e.must(err)
			e.call(l.Addr(), "near")
			e.saw("%s %s %s", l.Addr().Network(), e.addr(l.Addr()), e.names.text(l.Addr().String()))
		})
		add("ListenPacket/shape/"+x.name, func(e *env) {
			c, err := e.near.ListenPacket(words(e, "udp"))
			e.must(err)
			e.call(c.LocalAddr(), "near")
			e.saw("%s %s %s", c.LocalAddr().Network(), e.addr(c.LocalAddr()), e.names.text(c.LocalAddr().String()))
		})
		add("Listen/Close of "+x.name, func(e *env) { // which says the address once more
			l, err := e.near.Listen(words(e, "tcp"))
			e.must(err)
			e.call(l.Addr(), "near")
			e.must(l.Close())
			e.saw("%s", e.err(l.Close()))
		})
	}
	return all
}

func bracket(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// other returns the other family's digit.
func (e *env) other() string { return string('4' + '6' - e.family) }

// strange returns an address that no host has: those are for documentation.
func (e *env) strange(family string) netip.Addr {
	if family == "4" {
		return netip.MustParseAddr("203.0.113.77")
	}
	return netip.MustParseAddr("2001:db8:77::77")
}
