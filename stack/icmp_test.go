package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

func TestPingHosts(t *testing.T) {
	for _, tc := range selves {
		o := overWireOptions{chosen: true}
		tc.set(&o.config[0])
		ow := newOverWire(t, o)
		for _, host := range []string{addrB, addrB6, "::ffff:" + addrB, addrA, addrA6, "127.0.0.1", "::1", "0.0.0.0", "::"} {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if d, err := ow.s[0].Ping(ctx, netip.MustParseAddr(host)); err != nil || d <= 0 {
				t.Errorf("%s: %v, %v", host, d, err)
			}
			cancel()
		}
	}
}

func TestPingErrors(t *testing.T) {
	p := newPair(t)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := p.a.Ping(ctx, netip.MustParseAddr("192.0.2.1"))
	wantOp(t, err, "ping", syscall.ENETUNREACH)
	_, err = p.a.Ping(ctx, netip.Addr{})
	wantOp(t, err, "ping", errMissingAddress)
	done := make(chan error, 1)
	p.wb.loseAll(0)
	p.parkA.drain()
	go func() { _, err := p.a.Ping(ctx, netip.MustParseAddr(addrB)); done <- err }()
	p.parkA.wait(t)
	cancel()
	wantOp(t, <-done, "ping", context.Canceled)
	_, err = p.a.Ping(ctx, netip.MustParseAddr(addrB))
	wantOp(t, err, "ping", context.Canceled)
	late, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err = p.a.Ping(late, netip.MustParseAddr(addrB6))
	if wantOp(t, err, "ping", context.DeadlineExceeded); !err.(net.Error).Timeout() {
		t.Errorf("%v is no timeout", err)
	}
	p.parkA.drain()
	go func() { _, err := p.a.Ping(context.Background(), netip.MustParseAddr(addrB)); done <- err }()
	p.parkA.wait(t)
	p.a.Close()
	within(t, "Ping", func() { wantOp(t, <-done, "ping", net.ErrClosed) })
}

// TestICMPConn is a program as golang.org/x/net/icmp's documentation has it.
func TestICMPConn(t *testing.T) {
	p := newPair(t)
	for _, tc := range []struct {
		network, at, to string
		request, reply  icmp.Type
		proto           int
	}{
		{"ip4:icmp", "0.0.0.0", addrB, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply, 1},
		{"ip4:1", addrA, addrB, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply, 1},
		{"ip4:icmp", "localhost", "127.0.0.1", ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply, 1},
		{"ip6:ipv6-icmp", "", addrB6, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, 58},
		{"ip6:58", addrA6, addrB6, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, 58},
	} {
		t.Run(tc.network+" "+tc.at, func(t *testing.T) {
			c, err := p.a.ListenPacket(tc.network, tc.at)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.LocalAddr().Network() != "ip" {
				t.Errorf("LocalAddr is %v", c.LocalAddr())
			}
			to := &net.IPAddr{IP: net.ParseIP(tc.to)}
			for seq, size := range []int{0, 1, 56, 1471, 4000} {
				data := bytes.Repeat([]byte{byte(seq)}, size)
				b, err := (&icmp.Message{Type: tc.request, Body: &icmp.Echo{ID: 700 + seq%2, Seq: seq, Data: data}}).Marshal(nil)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := c.WriteTo(b, to); n != len(b) || err != nil {
					t.Fatalf("WriteTo = %d, %v", n, err)
				}
				c.SetReadDeadline(time.Now().Add(10 * time.Second))
				in := make([]byte, 5000)
				n, from, err := c.ReadFrom(in)
				if err != nil || from.String() != tc.to {
					t.Fatalf("ReadFrom = %d, %v, %v", n, from, err)
				}
				m, err := icmp.ParseMessage(tc.proto, in[:n])
				if err != nil || m.Type != tc.reply {
					t.Fatalf("%+v, %v", m, err)
				}
				e := m.Body.(*icmp.Echo)
				if e.ID != 700+seq%2 || e.Seq != seq || !bytes.Equal(e.Data, data) {
					t.Errorf("reply %d: ID %d, Seq %d, %d bytes", seq, e.ID, e.Seq, len(e.Data))
				}
			}
		})
	}
}

