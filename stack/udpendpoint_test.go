package stack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// TestUDPPorts opens sockets beside each other, and beside netstack's own.
func TestUDPPorts(t *testing.T) {
	p := newPair(t)
	listen := func(network, at string) (func(), error) {
		c, err := p.a.ListenPacket(network, at)
		if err != nil {
			return nil, err
		}
		return func() { c.Close() }, nil
	}
	dial := func(laddr string) (func(), error) {
		c, err := p.a.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(laddr)), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 9})
		if err != nil {
			return nil, err
		}
		return func() { c.Close() }, nil
	}
	foreign := func(a string) (func(), error) {
		ep, terr := p.a.ns.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, new(waiter.Queue))
		if terr != nil {
			return nil, errno(terr)
		}
		if terr := ep.Bind(fullAddress(netip.MustParseAddrPort(a))); terr != nil {
			ep.Close()
			return nil, errno(terr)
		}
		return ep.Close, nil
	}
	all := map[string]func() (func(), error){
		"any":           func() (func(), error) { return listen("udp", ":53") },
		"any IPv4":      func() (func(), error) { return listen("udp4", ":53") },
		"any IPv6":      func() (func(), error) { return listen("udp6", ":53") },
		"IPv4":          func() (func(), error) { return listen("udp", addrA+":53") },
		"IPv6":          func() (func(), error) { return listen("udp", "["+addrA6+"]:53") },
		"dialed":        func() (func(), error) { return dial(addrA + ":53") },
		"dialed any":    func() (func(), error) { return dial("0.0.0.0:53") },
		"netstack":      func() (func(), error) { return foreign(addrA + ":53") },
		"netstack any4": func() (func(), error) { return foreign("0.0.0.0:53") },
	}
	v4 := func(name string) bool { return name != "any IPv6" && name != "IPv6" }
	v6 := func(name string) bool { return name == "any" || name == "any IPv6" || name == "IPv6" }
	for first, open := range all {
		for second, again := range all {
			end, err := open()
			if err != nil {
				t.Fatalf("%s: %v", first, err)
			}
			clash := v4(first) && v4(second) || v6(first) && v6(second)
			other, err := again()
			if clash != errors.Is(err, syscall.EADDRINUSE) || !clash && err != nil {
				t.Errorf("%s after %s: %v", second, first, err)
			}
			if other != nil {
				other()
			}
			end()
		}
	}
	// A peer makes the address of a wildcard known.
	c, err := p.a.DialUDP("udp", &net.UDPAddr{Port: 53}, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.LocalAddr().String(); got != addrA+":53" {
		t.Errorf("LocalAddr is %s", got)
	}
	c.Close()
	if n := p.a.Stats().Endpoints; n != 0 {
		t.Errorf("%d endpoints are left", n)
	}
}

