package stack

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

func listenUDP(t testing.TB, s *Stack, network, address string) *UDPConn {
	t.Helper()
	c, err := s.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*UDPConn)
}

func TestUDPPair(t *testing.T) {
	p := newPair(t)
	s := listenUDP(t, p.b, "udp", ":53")
	if got := s.LocalAddr().String(); got != "[::]:53" {
		t.Errorf("LocalAddr is %s", got)
	}
	if s.RemoteAddr() != nil {
		t.Errorf("RemoteAddr is %v", s.RemoteAddr())
	}
	for _, host := range []string{addrB, addrB6} {
		conn, err := p.a.Dial("udp", net.JoinHostPort(host, "53"))
		if err != nil {
			t.Fatal(err)
		}
		c := conn.(*UDPConn)
		if n, err := c.Write([]byte("ping")); n != 4 || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
		b := make([]byte, 10)
		n, from, err := s.ReadFrom(b)
		if err != nil || string(b[:n]) != "ping" || from.String() != c.LocalAddr().String() {
			t.Fatalf("ReadFrom = %q, %v, %v; want it from %v", b[:n], from, err, c.LocalAddr())
		}
		// Both forms of the address, and for IPv4 the mapped one, lead back.
		ua := from.(*net.UDPAddr)
		ap := ua.AddrPort()
		mapped := netip.AddrPortFrom(netip.AddrFrom16(ap.Addr().As16()), ap.Port())
		long := &net.UDPAddr{IP: ua.IP.To16(), Port: ua.Port}
		for i, write := range []func([]byte) (int, error){
			func(b []byte) (int, error) { return s.WriteTo(b, from) },
			func(b []byte) (int, error) { return s.WriteToUDP(b, long) },
			func(b []byte) (int, error) { return s.WriteToUDPAddrPort(b, ap) },
			func(b []byte) (int, error) { return s.WriteToUDPAddrPort(b, mapped) },
		} {
			if n, err := write([]byte{byte(i)}); n != 1 || err != nil {
				t.Fatalf("write %d = %d, %v", i, n, err)
			}
			if n, err := c.Read(b); n != 1 || b[0] != byte(i) || err != nil {
				t.Fatalf("read %d = %d, %v", i, n, err)
			}
		}
		n, err = c.WriteTo([]byte("x"), ua)
		if oe := wantOp(t, err, "write", net.ErrWriteToConnected); n != 0 || oe.Addr != from {
			t.Errorf("WriteTo on a connected socket = %d, %v", n, err)
		}
		_, err = c.WriteToUDPAddrPort([]byte("x"), ap)
		wantOp(t, err, "write", net.ErrWriteToConnected)
		c.Close()
	}
}

func TestUDPFamilies(t *testing.T) {
	p := newPair(t)
	u4 := listenUDP(t, p.a, "udp4", ":0")
	u6 := listenUDP(t, p.a, "udp6", ":0")
	to4, to6 := netip.MustParseAddrPort(addrB+":9"), netip.MustParseAddrPort("["+addrB6+"]:9")
	var ae *net.AddrError
	if _, err := u4.WriteToUDPAddrPort(nil, to6); !errors.As(err, &ae) {
		t.Errorf("IPv6 destination on udp4: %v, want *net.AddrError", err)
	}
	_, err := u6.WriteToUDPAddrPort(nil, to4)
	wantOp(t, err, "write", syscall.ENETUNREACH)
	if _, err := u4.WriteToUDPAddrPort(nil, to4); err != nil {
		t.Error(err)
	}
	if _, err := u6.WriteToUDPAddrPort(nil, to6); err != nil {
		t.Error(err)
	}
}

func TestUDPErrors(t *testing.T) {
	p := newPair(t)
	u := listenUDP(t, p.a, "udp", ":0")
	_, err := u.Write([]byte("x"))
	wantOp(t, err, "write", syscall.EDESTADDRREQ)
	_, err = u.WriteTo([]byte("x"), nil)
	wantOp(t, err, "write", syscall.EINVAL)
	_, err = u.WriteTo([]byte("x"), &net.TCPAddr{})
	wantOp(t, err, "write", syscall.EINVAL)
	_, err = u.WriteToUDP([]byte("x"), nil)
	if oe := wantOp(t, err, "write", errMissingAddress); oe.Addr != nil {
		t.Errorf("Addr is %v", oe.Addr)
	}
	_, err = u.WriteToUDPAddrPort([]byte("x"), netip.AddrPort{})
	wantOp(t, err, "write", errMissingAddress)
	_, err = u.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1})
	wantOp(t, err, "write", syscall.ENETUNREACH)
	_, err = u.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2)})
	wantOp(t, err, "write", syscall.EINVAL) // port 0

	u.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, _, err = u.ReadFrom(make([]byte, 1))
	wantTimeout(t, err, "read")
	u.Close()
	_, err = u.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 1})
	wantOp(t, err, "write", net.ErrClosed)
	wantOp(t, u.SetDeadline(time.Time{}), "set", net.ErrClosed)
}

