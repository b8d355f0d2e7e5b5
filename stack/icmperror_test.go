package stack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// complaint returns the packet of an ICMP error from the peer: about one of a
// protocol from near to far that begins with head.
func complaint(typ, code uint8, proto uint8, near, far netip.Addr, head []byte) (tcpip.NetworkProtocolNumber, []byte) {
	src, dst := near.AsSlice(), far.AsSlice()
	info := make([]byte, 4) // a path MTU of 0: the guard's least
	if near.Is6() {
		m := append([]byte{typ, code, 0, 0}, slices.Concat(info, ip6(src, dst, proto, 100, 64), head)...)
		putSum(dst, src, 58, m, 2)
		return ipv6.ProtocolNumber, append(ip6(dst, src, 58, len(m), 64), m...)
	}
	m := append([]byte{typ, code, 0, 0}, slices.Concat(info, ip4(src, dst, proto, 1, 0, 100, false), head)...)
	binary.BigEndian.PutUint16(m[2:], ^sumOf(m))
	return ipv4.ProtocolNumber, append(ip4(dst, src, 1, 1, 0, len(m), false), m...)
}

// guardedPair is a pair as devices make them: stacks behind a link that checks
// checksums have the guard.
func guardedPair(t *testing.T) *pair {
	return newPairWith(t, pairOptions{a: testConfig(addrA, addrA6), b: testConfig(addrB, addrB6), verified: true})
}

// portsOf is the beginning of a transport header between two ports.
func portsOf(near, far uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, near)
	return append(binary.BigEndian.AppendUint16(b, far), make([]byte, 16)...)
}

// segmentOf is the beginning of the TCP header of a segment.
func segmentOf(near, far uint16, seq uint32) []byte {
	b := portsOf(near, far)
	binary.BigEndian.PutUint32(b[4:], seq)
	return b
}

// icmpCases are messages and what sockets hear of them on Linux: the errno of a
// TCP dial, and whether a connected UDP socket has it too.
var icmpCases = []struct {
	host      string
	typ, code uint8
	tcp       syscall.Errno
	udp       bool
}{
	{addrB, 3, 0, syscall.ENETUNREACH, false},
	{addrB, 3, 1, syscall.EHOSTUNREACH, false},
	{addrB, 3, 2, syscall.ENOPROTOOPT, true},
	{addrB, 3, 3, syscall.ECONNREFUSED, true},
	{addrB, 3, 4, 0, true}, // EMSGSIZE
	{addrB, 3, 5, syscall.EOPNOTSUPP, false},
	{addrB, 3, 6, syscall.ENETUNREACH, true},
	{addrB, 3, 7, syscall.EHOSTDOWN, true},
	{addrB, 3, 8, enonet, true},
	{addrB, 3, 9, syscall.ENETUNREACH, true},
	{addrB, 3, 10, syscall.EHOSTUNREACH, true},
	{addrB, 3, 11, syscall.ENETUNREACH, false},
	{addrB, 3, 12, syscall.EHOSTUNREACH, false},
	{addrB, 3, 13, syscall.EHOSTUNREACH, true},
	{addrB, 3, 14, syscall.EHOSTUNREACH, true},
	{addrB, 3, 15, syscall.EHOSTUNREACH, true},
	{addrB, 3, 16, 0, false},
	{addrB, 4, 0, 0, false}, // source quench
	{addrB, 11, 0, syscall.EHOSTUNREACH, false},
	{addrB, 11, 1, 0, false},
	{addrB, 12, 0, syscall.EPROTO, true},
	{addrB6, 1, 0, syscall.ENETUNREACH, false},
	{addrB6, 1, 1, syscall.EACCES, true},
	{addrB6, 1, 2, syscall.EHOSTUNREACH, false},
	{addrB6, 1, 3, syscall.EHOSTUNREACH, false},
	{addrB6, 1, 4, syscall.ECONNREFUSED, true},
	{addrB6, 1, 5, syscall.EACCES, true},
	{addrB6, 1, 6, syscall.EACCES, true},
	{addrB6, 1, 7, syscall.EPROTO, true},
	{addrB6, 2, 0, 0, true}, // EMSGSIZE
	{addrB6, 3, 0, syscall.EHOSTUNREACH, false},
	{addrB6, 3, 1, syscall.EHOSTUNREACH, false},
	{addrB6, 4, 0, syscall.EPROTO, true},
}