// TestUDPRefusedOnce sees that Write tells a refusal too, that it is told once,
// and that a socket that is not connected hears of none.
func TestUDPRefusedOnce(t *testing.T) {
	p := guardedPair(t)
	for _, host := range []string{addrB, addrB6} {
		conn, err := p.a.Dial("udp", net.JoinHostPort(host, "9"))
		if err != nil {
			t.Fatal(err)
		}
		c := conn.(*UDPConn)
		u := listenUDP(t, p.a, "udp", ":0")
		to := c.RemoteAddr().(*net.UDPAddr).AddrPort()
		if _, err := u.WriteToUDPAddrPort([]byte("x"), to); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := poll(func() error {
			if c.udp.untold.errno.Load() == 0 {
				return errors.New("no refusal has come")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		_, err = c.Write([]byte("x"))
		wantOp(t, err, "write", syscall.ECONNREFUSED)
		if c.udp.untold.errno.Load() != 0 || u.udp.untold.errno.Load() != 0 {
			t.Error("a refusal is left")
		}
		u.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, _, err = u.ReadFrom(make([]byte, 1))
		wantTimeout(t, err, "read")
		c.Close()
	}
}

// TestUDPOverflow fills receive buffers.
func TestUDPOverflow(t *testing.T) {
	p := newPair(t)
	s := listenUDP(t, p.b, "udp", ":53")
	c, err := p.a.Dial("udp", addrB+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	flood := func(n int) (kept int) {
		t.Helper()
		offered, dropped := s.udp.in.counts()
		for range n {
			if _, err := c.Write(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := poll(func() error {
			if now, _ := s.udp.in.counts(); now != offered+uint64(n) {
				return fmt.Errorf("%d of %d have come", now-offered, n)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for ; ; kept++ {
			if d, ok := s.udp.in.pop(); ok {
				d.pkt.DecRef()
			} else {
				break
			}
		}
		if lost := int(s.Dropped() - dropped); kept+lost != n {
			t.Errorf("%d datagrams were kept and %d dropped of %d", kept, lost, n)
		}
		return kept
	}
	for _, size := range []int{8 << 10, 64 << 10, 8 << 10} {
		s.SetReadBuffer(size) // doubled
		// Each is charged for 1000 bytes, its headers and what netstack adds.
		each := 1000 + 28 + gstack.PacketBufferStructSize
		if got, want := flood(200), (2*size+each-1)/each; got != want {
			t.Errorf("%d datagrams were kept in %d bytes, want %d", got, 2*size, want)
		}
	}
	// The stack counts after the socket.
	if err := poll(func() error {
		ours, theirs := p.b.Stats().DroppedDatagrams, p.b.ns.Stats().UDP.ReceiveBufferErrors.Value()
		if ours != s.Dropped() || theirs != s.Dropped() {
			return fmt.Errorf("dropped %d, netstack %d, socket %d", ours, theirs, s.Dropped())
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestUDPChecksums sends datagrams of many lengths, and one that has the checksum
// which must not be sent.
func TestUDPChecksums(t *testing.T) {
	p := newPair(t)
	sums := make(chan uint16, 1)
	look := func(pkt *gstack.PacketBuffer) {
		if pkt.TransportProtocolNumber != udp.ProtocolNumber {
			return
		}
		ip, h := pkt.Network(), header.UDP(pkt.TransportHeader().Slice())
		if !h.IsChecksumValid(ip.SourceAddress(), ip.DestinationAddress(), pkt.Data().Checksum()) {
			t.Errorf("%d bytes to %v: checksum %#x", pkt.Data().Size(), ip.DestinationAddress(), h.Checksum())
		}
		sums <- h.Checksum()
	}
	p.wa.saw.Store(&look)
	for _, host := range []string{addrB, addrB6} {
		listenUDP(t, p.b, "udp", net.JoinHostPort(host, "53"))
		c, err := p.a.Dial("udp", net.JoinHostPort(host, "53"))
		if err != nil {
			t.Fatal(err)
		}
		send := func(b []byte) uint16 {
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
			return <-sums
		}
		b := make([]byte, 1400)
		// What is missing to a sum of all ones, the inverse of zero.
		missing := send(b[:2])
		binary.BigEndian.PutUint16(b, missing)
		if got := send(b[:2]); got != 0xffff {
			t.Errorf("%s: the checksum sent is %#x, want 0xffff", host, got)
		}
		for n := range b {
			b[n] = byte(7 * n)
			send(b[:n])
		}
		c.Close()
	}
}

// TestUDPGroups sends to groups and networks: all who have the port get it.
func TestUDPGroups(t *testing.T) {
	p := newPair(t)
	group4, group6 := netip.MustParseAddr("224.0.0.251"), netip.MustParseAddr("ff02::fb")
	for _, s := range []*Stack{p.a, p.b} {
		for _, g := range []netip.Addr{group4, group6} {
			if terr := s.ns.JoinGroup(familyOf(g), nicID, tcpipAddr(g)); terr != nil {
				t.Fatal(terr)
			}
		}
	}
	var ttl atomic.Int32
	look := func(pkt *gstack.PacketBuffer) {
		if pkt.TransportProtocolNumber != udp.ProtocolNumber {
			return
		}
		if h := pkt.NetworkHeader().Slice(); pkt.NetworkProtocolNumber == ipv4.ProtocolNumber {
			ttl.Store(int32(header.IPv4(h).TTL()))
		} else {
			ttl.Store(int32(header.IPv6(h).HopLimit()))
		}
	}
	p.wa.saw.Store(&look)
	from := listenUDP(t, p.a, "udp", ":54")
	for _, tc := range []struct {
		to     netip.Addr
		locals []string // sockets on b
		loops  bool     // a's sockets hear it too
		hops   int32
	}{
		{group4, []string{":53"}, true, 1},
		{group4, []string{group4.String() + ":53"}, true, 1},
		{group6, []string{":53"}, true, 1},
		{group6, []string{"[ff02::fb]:53"}, true, 1},
		{netip.MustParseAddr("10.0.0.255"), []string{":53"}, true, 64},
		{netip.MustParseAddr("10.0.0.255"), []string{"10.0.0.255:53"}, true, 64},
	} {
		var socks []*UDPConn
		for _, l := range tc.locals {
			socks = append(socks, listenUDP(t, p.b, "udp", l))
		}
		if tc.loops {
			socks = append(socks, listenUDP(t, p.a, "udp", tc.locals[0]))
		}
		if _, err := from.WriteToUDPAddrPort([]byte("to all"), netip.AddrPortFrom(tc.to, 53)); err != nil {
			t.Fatalf("%v: %v", tc.to, err)
		}
		for i, s := range socks {
			s.SetReadDeadline(time.Now().Add(10 * time.Second))
			b := make([]byte, 10)
			n, src, err := s.ReadFromUDPAddrPort(b)
			if string(b[:n]) != "to all" || src.Port() != 54 || err != nil {
				t.Errorf("%v on %v, socket %d: %q from %v, %v", tc.to, s.LocalAddr(), i, b[:n], src, err)
			}
			s.Close()
		}
		if got := ttl.Load(); got != tc.hops {
			t.Errorf("%v: TTL %d, want %d", tc.to, got, tc.hops)
		}
	}
	// A socket of a group answers from an address of its own.
	u := listenUDP(t, p.b, "udp", group4.String()+":53")
	if _, err := u.WriteToUDPAddrPort([]byte("answer"), netip.AddrPortFrom(netip.MustParseAddr(addrA), 54)); err != nil {
		t.Fatal(err)
	}
	for {
		b := make([]byte, 10)
		n, src, err := from.ReadFromUDPAddrPort(b)
		if err != nil {
			t.Fatal(err)
		}
		if string(b[:n]) == "answer" {
			if src.String() != addrB+":53" {
				t.Errorf("the answer came from %v", src)
			}
			break
		}
	}
}

// TestUDPRoutes sends to more addresses than routes are kept for, and after the
// routes have changed.
func TestUDPRoutes(t *testing.T) {
	cfg := testConfig(addrA)
	cfg.Addresses[0] = netip.MustParsePrefix("10.0.0.1/8")
	p := newPairWith(t, pairOptions{a: cfg, b: testConfig(addrB)})
	var last atomic.Uint32
	look := func(pkt *gstack.PacketBuffer) {
		a := pkt.Network().DestinationAddress().As4()
		last.Store(binary.BigEndian.Uint32(a[:]))
	}
	p.wa.saw.Store(&look)
	u := listenUDP(t, p.a, "udp4", ":0")
	send := func(v uint32) error {
		_, err := u.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(addr4(v), 9))
		if got := last.Load(); err == nil && got != v {
			return fmt.Errorf("sent to %v", addr4(got))
		}
		return err
	}
	for range 2 {
		for i := range uint32(3 * maxRoutes) {
			v := uint32(10<<24+1<<16) + i*uint32(1+i%7)
			if err := send(v); err != nil {
				t.Fatalf("to %v: %v", addr4(v), err)
			}
			if r := u.udp.routes.find(addr4(v)); r == nil || r.RemoteAddress() != tcpipAddr(addr4(v)) {
				t.Fatalf("the route to %v is not kept", addr4(v))
			}
			if n := len(u.udp.routes.slots); n > maxRoutes || n&(n-1) != 0 {
				t.Fatalf("%d slots", n)
			}
		}
	}
	if n := len(u.udp.routes.slots); n != maxRoutes {
		t.Errorf("%d slots for %d routes", n, maxRoutes)
	}
	p.a.Netstack().SetRouteTable([]tcpip.Route{})
	wantOp(t, send(last.Load()), "write", syscall.ENETUNREACH) // although its route is kept
}

func addr4(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, v)))
}

// TestUDPConcurrent has many goroutines use two sockets: what was sent is
// received once, and nothing is charged at the end.
func TestUDPConcurrent(t *testing.T) {
	ow := newOverWire(t, overWireOptions{})
	for _, host := range []string{addrB, addrB6} {
		s := listenUDP(t, ow.s[1], "udp", ":53")
		conn, err := ow.s[0].Dial("udp", net.JoinHostPort(host, "53"))
		if err != nil {
			t.Fatal(err)
		}
		c := conn.(*UDPConn)
		// No more are under way than the rings hold, or some would be lost.
		const writers, each, window = 4, 500, 16
		room := make(chan struct{}, window)
		var sum, want atomic.Int64
		var sending, receiving sync.WaitGroup
		for range 3 {
			receiving.Go(func() {
				b := make([]byte, 3000)
				for {
					n, _, err := s.ReadFromUDPAddrPort(b)
					if err != nil {
						if !errors.Is(err, net.ErrClosed) {
							t.Error(err)
						}
						return
					}
					if n < 8 || n != int(binary.BigEndian.Uint32(b)) {
						t.Errorf("a datagram of %d bytes says %d", n, binary.BigEndian.Uint32(b))
					}
					sum.Add(int64(binary.BigEndian.Uint32(b[4:])))
					<-room
				}
			})
		}
		for w := range writers {
			sending.Go(func() {
				b := make([]byte, 3000)
				for i := range each {
					k := w*each + i
					n := 8 + k%1900 // some are fragmented
					binary.BigEndian.PutUint32(b, uint32(n))
					binary.BigEndian.PutUint32(b[4:], uint32(k))
					room <- struct{}{}
					want.Add(int64(k))
					if _, err := c.Write(b[:n]); err != nil {
						t.Error(err)
						return
					}
					c.SetWriteDeadline(time.Now().Add(time.Minute))
				}
			})
		}
		sending.Wait()
		if err := poll(func() error {
			if len(room) != 0 {
				return fmt.Errorf("%d datagrams have not come", len(room))
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if sum.Load() != want.Load() {
			t.Errorf("the numbers received add up to %d, want %d", sum.Load(), want.Load())
		}
		s.Close()
		within(t, "the readers", receiving.Wait)
		ow.rest(t)
		c.udp.out.mu.Lock()
		if c.udp.out.bytes != 0 {
			t.Errorf("%d bytes are charged and nothing is under way", c.udp.out.bytes)
		}
		c.udp.out.mu.Unlock()
		c.Close()
	}
}

// TestUDPFlows looks whether the flows of sockets are spread over all queues of a
// device, which has an even number of them mostly, and takes the remainder.
func TestUDPFlows(t *testing.T) {
	p := newPair(t)
	var seen [4]bool
	for range 200 {
		u := listenUDP(t, p.a, "udp", ":0")
		seen[u.udp.hash%4] = true
	}
	if seen != [4]bool{true, true, true, true} {
		t.Errorf("remainders seen: %v", seen)
	}
}