// TestICMPConnApart has two ping at once: each gets its own replies, and neither
// the peer's requests.
func TestICMPConnApart(t *testing.T) {
	p := newPair(t)
	conn := func(s *Stack) net.PacketConn {
		c, err := s.ListenPacket("ip4:icmp", "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	one, two, far := conn(p.a), conn(p.a), conn(p.b)
	ping := func(c net.PacketConn, to string, id, seq int) error {
		b, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: seq}}).Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.WriteTo(b, &net.IPAddr{IP: net.ParseIP(to)})
		return err
	}
	for seq := range 10 {
		if err := errors.Join(ping(one, addrB, 1, seq), ping(two, addrB, 2, seq), ping(far, addrA, 1, 100)); err != nil {
			t.Fatal(err)
		}
		for id, c := range map[int]net.PacketConn{1: one, 2: two} {
			b := make([]byte, 100)
			n, _, err := c.ReadFrom(b)
			if err != nil {
				t.Fatal(err)
			}
			m, err := icmp.ParseMessage(1, b[:n])
			if e, ok := m.Body.(*icmp.Echo); err != nil || !ok || m.Type != ipv4.ICMPTypeEchoReply || e.ID != id || e.Seq != seq {
				t.Errorf("%d, %d: %+v, %v", id, seq, m, err)
			}
		}
	}
	wantOp(t, ping(two, addrB, 1, 0), "write", syscall.EADDRINUSE)
	for id := range maxIdents - 1 {
		if err := ping(one, addrB, 100+id, 0); err != nil {
			t.Fatal(err)
		}
	}
	wantOp(t, ping(one, addrB, 1000, 0), "write", syscall.ENOBUFS)
	one.Close()
	if err := ping(two, addrB, 1, 0); err != nil {
		t.Errorf("the identifier of a closed one: %v", err)
	}
	wantOp(t, ping(one, addrB, 1, 0), "write", net.ErrClosed)
	_, _, err := one.ReadFrom(nil)
	wantOp(t, err, "read", net.ErrClosed)
	wantOp(t, one.Close(), "close", net.ErrClosed)
}

