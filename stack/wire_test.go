package stack

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A wireEnd is one end of an in-memory wire that carries IP packets in order.
// It is link and queueing discipline in one, and allocates nothing per packet.
type wireEnd struct {
	peer *wireEnd
	gso  bool
	addr tcpip.LinkAddress
	ch   chan *gstack.PacketBuffer
	done chan struct{}
	once sync.Once
	wg   sync.WaitGroup

	mu sync.RWMutex
	d  gstack.NetworkDispatcher

	hold atomic.Bool                                // keep packets: nothing leaves
	lose atomic.Pointer[func(proto uint8) bool]     // what this end does not send
	kept []*gstack.PacketBuffer                     // guarded by mu
	late atomic.Int64                               // packets written after Close
	saw  atomic.Pointer[func(*gstack.PacketBuffer)] // looks at packets sent
}

func newWire(gso bool) (*wireEnd, *wireEnd) {
	a := &wireEnd{gso: gso, ch: make(chan *gstack.PacketBuffer, 16384), done: make(chan struct{})}
	b := &wireEnd{gso: gso, ch: make(chan *gstack.PacketBuffer, 16384), done: make(chan struct{})}
	a.peer, b.peer = b, a
	return a, b
}

func (e *wireEnd) MTU() uint32                           { return 1500 }
func (e *wireEnd) SetMTU(uint32)                         {}
func (e *wireEnd) MaxHeaderLength() uint16               { return 0 }
func (e *wireEnd) LinkAddress() tcpip.LinkAddress        { return e.addr }
func (e *wireEnd) SetLinkAddress(tcpip.LinkAddress)      {}
func (e *wireEnd) SetOnCloseAction(func())               {}
func (e *wireEnd) AddHeader(*gstack.PacketBuffer)        {}
func (e *wireEnd) GSOMaxSize() uint32                    { return 65535 }
func (e *wireEnd) ParseHeader(*gstack.PacketBuffer) bool { return true }

func (e *wireEnd) Capabilities() gstack.LinkEndpointCapabilities { return 0 }

func (e *wireEnd) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

func (e *wireEnd) SupportedGSO() gstack.SupportedGSO {
	if e.gso {
		return gstack.HostGSOSupported
	}
	return gstack.GSONotSupported
}

func (e *wireEnd) Attach(d gstack.NetworkDispatcher) {
	e.mu.Lock()
	e.d = d
	e.mu.Unlock()
	if d == nil {
		e.Close()
		return
	}
	e.wg.Add(1)
	go e.deliver()
}

func (e *wireEnd) IsAttached() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.d != nil
}

func (e *wireEnd) Wait()  { e.wg.Wait() }
func (e *wireEnd) Close() { e.once.Do(func() { close(e.done) }) }

func (e *wireEnd) deliver() {
	defer e.wg.Done()
	for {
		select {
		case pkt := <-e.ch:
			e.mu.RLock()
			d := e.d
			e.mu.RUnlock()
			if d != nil {
				pkt.Hash = mark(pkt)
				d.DeliverNetworkPacket(pkt.NetworkProtocolNumber, pkt)
			}
			pkt.DecRef()
		case <-e.done:
			return
		}
	}
}

// mark is what a link that checks checksums says of a packet: see
// netdev.Verified.
func mark(pkt *gstack.PacketBuffer) uint32 {
	h, ok := pkt.Data().PullUp(header.IPv4MinimumSize)
	if !ok {
		return 0
	}
	verified := header.IPVersion(h) == 4 && ipv4Verified(h)
	if header.IPVersion(h) == 6 {
		// This may move the bytes: h is of no use after it.
		h6, ok := pkt.Data().PullUp(header.IPv6MinimumSize + header.UDPMinimumSize)
		verified = ok && ipv6Verified(h6)
	}
	if verified {
		return 1
	}
	return 0
}

// ipv4Verified reports whether the packet that begins with h, an IPv4 header,
// is one whose checksums a link that checks them has checked.
func ipv4Verified(h []byte) bool {
	const fragment = 0x3fff // "more fragments" and the offset; big endian
	if binary.BigEndian.Uint16(h[6:])&fragment != 0 {
		return false
	}
	p := tcpip.TransportProtocolNumber(h[9])
	return p == header.TCPProtocolNumber || p == header.UDPProtocolNumber
}

// ipv6Verified does for an IPv6 header, with 8 bytes that follow it, what
// ipv4Verified does for IPv4. A packet with extension headers is not one:
// nothing before netstack looks behind them.
func ipv6Verified(h []byte) bool {
	switch tcpip.TransportProtocolNumber(h[6]) {
	case header.TCPProtocolNumber:
		return true
	case header.UDPProtocolNumber:
		// No checksum is wrong here, unlike in IPv4. Netstack drops it.
		udp := header.UDP(h[header.IPv6MinimumSize:])
		return udp.Checksum() != 0
	}
	return false
}

func (e *wireEnd) WritePackets(l gstack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range l.AsSlice() {
		e.WritePacket(pkt)
	}
	return l.Len(), nil
}