// TestICMPErrorsOfUDP has each message come to a connected socket, and a datagram
// behind it, which is what the socket reads if it was not told of the message.
func TestICMPErrorsOfUDP(t *testing.T) {
	p := guardedPair(t)
	for _, tc := range icmpCases {
		t.Run(fmt.Sprintf("%s type %d code %d", tc.host, tc.typ, tc.code), func(t *testing.T) {
			far := listenUDP(t, p.b, "udp", net.JoinHostPort(tc.host, "0"))
			defer far.Close()
			d, err := p.a.Dial("udp", far.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			c := d.(*UDPConn)
			defer c.Close()
			near, to := c.LocalAddr().(*net.UDPAddr).AddrPort(), far.LocalAddr().(*net.UDPAddr).AddrPort()
			loose := listenUDP(t, p.a, "udp", netip.AddrPortFrom(near.Addr(), 0).String())
			defer loose.Close()
			about := func(c *UDPConn, spoil byte) {
				port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
				proto, b := complaint(tc.typ, tc.code, 17, near.Addr(), to.Addr(), portsOf(port, to.Port()))
				b[len(b)-1] ^= spoil
				p.wa.inject(proto, b)
			}
			// datagram is answered by the socket that has no error.
			datagram := func(c *UDPConn) {
				t.Helper()
				if _, err := far.WriteToUDPAddrPort([]byte("x"), c.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
					t.Fatal(err)
				}
				c.SetReadDeadline(time.Now().Add(10 * time.Second))
				if n, _, err := c.ReadFrom(make([]byte, 2)); n != 1 || err != nil {
					t.Fatalf("ReadFrom = %d, %v", n, err)
				}
			}
			about(loose, 0)
			datagram(loose)
			about(c, 1)
			datagram(c)
			about(c, 0)
			if !tc.udp {
				datagram(c)
				return
			}
			want := tc.tcp
			if want == 0 {
				want = syscall.EMSGSIZE
			}
			_, err = c.Read(make([]byte, 2))
			wantOp(t, err, "read", want)
			datagram(c)
			about(c, 0)
			if err := poll(func() error {
				if _, err := c.Write([]byte("x")); err != nil {
					wantOp(t, err, "write", want)
					return nil
				}
				return errors.New("Write is not told")
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestICMPErrorsOfTCP has each message come while a dial waits for an answer, after
// some that guess its sequence number and are not heard. One
// of which it is not told is followed by one that ends it.
func TestICMPErrorsOfTCP(t *testing.T) {
	p := guardedPair(t)
	for i, tc := range icmpCases {
		t.Run(fmt.Sprintf("%s type %d code %d", tc.host, tc.typ, tc.code), func(t *testing.T) {
			p.wb.loseAll(6) // no SYN-ACK
			defer p.wb.lose.Store(nil)
			own, last, want := addrA, [2]uint8{3, 2}, syscall.ENOPROTOOPT
			if tc.host == addrB6 {
				own, last, want = addrA6, [2]uint8{1, 5}, syscall.EACCES
			}
			if tc.tcp != 0 {
				want = tc.tcp
			}
			near := netip.AddrPortFrom(netip.MustParseAddr(own), uint16(20_000+i))
			done := make(chan error, 1)
			p.parkA.drain()
			go func() {
				d := Dialer{Stack: p.a, LocalAddr: tcpAddr(near)}
				_, err := d.Dial("tcp", net.JoinHostPort(tc.host, "9"))
				done <- err
			}()
			p.parkA.wait(t)
			far := netip.AddrPortFrom(netip.MustParseAddr(tc.host), 9)
			seq, forged := next(t, p.a, near, far), p.a.Stats().ForgedErrors
			for _, guess := range []uint32{seq - 1, seq + 2, seq + 1<<31} {
				proto, b := complaint(3, 3, 6, near.Addr(), far.Addr(), segmentOf(near.Port(), 9, guess))
				if near.Addr().Is6() {
					proto, b = complaint(1, 4, 6, near.Addr(), far.Addr(), segmentOf(near.Port(), 9, guess))
				}
				p.wa.inject(proto, b)
			}
			for _, m := range [][2]uint8{{tc.typ, tc.code}, last} {
				proto, b := complaint(m[0], m[1], 6, near.Addr(), far.Addr(), segmentOf(near.Port(), 9, seq))
				p.wa.inject(proto, b)
			}
			within(t, "Dial", func() { wantOp(t, <-done, "dial", want) })
			if got := p.a.Stats().ForgedErrors - forged; got != 3 {
				t.Errorf("%d forged errors, want 3", got)
			}
		})
	}
}

// TestICMPErrorsOfConnections has each message come to a connection: it goes on,
// and nothing is kept of them.
func TestICMPErrorsOfConnections(t *testing.T) {
	p := guardedPair(t)
	for _, host := range []string{addrB, addrB6} {
		c, s := p.connect(t, "tcp", host)
		near, to := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
		for _, tc := range icmpCases {
			if tc.host == host {
				proto, b := complaint(tc.typ, tc.code, 6, near.Addr(), to.Addr(), segmentOf(near.Port(), to.Port(), next(t, p.a, near, to)))
				p.wa.inject(proto, b)
			}
		}
		if err := exchangeTCP(c, s, 1); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if n := p.a.Stats().ForgedErrors; n != 0 {
			t.Errorf("%s: %d forged errors", host, n)
		}
		if c.ep.SocketOptions().PeekErr() != nil {
			t.Errorf("%s: errors are kept", host)
		}
	}
}
