package service

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/bench/internal/load"
	"github.com/afxnet/afxnet/bench/internal/peer"
)

// loopback is a peer on 127.0.0.1 that takes any free port for the one it is
// asked for.
type loopback struct {
	mu sync.Mutex
	at map[string]string // by network and port that was asked for
}

func (p *loopback) note(network, asked, got string) {
	_, port, _ := net.SplitHostPort(asked)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at[network[:3]+port] = got
}

func (p *loopback) address(network string, port int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at[network+strconv.Itoa(port)]
}

func (p *loopback) Listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, "127.0.0.1:0")
	if err == nil {
		p.note(network, address, l.Addr().String())
	}
	return l, err
}

func (p *loopback) ListenPacket(network, address string) (net.PacketConn, error) {
	c, err := net.ListenPacket(network, "127.0.0.1:0")
	if err == nil {
		p.note(network, address, c.LocalAddr().String())
	}
	return c, err
}

func (*loopback) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}
func (*loopback) Counters() map[string]uint64 { return nil }
func (*loopback) Info() map[string]string     { return nil }
func (*loopback) Close() error                { return nil }

func start(t *testing.T) *loopback {
	t.Helper()
	p := &loopback{at: make(map[string]string)}
	s, err := Start(p, netip.MustParseAddr("127.0.0.1"), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return p
}

// TestServices drives every service with the bench's own client.
func TestServices(t *testing.T) {
	p := start(t)
	for _, tc := range []struct {
		kind    load.Kind
		network string
		port    int
		size    int
	}{
		{load.RR, "tcp", peer.EchoPort, 1},
		{load.RR, "tcp", peer.EchoPort, 16384}, // larger than the first buffer
		{load.RR, "udp", peer.EchoPort, 64},
		{load.CRR, "tcp", peer.EchoPort, 64},
		{load.Stream, "tcp", peer.SinkPort, 0},
		{load.Source, "tcp", peer.SourcePort, 0},
	} {
		spec := load.Spec{Kind: tc.kind, Network: tc.network, Address: p.address(tc.network, tc.port),
			Size: tc.size, Conns: 1, Duration: 20 * time.Millisecond}
		s, err := load.Prepare(t.Context(), spec)
		if err != nil {
			t.Errorf("%+v: %v", spec, err)
			continue
		}
		r, err := s.Run(t.Context(), spec)
		s.Finish()
		if err != nil || r.Ops < 1 || r.Bytes < 1 {
			t.Errorf("%+v: got %+v, %v", spec, r, err)
		}
	}
}

// TestJoin carries a message through the proxy, and the end of it back.
func TestJoin(t *testing.T) {
	p := start(t)
	s := &Set{closers: make(map[io.Closer]struct{})}
	a, b := tcpPair(t)
	var wg sync.WaitGroup
	wg.Go(func() { defer b.Close(); s.join(b, p.address("tcp", peer.EchoPort)) })
	defer wg.Wait()
	defer a.Close()
	if _, err := a.Write([]byte("through")); err != nil {
		t.Fatal(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(a); err != nil || string(got) != "through" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestClose ends services with connections in every state.
func TestClose(t *testing.T) {
	p := &loopback{at: make(map[string]string)}
	s, err := Start(p, netip.MustParseAddr("127.0.0.1"), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	for _, port := range []int{peer.EchoPort, peer.SinkPort, peer.SourcePort} {
		c, err := net.Dial("tcp", p.address("tcp", port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	if _, err := conns[0].Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conns[0], make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if n, err := conns[0].Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes of a service that is closed", n)
	}
	if c, err := net.Dial("tcp", p.address("tcp", peer.EchoPort)); err == nil {
		c.Close()
		t.Error("a service that is closed takes a connection")
	}
}

// shortListener has no file descriptor for a connection a few times.
type shortListener struct {
	net.Listener
	times int
}

func (l *shortListener) Accept() (net.Conn, error) {
	if l.times == 0 {
		return l.Listener.Accept()
	}
	l.times--
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
}

// TestAcceptGoesOn serves who has waited while there were no file descriptors.
func TestAcceptGoesOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Set{ended: make(chan struct{}), closers: make(map[io.Closer]struct{})}
	defer s.Close()
	s.add(l)
	served, over := make(chan struct{}), make(chan struct{})
	s.wg.Go(func() {
		defer close(over)
		s.accept(&shortListener{l, 2}, func(net.Conn) { close(served) })
	})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	select {
	case <-served:
	case <-over:
		t.Error("nobody is served after two errors")
	}
}

func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn), d.(*net.TCPConn)
}
