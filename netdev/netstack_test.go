package netdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/xsk"
)

// newNetstack makes a netstack of gVisor's own making over a device.
func newNetstack(tb testing.TB, d *Device, v4, v6 []byte) *gstack.Stack {
	tb.Helper()
	s := gstack.New(gstack.Options{
		NetworkProtocols: []gstack.NetworkProtocolFactory{
			arp.NewProtocol, ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{}), // no duplicate address detection
		},
		TransportProtocols: []gstack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		HandleLocal:        true,
	})
	rec := tcpip.TCPRecovery(0)
	s.SetTransportProtocolOption(tcp.ProtocolNumber, &rec)
	if err := s.CreateNICWithOptions(1, d.LinkEndpoint(), gstack.NICOptions{QDisc: d.QDisc()}); err != nil {
		tb.Fatal(err)
	}
	for _, a := range []tcpip.ProtocolAddress{
		{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(v4), PrefixLen: 24}},
		{Protocol: ipv6.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(v6), PrefixLen: 64}},
	} {
		if err := s.AddProtocolAddress(1, a, gstack.AddressProperties{}); err != nil {
			tb.Fatal(err)
		}
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}, {Destination: header.IPv6EmptySubnet, NIC: 1}})
	return s
}

// link is two netstacks over two devices and a wire.
type link struct {
	w *wire.Wire
	d [2]*Device
	s [2]*gstack.Stack

	tb testing.TB
}

type linkConfig struct {
	cfg    [2]Config
	chosen bool // cfg says which mechanisms are on; otherwise -afxnet.off does
	wire   wire.Config
	mtu    int
	rings  uint32 // descriptors of each ring; 0 means 256
	tx     uint32 // of the TX and completion ring, if they are others
	queues int
}

func newLink(tb testing.TB, c linkConfig) *link {
	tb.Helper()
	if c.mtu == 0 {
		c.mtu = 1500
	}
	if c.rings == 0 {
		c.rings = 256
	}
	if c.tx == 0 {
		c.tx = c.rings
	}
	c.queues = max(c.queues, 1)
	chunk := chunkFor(c.mtu)
	for i := range c.wire.Ports {
		p := &c.wire.Ports[i]
		p.MTU, p.Queues, p.MultiBuffer = c.mtu, c.queues, c.mtu > chunkMTU(chunk)
	}
	w, err := wire.New(c.wire)
	if err != nil {
		tb.Fatal(err)
	}
	l := &link{w: w}
	for i := range l.d {
		var socks []*xsk.Socket
		for q := range c.queues {
			socks = append(socks, openSocket(tb, w.Port(i), q, chunk, max(32, 2*int(c.rings+c.tx)), c.rings, c.tx))
		}
		if !c.chosen {
			c.cfg[i] = withFlag(c.cfg[i])
		}
		l.d[i], err = NewOn(socks, Link{Name: w.Port(i).Name(), MAC: w.Port(i).MAC(), MTU: c.mtu}, c.cfg[i])
		if err != nil {
			tb.Fatal(err)
		}
		l.s[i] = newNetstack(tb, l.d[i], addr4[i], addr6[i])
	}
	// So that tests that count packets do not see ARP.
	for i := range l.s {
		for proto, a := range map[tcpip.NetworkProtocolNumber][]byte{ipv4.ProtocolNumber: addr4[1-i], ipv6.ProtocolNumber: addr6[1-i]} {
			if err := l.s[i].AddStaticNeighbor(1, proto, tcpip.AddrFromSlice(a), tcpip.LinkAddress(w.Port(1-i).MAC())); err != nil {
				tb.Fatal(err)
			}
		}
	}
	tb.Cleanup(l.close)
	l.tb = tb
	return l
}

func (l *link) close() {
	l.tb.Helper()
	for i := range l.s {
		l.s[i].Destroy()
	}
	if err := l.w.WaitIdle(context.Background()); err != nil {
		l.tb.Error(err)
	}
	for i := range l.d {
		for _, q := range l.d[i].queues {
			q.pollMu.Lock()
			for !q.dead && q.poll() != 0 {
			}
			q.leave()
		}
		if err := l.d[i].Close(); err != nil {
			l.tb.Error(err)
		}
		l.checkCounts(i)
	}
	for i := range l.d {
		checkAudit(l.tb, l.d[i])
	}
	if err := l.w.Close(); err != nil {
		l.tb.Error(err)
	}
	checkWire(l.tb, l.w)
}

