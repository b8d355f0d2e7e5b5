package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
)

// TestMalformed uses addresses whose IP or port is none wherever one is taken as a
// value, and compares with package net.
func TestMalformed(t *testing.T) {
	needIPv6(t)
	p := newPairWith(t, pairOptions{a: testConfig(addrA, globalA6), b: testConfig(addrB)})
	port, _ := strconv.Atoi(unused(t))
	for _, family := range []string{"", "4", "6"} {
		loop := net.IPv4(127, 0, 0, 1).To4()
		if family == "6" {
			loop = net.IPv6loopback
		}
		for _, bad := range []net.TCPAddr{
			{IP: loop, Port: -1}, {IP: loop, Port: 65536}, {IP: loop, Port: 65536 + port},
			{IP: net.IP{127, 0, 1}, Port: port}, {IP: make(net.IP, 5), Port: port}, {IP: make(net.IP, 17)},
		} {
			good := net.TCPAddr{IP: loop, Port: port}
			what := fmt.Sprintf("%s %v port %d", family, bad.IP, bad.Port)
			malformedCalls(t, what, family, bad, good, p.a)
		}
	}
}

func udpOf(a net.TCPAddr) *net.UDPAddr { return &net.UDPAddr{IP: a.IP, Port: a.Port} }

func malformedCalls(t *testing.T, what, family string, bad, good net.TCPAddr, s *Stack) {
	tcp := func(a net.TCPAddr) *net.TCPAddr { return replaced(&a).(*net.TCPAddr) }
	udp := func(a net.TCPAddr) *net.UDPAddr { return replaced(udpOf(a)).(*net.UDPAddr) }
	ctx := context.Background()
	us, them := malformedWriters(t, family, good, s)
	type calls struct {
		name         string
		ours, theirs func() (io.Closer, error)
	}
	all := []calls{
		{"DialTCP", func() (io.Closer, error) { return s.DialTCP(ctx, "tcp"+family, nil, tcp(bad)) },
			func() (io.Closer, error) { return net.DialTCP("tcp"+family, nil, &bad) }},
		{"DialTCP from", func() (io.Closer, error) { return s.DialTCP(ctx, "tcp"+family, tcp(bad), tcp(good)) },
			func() (io.Closer, error) { return net.DialTCP("tcp"+family, &bad, &good) }},
		{"DialUDP", func() (io.Closer, error) { return s.DialUDP("udp"+family, nil, udp(bad)) },
			func() (io.Closer, error) { return net.DialUDP("udp"+family, nil, udpOf(bad)) }},
		{"DialUDP from", func() (io.Closer, error) { return s.DialUDP("udp"+family, udp(bad), udp(good)) },
			func() (io.Closer, error) { return net.DialUDP("udp"+family, udpOf(bad), udpOf(good)) }},
		{"ListenTCP", func() (io.Closer, error) { return s.ListenTCP("tcp"+family, tcp(bad)) },
			func() (io.Closer, error) { return net.ListenTCP("tcp"+family, &bad) }},
		{"ListenUDP", func() (io.Closer, error) { return s.ListenUDP("udp"+family, udp(bad)) },
			func() (io.Closer, error) { return net.ListenUDP("udp"+family, udpOf(bad)) }},
		{"WriteTo", func() (io.Closer, error) { _, err := us.WriteTo(nil, udp(bad)); return nil, err },
			func() (io.Closer, error) { _, err := them.WriteTo(nil, udpOf(bad)); return nil, err }},
		{"WriteMsgUDP", func() (io.Closer, error) { _, _, err := us.WriteMsgUDP(nil, nil, udp(bad)); return nil, err },
			func() (io.Closer, error) { _, _, err := them.WriteMsgUDP(nil, nil, udpOf(bad)); return nil, err }},
	}
	if len(bad.IP) == len(good.IP) { // net.Dialer first looks for addresses that go with LocalAddr
		at := net.JoinHostPort(good.IP.String(), strconv.Itoa(good.Port))
		all = append(all, calls{"Dialer, TCP",
			func() (io.Closer, error) {
				return (&Dialer{Stack: s, LocalAddr: tcp(bad)}).Dial("tcp"+family, toOurs.Replace(at))
			},
			func() (io.Closer, error) { return (&net.Dialer{LocalAddr: &bad}).Dial("tcp"+family, at) },
		}, calls{"Dialer, UDP",
			func() (io.Closer, error) {
				return (&Dialer{Stack: s, LocalAddr: udp(bad)}).Dial("udp"+family, toOurs.Replace(at))
			},
			func() (io.Closer, error) { return (&net.Dialer{LocalAddr: udpOf(bad)}).Dial("udp"+family, at) },
		})
	}
	for _, c := range all {
		closer, got := c.ours()
		if got == nil && closer != nil {
			closer.Close()
		}
		if _, want := c.theirs(); want == nil || describe(got) != describe(want) {
			t.Errorf("%s %s:\n     %s\nnet: %s", c.name, what, describe(got), describe(want))
		}
	}
	n, err := us.WriteBatch([]Message{{Buffers: [][]byte{nil}, Addr: udp(bad)}}, 0)
	if n != 0 || err == nil || !strings.HasPrefix(err.Error(), "write udp"+family) {
		t.Errorf("WriteBatch %s: %d, %v", what, n, err)
	}
}

// malformedWriters returns sockets with the same port, of a stack and of the kernel.
func malformedWriters(t *testing.T, family string, at net.TCPAddr, s *Stack) (*UDPConn, *net.UDPConn) {
	t.Helper()
	at.Port = 0
	them, err := net.ListenUDP("udp"+family, udpOf(at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { them.Close() })
	us, err := s.ListenUDP("udp"+family, replaced(them.LocalAddr()).(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { us.Close() })
	return us, them
}

// TestMalformedPing sends an echo request to what is no address.
func TestMalformedPing(t *testing.T) {
	p := newPair(t)
	c, err := p.a.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.WriteTo([]byte{8, 0, 0, 0, 1, 2, 3, 4}, &net.IPAddr{IP: net.IP{127, 0, 1}})
	var bad *net.AddrError
	if !errors.As(err, &bad) || bad.Err != "non-IPv4 address" {
		t.Errorf("%v: want a *net.AddrError", err)
	}
}