func TestICMPConnErrors(t *testing.T) {
	p := newPair(t)
	for _, tc := range []struct {
		network, at string
		want        error
	}{
		{"ip4:icmp", "10.0.0.9", syscall.EADDRNOTAVAIL},
		{"ip4:udp", "", net.UnknownNetworkError("ip4:udp")},
		{"ip6:icmp", "", net.UnknownNetworkError("ip6:icmp")},
	} {
		_, err := p.a.ListenPacket(tc.network, tc.at)
		wantOp(t, err, "listen", tc.want)
	}
	for _, at := range []string{"fd00::1", "nobody"} {
		if _, err := p.a.ListenPacket("ip4:icmp", at); err == nil {
			t.Errorf("ip4:icmp at %s: no error", at)
		}
	}
	c, err := p.a.ListenPacket("ip4:icmp", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	to := &net.IPAddr{IP: net.ParseIP(addrB)}
	echo := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	for _, tc := range []struct {
		b    []byte
		to   net.Addr
		want error
	}{
		{echo[:7], to, syscall.EINVAL},
		{[]byte{0, 0, 0, 0, 0, 1, 0, 1}, to, syscall.EINVAL},
		{[]byte{8, 1, 0, 0, 0, 1, 0, 1}, to, syscall.EINVAL},
		{echo, &net.UDPAddr{IP: to.IP}, syscall.EINVAL},
		{echo, nil, syscall.EINVAL},
		{echo, (*net.IPAddr)(nil), errMissingAddress},
		{echo, &net.IPAddr{IP: net.ParseIP("192.0.2.1")}, syscall.ENETUNREACH},
		{append(echo, make([]byte, 66_000)...), to, syscall.EMSGSIZE},
	} {
		_, err := c.WriteTo(tc.b, tc.to)
		wantOp(t, err, "write", tc.want)
	}
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, _, err = c.ReadFrom(make([]byte, 1))
	wantTimeout(t, err, "read")
}

// TestICMPConnWithoutPeer writes to nobody: what keeps it from writing at all is said
// first.
func TestICMPConnWithoutPeer(t *testing.T) {
	p := newPair(t)
	l, err := p.a.ListenPacket("ip4:icmp", "")
	if err != nil {
		t.Fatal(err)
	}
	c := l.(*ICMPConn)
	b := []byte{8, 0, 0, 0, 1, 2, 3, 4}
	_, err = c.Write(b)
	wantOp(t, err, "write", syscall.EDESTADDRREQ)
	c.SetWriteDeadline(time.Unix(1, 0)) //nolint:errcheck // it is open
	_, err = c.Write(b)
	wantTimeout(t, err, "write")
	c.Close()
	_, err = c.Write(b)
	wantOp(t, err, "write", net.ErrClosed)
}

// TestICMPDial is a program as some have it that ping with package net: they dial,
// and take the IP header off what they read.
func TestICMPDial(t *testing.T) {
	p := newPair(t)
	for _, tc := range []struct {
		network, host, real string
		header              int
	}{
		{"ip4:icmp", addrB, addrB, 20},
		{"ip:1", addrB, addrB, 20},
		{"ip4:icmp", "localhost", "127.0.0.1", 20},
		{"ip4:icmp", "127.7.7.7", "127.7.7.7", 20},
		{"ip6:ipv6-icmp", addrB6, addrB6, 0},
		{"ip:58", "::1", "::1", 0},
	} {
		d := Dialer{Stack: p.a, Timeout: 10 * time.Second}
		conn, err := d.Dial(tc.network, tc.host)
		if err != nil {
			t.Fatalf("%s %s: %v", tc.network, tc.host, err)
		}
		if got := conn.RemoteAddr().String(); got != tc.real {
			t.Errorf("%s: RemoteAddr is %s", tc.network, got)
		}
		request := []byte{8, 0, 0, 0, 3, 1, 0, 1, 'x'}
		if tc.header == 0 {
			request[0] = 128
		}
		// Somebody else's reply is not for this conn.
		loose, err := p.a.ListenPacket(tc.network, "")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if n, err := conn.Write(request); n != len(request) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			b := make([]byte, 100)
			n, err := conn.Read(b)
			if err != nil || n != tc.header+len(request) || !bytes.Equal(b[tc.header+4:n], request[4:]) {
				t.Errorf("%s %s: Read = % x, %v", tc.network, tc.host, b[:n], err)
			}
		}
		c := conn.(*ICMPConn)
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, from, err := c.ReadFromIP(b)
		if err != nil || n != len(request) || from.String() != tc.real {
			t.Errorf("%s %s: ReadFromIP = % x, %v, %v", tc.network, tc.host, b[:n], from, err)
		}
		_, err = c.WriteTo(request, c.RemoteAddr())
		wantOp(t, err, "write", net.ErrWriteToConnected)
		_, err = loose.(net.Conn).Write(request)
		wantOp(t, err, "write", syscall.EDESTADDRREQ)
		_, err = c.Write(request[:7])
		wantOp(t, err, "write", syscall.EINVAL)
		conn.Close()
		loose.Close()
		_, err = conn.Read(b)
		wantOp(t, err, "read", net.ErrClosed)
	}
}