// checkCounts fails unless every frame that the sockets received is in exactly
// one counter.
func (l *link) checkCounts(i int) {
	l.tb.Helper()
	st, err := l.d[i].Stats()
	if err != nil {
		l.tb.Error(err)
	}
	var received, ended uint64
	for _, q := range st.Queues {
		received += q.Socket.RXFrames
		ended += q.RXDelivered
		for name, n := range q.Drops {
			switch name {
			case "rx bad descriptor", "rx over several frames", "rx kernel: fill ring empty or frame too long", "rx kernel: RX ring full":
			default:
				if name[:3] == "rx " {
					ended += n
				}
			}
		}
	}
	if received != ended {
		l.tb.Errorf("port %d: %d frames received, %d accounted for", i, received, ended)
	}
	var arrived uint64
	dir := l.w.Stats()[1-i]
	for _, q := range st.Queues {
		arrived += q.Socket.RXFrames + q.Socket.RXBadDescs
	}
	if arrived > dir.Delivered+dir.DeliveredCorrupt {
		l.tb.Errorf("port %d: %d frames received, the wire delivered %d", i, arrived, dir.Delivered+dir.DeliveredCorrupt)
	}
}

// connect makes n TCP connections from port 0 to port 1.
func (l *link) connect(n int) (c, s []net.Conn) {
	l.tb.Helper()
	ln, err := gonet.ListenTCP(l.s[1], tcpip.FullAddress{Port: 7}, ipv4.ProtocolNumber)
	if err != nil {
		l.tb.Fatal(err)
	}
	defer ln.Close()
	for range n {
		conn, err := gonet.DialTCP(l.s[0], tcpip.FullAddress{Addr: tcpip.AddrFromSlice(addr4[1]), Port: 7}, ipv4.ProtocolNumber)
		if err != nil {
			l.tb.Fatal(err)
		}
		peer, err := ln.Accept()
		if err != nil {
			l.tb.Fatal(err)
		}
		c, s = append(c, conn), append(s, peer)
	}
	return c, s
}

func udpAddr(port int, i uint16) *tcpip.FullAddress {
	return &tcpip.FullAddress{Addr: tcpip.AddrFromSlice(addr4[port]), Port: i}
}

// writeUDP writes a datagram. gonet asks to be told of room after the write that
// found none, and waits for ever if the room came in between: so it is asked again.
func writeUDP(c *gonet.UDPConn, b []byte) error {
	for {
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := c.Write(b)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			return err
		}
	}
}

// transfer sends n bytes of a pattern over a connection and checks them.
func transfer(tb testing.TB, c, s net.Conn, seed uint32, n int) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for off := 0; off < n; off += 1 << 16 {
			if _, err := c.Write(pattern(seed+uint32(off), min(1<<16, n-off))); err != nil {
				tb.Error(err)
				return
			}
		}
	})
	buf := make([]byte, 1<<16)
	for off := 0; off < n; off += 1 << 16 {
		b := buf[:min(1<<16, n-off)]
		if _, err := io.ReadFull(s, b); err != nil {
			tb.Error(err)
			break
		}
		if string(b) != string(pattern(seed+uint32(off), len(b))) {
			tb.Errorf("flow %d differs after byte %d", seed, off)
			break
		}
	}
	wg.Wait()
}

// TestTinyRings has more connections than ring slots: all get their bytes
// through, and a UDP sender beside them.
func TestTinyRings(t *testing.T) {
	for _, rings := range []uint32{2, 4, 16} {
		t.Run(fmt.Sprintf("ring=%d", rings), func(t *testing.T) {
			l := newLink(t, linkConfig{rings: 2048, tx: rings})
			c, s := l.connect(64)
			u, err := gonet.DialUDP(l.s[0], udpAddr(0, 9), udpAddr(1, 9), ipv4.ProtocolNumber)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			to, err := gonet.DialUDP(l.s[1], udpAddr(1, 9), nil, ipv4.ProtocolNumber)
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			var wg sync.WaitGroup
			wg.Go(func() {
				b := make([]byte, 5000)
				for range 100 {
					if err := writeUDP(u, b); err != nil {
						t.Error(err)
					}
				}
			})
			for i := range c {
				wg.Go(func() { transfer(t, c[i], s[i], uint32(i)<<20, 20000) })
			}
			wg.Wait()
			for i := range c {
				c[i].Close()
				s[i].Close()
			}
		})
	}
}