// TestUDPSizes sends the largest datagrams, and one byte more.
func TestUDPSizes(t *testing.T) {
	p := newPair(t)
	s := listenUDP(t, p.b, "udp", ":53")
	for host, limit := range map[string]int{addrB: maxUDP4, addrB6: maxUDP6} {
		c, err := p.a.Dial("udp", net.JoinHostPort(host, "53"))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, 1472, 1473, limit} {
			if m, err := c.Write(make([]byte, n)); m != n || err != nil {
				t.Fatalf("%s: Write of %d = %d, %v", host, n, m, err)
			}
			s.SetReadDeadline(time.Now().Add(10 * time.Second))
			m, _, err := s.ReadFrom(make([]byte, 1<<17))
			if m != n || err != nil {
				t.Fatalf("%s: ReadFrom = %d, %v; sent %d", host, m, err, n)
			}
		}
		_, err = c.Write(make([]byte, limit+1))
		wantOp(t, err, "write", syscall.EMSGSIZE)
		c.Close()
	}
}

func TestUDPTruncates(t *testing.T) {
	p := newPair(t)
	s := listenUDP(t, p.b, "udp", ":53")
	c, err := p.a.Dial("udp", addrB+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, d := range []string{"a long datagram", "second", "third"} {
		c.Write([]byte(d))
	}
	b := make([]byte, 6)
	for _, tc := range []struct {
		b    []byte
		want string
	}{{b, "a long"}, {b[:0], ""}, {b, "third"}} {
		n, _, err := s.ReadFrom(tc.b)
		if string(tc.b[:n]) != tc.want || err != nil {
			t.Errorf("ReadFrom = %q, %v; want %q", tc.b[:n], err, tc.want)
		}
	}
}

// TestUDPRefused waits for the ICMP message that nobody listens.
func TestUDPRefused(t *testing.T) {
	p := guardedPair(t)
	for _, host := range []string{addrB, addrB6} {
		c, err := p.a.Dial("udp", net.JoinHostPort(host, "9"))
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		p.parkA.drain()
		go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
		p.parkA.wait(t)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		within(t, "Read", func() { wantOp(t, <-read, "read", syscall.ECONNREFUSED) })
		c.Close()
	}
}

// TestUDPWriteWaits fills the send buffer while the wire takes nothing.
func TestUDPWriteWaits(t *testing.T) {
	p := newPair(t)
	u := listenUDP(t, p.a, "udp", ":0")
	u.SetWriteBuffer(4 << 10)
	p.wa.hold.Store(true)
	to := netip.MustParseAddrPort(addrB + ":9")
	const datagrams = 100
	done := make(chan error, 1)
	p.parkA.drain()
	go func() {
		for range datagrams {
			if _, err := u.WriteToUDPAddrPort(make([]byte, 1000), to); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	p.parkA.wait(t)
	u.SetWriteDeadline(time.Now().Add(time.Millisecond))
	wantTimeout(t, <-done, "write")
	u.SetWriteDeadline(time.Time{})
	p.parkA.drain()
	go func() {
		_, err := u.WriteToUDPAddrPort(make([]byte, 1000), to)
		done <- err
	}()
	p.parkA.wait(t)
	p.wa.release()
	if err := <-done; err != nil {
		t.Errorf("Write after the wire has taken all: %v", err)
	}
}

// TestUDPLongWriteWaits does the same with datagrams in fragments, which have to be
// of a flow: what is of none shares a queue with ARP.
func TestUDPLongWriteWaits(t *testing.T) {
	for _, off := range []bool{false, true} {
		for _, host := range []string{addrB, addrB6} {
			a := testConfig(addrA, addrA6)
			a.NoFastIP = off
			p := newPairWith(t, pairOptions{verified: true, a: a, b: testConfig(addrB, addrB6)})
			u := listenUDP(t, p.a, "udp", ":0")
			u.SetWriteBuffer(4 << 10)
			p.wa.hold.Store(true)
			to := netip.AddrPortFrom(netip.MustParseAddr(host), 9)
			var none atomic.Bool
			saw := func(pkt *gstack.PacketBuffer) {
				if pkt.Hash == 0 {
					none.Store(true)
				}
			}
			p.wa.saw.Store(&saw)
			done := make(chan error, 1)
			p.parkA.drain()
			go func() {
				for range 10 {
					if _, err := u.WriteToUDPAddrPort(make([]byte, 4000), to); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
			p.parkA.wait(t)
			p.wa.release()
			if err := <-done; err != nil {
				t.Errorf("Write after the wire has taken all: %v", err)
			}
			if none.Load() {
				t.Errorf("%s: a fragment is of no flow", host)
			}
		}
	}
}

func TestUDPOwnAddress(t *testing.T) {
	p := newPair(t)
	s := listenUDP(t, p.a, "udp", ":53")
	for _, to := range []*net.UDPAddr{{Port: 53}, {IP: net.IPv4zero, Port: 53}, {IP: net.IPv6zero, Port: 53}, {IP: net.IPv4(10, 0, 0, 1), Port: 53}} {
		if _, err := s.WriteToUDP([]byte("self"), to); err != nil {
			t.Fatalf("to %v: %v", to, err)
		}
		if n, _, err := s.ReadFrom(make([]byte, 10)); n != 4 || err != nil {
			t.Fatalf("to %v: read %d, %v", to, n, err)
		}
	}
}