// TestICMPDialIP dials addresses that are values.
func TestICMPDialIP(t *testing.T) {
	p := newPair(t)
	d := &Dialer{Stack: p.a}
	c, err := d.DialIP(t.Context(), "ip4:icmp", netip.MustParseAddr(addrA), netip.MustParseAddr(addrB))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if from, to := c.LocalAddr().String(), c.RemoteAddr().String(); from != addrA || to != addrB {
		t.Errorf("from %s to %s", from, to)
	}
	for _, tc := range []struct {
		network  string
		from, to string
		want     error
	}{
		{"ip4:tcp", "", addrB, net.UnknownNetworkError("ip4:tcp")},
		{"ip4:icmp", "10.9.9.9", addrB, syscall.EADDRNOTAVAIL},
		{"ip6:ipv6-icmp", "fe80::1%77", addrB6, syscall.ENODEV},
		{"ip6:ipv6-icmp", "", "fe80::1%77", syscall.ENETUNREACH},
	} {
		from, _ := netip.ParseAddr(tc.from)
		_, err := d.DialIP(t.Context(), tc.network, from, netip.MustParseAddr(tc.to))
		wantOp(t, err, "dial", tc.want)
	}
}

// TestICMPControl sends requests with a TTL, a TOS and a source of their own.
func TestICMPControl(t *testing.T) {
	p := newPair(t)
	headers := make(chan header.IPv4, 8)
	look := func(pkt *gstack.PacketBuffer) {
		headers <- slices.Clone(header.IPv4(pkt.NetworkHeader().Slice()))
	}
	p.wa.saw.Store(&look)
	l, err := p.a.ListenPacket("ip4:icmp", "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, to := l.(*ICMPConn), &net.IPAddr{IP: net.ParseIP(addrB)}
	for _, tc := range []struct{ ttl, tos uint8 }{{0, 0}, {3, 0}, {0, 0x28}, {255, 1}} {
		w := controlWriter{b: make([]byte, 64)}
		want := tc
		if tc.ttl == 0 {
			want.ttl = 64
		} else {
			w.addInt(levelIP, typeTTL, tc.ttl)
		}
		if tc.tos != 0 {
			w.addInt(levelIP, typeTOS, tc.tos)
		}
		n, oobn, err := c.WriteMsgIP([]byte{8, 0, 0, 0, 0, 1, 0, 1}, w.b[:w.n], to)
		if n != 8 || oobn != w.n || err != nil {
			t.Fatalf("WriteMsgIP = %d, %d, %v", n, oobn, err)
		}
		h := <-headers
		if tos, _ := h.TOS(); h.TTL() != want.ttl || tos != want.tos {
			t.Errorf("TTL %d, TOS %d, want %v", h.TTL(), tos, want)
		}
	}
	w := controlWriter{b: make([]byte, 64)}
	copy(w.add(levelIP, typeInfo, sizeInfo)[4:], net.ParseIP("10.9.9.9").To4())
	_, _, err = c.WriteMsgIP([]byte{8, 0, 0, 0, 0, 1, 0, 1}, w.b[:w.n], to)
	wantOp(t, err, "write", syscall.ENETUNREACH)
}

// TestICMPReadBuffer has more replies come than the buffer holds.
func TestICMPReadBuffer(t *testing.T) {
	p := newPair(t)
	l, err := p.a.ListenPacket("ip4:icmp", "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := l.(*ICMPConn)
	for _, tc := range []struct{ bytes, least, most int }{{1 << 20, 100, 100}, {1, 1, 10}} {
		if err := c.SetReadBuffer(tc.bytes); err != nil {
			t.Fatal(err)
		}
		request := append([]byte{8, 0, 0, 0, 0, 1, 0, 1}, make([]byte, 1000)...)
		for range 100 { // they are answered on this goroutine
			if _, err := c.WriteTo(request, ipAddr(netip.MustParseAddr("127.0.0.1"))); err != nil {
				t.Fatal(err)
			}
		}
		if c.icmp.in.n < tc.least || c.icmp.in.n > tc.most {
			t.Errorf("%d of 100 replies wait in a buffer of %d bytes, want %d to %d", c.icmp.in.n, tc.bytes, tc.least, tc.most)
		}
		for range c.icmp.in.n {
			if _, _, err := c.ReadFrom(request); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestICMPDialErrors(t *testing.T) {
	p := newPair(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	udp, far := &net.UDPAddr{}, &net.IPAddr{IP: net.ParseIP("10.9.9.9")}
	for _, tc := range []struct {
		d             Dialer
		network, host string
		ctx           context.Context
		want          error
	}{
		{Dialer{Stack: p.a}, "ip4:icmp", "", t.Context(), errMissingAddress},
		{Dialer{Stack: p.a}, "ip4:icmp", "192.0.2.1", t.Context(), syscall.ENETUNREACH},
		{Dialer{Stack: p.a}, "ip4:icmp", addrB, ctx, context.Canceled},
		{Dialer{Stack: p.a, LocalAddr: far}, "ip4:icmp", addrB, t.Context(), syscall.EADDRNOTAVAIL},
		{Dialer{Stack: p.a}, "ip4:tcp", addrB, t.Context(), net.UnknownNetworkError("ip4:tcp")},
	} {
		_, err := tc.d.DialContext(tc.ctx, tc.network, tc.host)
		wantOp(t, err, "dial", tc.want)
	}
	for _, tc := range []struct {
		d             Dialer
		network, host string
	}{
		{Dialer{Stack: p.a}, "ip4:icmp", addrB6},
		{Dialer{Stack: p.a, LocalAddr: far}, "ip6:ipv6-icmp", addrB6},
		{Dialer{Stack: p.a, LocalAddr: udp}, "ip4:icmp", addrB},
		{Dialer{}, "ip4:icmp", addrB},
	} {
		c, err := tc.d.Dial(tc.network, tc.host)
		if oe, ok := err.(*net.OpError); !ok || oe.Op != "dial" || c != nil {
			t.Errorf("%s %s: %v, %v", tc.network, tc.host, c, err)
		}
	}
}

// TestICMPErrorsOfICMP has each message come to a conn that was dialed and to one
// that was not.
func TestICMPErrorsOfICMP(t *testing.T) {
	p := guardedPair(t)
	for i, tc := range icmpCases {
		t.Run(fmt.Sprintf("%s type %d code %d", tc.host, tc.typ, tc.code), func(t *testing.T) {
			network, own, proto, request := "ip4:icmp", addrA, uint8(1), []byte{8, 0, 0, 0, 3, 1, 0, 1}
			if tc.host == addrB6 {
				network, own, proto, request[0] = "ip6:ipv6-icmp", addrA6, 58, 128
			}
			conn, err := p.a.Dial(network, tc.host)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			loose, err := p.a.ListenPacket(network, "")
			if err != nil {
				t.Fatal(err)
			}
			defer loose.Close()
			request[4] = byte(i) // replies to earlier ones may be under way
			other := slices.Clone(request)
			other[5]++
			c := conn.(*ICMPConn)
			exchange := func(write func() (int, error), c *ICMPConn) {
				t.Helper()
				if _, err := write(); err != nil {
					t.Fatal(err)
				}
				if n, _, err := c.ReadFrom(make([]byte, 100)); n != len(request) || err != nil {
					t.Fatalf("ReadFrom = %d, %v", n, err)
				}
			}
			mine := func() (int, error) { return c.Write(request) }
			theirs := func() (int, error) { return loose.WriteTo(other, c.RemoteAddr()) }
			exchange(mine, c)
			exchange(theirs, loose.(*ICMPConn))
			about := func(head []byte) {
				proto, b := complaint(tc.typ, tc.code, proto, netip.MustParseAddr(own), netip.MustParseAddr(tc.host), head)
				p.wa.inject(proto, b)
			}
			about(other)
			exchange(theirs, loose.(*ICMPConn)) // the message is dealt with before the reply
			reply := slices.Clone(request)
			reply[0] = map[bool]byte{false: 0, true: 129}[proto == 58]
			about(reply)
			exchange(mine, c)
			about(request)
			if !tc.udp {
				exchange(mine, c)
				return
			}
			want := tc.tcp
			if want == 0 {
				want = syscall.EMSGSIZE
			}
			_, err = c.Read(make([]byte, 100))
			wantOp(t, err, "read", want)
			about(request)
			if err := poll(func() error {
				if _, err := mine(); err != nil {
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