// WritePacket implements gstack.QueueingDiscipline.
func (e *wireEnd) WritePacket(pkt *gstack.PacketBuffer) tcpip.Error {
	select {
	case <-e.done:
		e.late.Add(1)
		return nil
	default:
	}
	if f := e.lose.Load(); f != nil && (*f)(uint8(pkt.TransportProtocolNumber)) {
		return nil
	}
	if f := e.saw.Load(); f != nil {
		(*f)(pkt)
	}
	if e.hold.Load() {
		e.mu.Lock()
		e.kept = append(e.kept, pkt.IncRef())
		e.mu.Unlock()
		return nil
	}
	in := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: pkt.ToBuffer()})
	in.NetworkProtocolNumber = pkt.NetworkProtocolNumber
	select {
	case e.peer.ch <- in:
	default:
		in.DecRef()
	}
	return nil
}

// release drops what hold has kept.
func (e *wireEnd) release() {
	e.hold.Store(false)
	e.mu.Lock()
	kept := e.kept
	e.kept = nil
	e.mu.Unlock()
	for _, pkt := range kept {
		pkt.DecRef()
	}
}

// loseAll makes the end send no packets of an IP protocol; 0 is all of them.
func (e *wireEnd) loseAll(proto uint8) {
	f := func(p uint8) bool { return proto == 0 || p == proto }
	e.lose.Store(&f)
}

// inject delivers a packet to this end as if the peer had sent it.
func (e *wireEnd) inject(proto tcpip.NetworkProtocolNumber, b []byte) {
	in := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	in.NetworkProtocolNumber = proto
	e.ch <- in
}

// parks is an idler that tells when a goroutine is about to sleep.
type parks chan struct{}

func (p parks) PollBeforePark(interface{ Woken() bool }) {
	select {
	case p <- struct{}{}:
	default:
	}
}

func (parks) BeginBulk() {}
func (parks) EndBulk()   {}

// wait returns after a goroutine that starts to wait after the last call of
// drain has parked.
func (p parks) wait(t testing.TB) {
	t.Helper()
	select {
	case <-p:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody parks")
	}
}

func (p parks) drain() {
	for len(p) != 0 {
		<-p
	}
}

const (
	addrA  = "10.0.0.1"
	addrB  = "10.0.0.2"
	addrA6 = "fd00::1"
	addrB6 = "fd00::2"
)

func testConfig(addrs ...string) Config {
	var c Config
	for _, a := range addrs {
		p := netip.MustParseAddr(a)
		bits := 24
		if p.Is6() {
			bits = 64
		}
		c.Addresses = append(c.Addresses, netip.PrefixFrom(p, bits))
	}
	return c
}

// A pair is two stacks joined by a wire.
type pair struct {
	a, b         *Stack
	wa, wb       *wireEnd
	parkA, parkB parks
}

type pairOptions struct {
	gso      bool // the wire takes segments of 64 KB
	verified bool // the wire checks checksums, it is said
	a, b     Config
}

func newPair(t testing.TB) *pair {
	return newPairWith(t, pairOptions{a: testConfig(addrA, addrA6), b: testConfig(addrB, addrB6)})
}

func newPairWith(t testing.TB, o pairOptions) *pair {
	t.Helper()
	p := &pair{parkA: make(parks, 1), parkB: make(parks, 1)}
	p.wa, p.wb = newWire(o.gso)
	var err error
	if p.a, err = newStack(WithFlag(o.a), p.wa, p.wa, o.verified, p.parkA); err != nil {
		t.Fatal(err)
	}
	if p.b, err = newStack(WithFlag(o.b), p.wb, p.wb, o.verified, p.parkB); err != nil {
		t.Fatal(err)
	}
	pairs.Add(1)
	t.Cleanup(func() {
		p.wa.release()
		p.wb.release()
		p.a.Close()
		p.b.Close()
		if pairs.Add(-1) == 0 {
			noGoroutines(t)
		}
	})
	return p
}

// pairs counts those in use.
var pairs atomic.Int32

// noGoroutines fails if goroutines of a stack outlive it.
func noGoroutines(t testing.TB) {
	t.Helper()
	var all string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		buf := make([]byte, 1<<20)
		all = string(buf[:runtime.Stack(buf, true)])
		_, others, _ := strings.Cut(all, "\n\n") // the first is this one
		if !strings.Contains(others, "gvisor.dev/gvisor/pkg/tcpip") &&
			!strings.Contains(others, "afxnet/stack.(*") {
			return
		}
	}
	t.Errorf("goroutines are left:\n%s", all)
}

// connect returns a connection between the stacks, both ends.
func (p *pair) connect(t testing.TB, network, host string) (c, s *TCPConn) {
	t.Helper()
	l, err := p.b.Listen(network, net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return p.connectTo(t, l)
}

func (p *pair) connectTo(t testing.TB, l net.Listener) (c, s *TCPConn) {
	t.Helper()
	conn, err := p.a.DialContext(context.Background(), "tcp", dialable(l.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); accepted.Close() })
	p.parkA.drain()
	p.parkB.drain()
	return conn.(*TCPConn), accepted.(*TCPConn)
}

// dialable returns the address to dial for one of b's listeners.
func dialable(a net.Addr) string {
	ap := netip.MustParseAddrPort(a.String())
	if ap.Addr().IsUnspecified() {
		return net.JoinHostPort(addrB, portOf(a))
	}
	return a.String()
}

func portOf(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return port
}

// within fails if f does not return soon.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		buf := make([]byte, 1<<20)
		t.Fatalf("%s does not return:\n%s", what, buf[:runtime.Stack(buf, true)])
	}
}