// TestFaults transfers over a bad wire with several queues.
func TestFaults(t *testing.T) {
	f := wire.Faults{Loss: 0.005, Duplicate: 0.02, Corrupt: 0.01, Reorder: 0.02, ReorderBy: 3}
	for _, queues := range []int{1, 3} {
		l := newLink(t, linkConfig{queues: queues, wire: wire.Config{Faults: [2]wire.Faults{f, f}}})
		t.Logf("wire seed %d", l.w.Seed())
		c, s := l.connect(6)
		var wg sync.WaitGroup
		for i := range c {
			wg.Go(func() { transfer(t, c[i], s[i], uint32(i)<<20, 30000) })
			wg.Go(func() { transfer(t, s[i], c[i], uint32(i)<<20, 10000) })
		}
		wg.Wait()
		for i := range c {
			c[i].Close()
			s[i].Close()
		}
	}
}

// TestFragmentChecksum sends datagrams in two fragments: netstack has to check
// the sum of what it makes of them.
func TestFragmentChecksum(t *testing.T) {
	r := newRig(t, rigConfig{})
	s := newNetstack(t, r.d, addr4[0], addr6[0])
	defer s.Destroy()
	c, err := gonet.DialUDP(s, udpAddr(0, 53), nil, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send := func(id uint16, text string, bad bool) {
		f := frame{proto: packet.ProtoUDP, sport: 1, dport: 53, payload: []byte(text), bad: bad}.bytes()
		udp := f[34:]
		const cut = 24
		for _, part := range []frame{
			{proto: 17, id: id, frag: 0x2000, payload: udp[:cut]},
			{proto: 17, id: id, frag: cut / 8, payload: udp[cut:]},
		} {
			part.proto = 253 // built without a transport header
			b := part.bytes()
			b[23] = packet.ProtoUDP
			b[24], b[25] = 0, 0
			sum := ^naiveSum(b[14:34])
			b[24], b[25] = byte(sum>>8), byte(sum)
			r.w.Port(1).Send(b)
		}
	}
	send(1, "the checksum of this one is wrong.", true)
	send(2, "the checksum of this one is right.", false)
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil || string(b[:n]) != "the checksum of this one is right." {
		t.Errorf("%q, %v", b[:n], err)
	}
	if n := s.Stats().UDP.ChecksumErrors.Value(); n != 1 {
		t.Errorf("%d checksum errors, want 1", n)
	}
}

// TestRequestResponse counts packets: one each way per exchange.
func TestRequestResponse(t *testing.T) {
	l := newLink(t, linkConfig{chosen: true})
	cs, ss := l.connect(1)
	c, s := cs[0], ss[0]
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 64)
		for {
			if _, err := io.ReadFull(s, b); err != nil {
				return
			}
			if _, err := s.Write(b); err != nil {
				return
			}
		}
	})
	b := make([]byte, 64)
	exchange := func() {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		exchange()
	}
	sent := func() (n, again [2]uint64) {
		for i := range n {
			st, _ := l.d[i].Stats()
			n[i] = st.Queues[0].TXFrames - st.Queues[0].TXACKsLate
			again[i] = l.s[i].Stats().TCP.Retransmits.Value()
		}
		return n, again
	}
	_, againBefore := sent() // first, or the frame of what is sent again meanwhile would be too many
	before, _ := sent()
	const n = 500
	for range n {
		exchange()
	}
	after, again := sent()
	var repeated uint64 // one frame more each, and at most two from the other end
	for i := range again {
		repeated += again[i] - againBefore[i]
	}
	for i := range after {
		// An ACK that the timer sends because this machine was slow is not
		// counted. The last one may be of the exchange before. What is sent again
		// to who holds an ACK back has it send that one and another.
		if got := after[i] - before[i]; got > n+1+2*repeated {
			t.Errorf("port %d: %d frames for %d exchanges, with %d segments sent again", i, got, n, repeated)
		}
	}
	c.Close()
	s.Close()
	wg.Wait()
}

// TestReadOnly has an application that only reads: its ACKs get out, or the
// sender would stop at its window.
func TestReadOnly(t *testing.T) {
	l := newLink(t, linkConfig{})
	c, s := l.connect(1)
	var wg sync.WaitGroup
	wg.Go(func() { transfer(t, c[0], s[0], 0, 4<<20) })
	wg.Wait()
	for i := range 100 { // one small segment at a time
		b := pattern(uint32(i), 10)
		if _, err := c[0].Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s[0], b); err != nil {
			t.Fatal(err)
		}
	}
	c[0].Close()
	s[0].Close()
}
