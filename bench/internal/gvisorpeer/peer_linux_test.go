package gvisorpeer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/soak/traffic"
)

const patience = 20 * time.Second

func openIn(t testing.TB, l *lab.Lab, open func(peer.Config) (peer.Peer, error)) peer.Peer {
	t.Helper()
	var p peer.Peer
	var err error
	lab.Eventually(t, patience, "the queue of the peer before is free", func() bool {
		err = l.Host.Do(func() (err error) {
			p, err = open(peer.Config{Interface: lab.HostDevice, V4: l.StackV4, V6: l.StackV6})
			return err
		})
		// The kernel frees it a moment after Close; gVisor makes a text of EBUSY.
		return err == nil || !strings.Contains(err.Error(), syscall.EBUSY.Error())
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func kind(name string) func(peer.Config) (peer.Peer, error) {
	return func(cfg peer.Config) (peer.Peer, error) { return Open(name, cfg) }
}

func requireFor(t testing.TB, kind string) {
	if kind == "xdp" {
		lab.Require(t, lab.XDP)
	}
}

type family struct {
	digit       string
	stack, peer netip.Addr
}

func families(l *lab.Lab) []family {
	return []family{{"4", l.StackV4.Addr(), l.Peer.V4.Addr()}, {"6", l.StackV6.Addr(), l.Peer.V6.Addr()}}
}

func hostPort(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestPeer has a kernel socket and each kind of peer exchange data both ways,
// twice in one lab: the second Open finds what the first Close left behind.
func TestPeer(t *testing.T) {
	for _, name := range []string{"xdp", "packet"} {
		t.Run(name, func(t *testing.T) {
			requireFor(t, name)
			l := lab.New(t, lab.Config{})
			for range 2 {
				p := openIn(t, l, kind(name))
				for _, f := range families(l) {
					echo(t, l, p, f)
					bulk(t, l, p, f, raced.Few(64<<20, 4<<20))
				}
				if c := p.Counters(); c["tcp_segments_sent"] == 0 || c["rx_frames"] == 0 {
					t.Errorf("counters %v", c)
				}
				if p.Info()["link"] == "" {
					t.Errorf("info %v", p.Info())
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
				nothingLeft(t, l)
			}
		})
	}
}

// echo exchanges messages of many lengths over TCP and UDP.
func echo(t testing.TB, l *lab.Lab, p peer.Peer, f family) {
	t.Helper()
	address := hostPort(f.stack, peer.EchoPort)
	ln, err := p.Listen("tcp"+f.digit, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	pc, err := p.ListenPacket("udp"+f.digit, address)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go traffic.EchoTCP(ln)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		echoUDP(pc)
	}()
	for _, network := range []string{"tcp", "udp"} {
		c, err := l.Peer.Dial(within(t), network, address)
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 1400; n += 233 {
			if err := traffic.Exchange(c, []byte(strings.Repeat("x"+network, n)[:n]), patience); err != nil {
				t.Errorf("%s, %d bytes: %v", network, n, err)
			}
		}
		c.Close()
	}
	pc.Close()
	<-ended
}

// echoUDP sends every datagram back until the socket is closed. gonet has an
// error of its own for that.
func echoUDP(p net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := p.ReadFrom(buf)
		if err != nil {
			return
		}
		if _, err := p.WriteTo(buf[:n], from); err != nil {
			return
		}
	}
}

// bulk sends n bytes each way on a connection that the kernel opened, and on
// one that the peer opened.
func bulk(t testing.TB, l *lab.Lab, p peer.Peer, f family, n int) {
	t.Helper()
	for _, dial := range []bool{false, true} {
		ours, kernel := pair(t, l, p, f, dial)
		if err := traffic.Transfer(kernel, ours, 1, n/2); err != nil {
			t.Errorf("to the peer: %v", err)
		}
		if err := traffic.Transfer(ours, kernel, 2, n/2); err != nil {
			t.Errorf("from the peer: %v", err)
		}
		ours.Close()
		kernel.Close()
	}
}

func pair(t testing.TB, l *lab.Lab, p peer.Peer, f family, dial bool) (ours, kernel net.Conn) {
	t.Helper()
	var ln net.Listener
	var err error
	if dial {
		ln, err = l.Peer.Listen("tcp", hostPort(f.peer, 0))
	} else {
		ln, err = p.Listen("tcp"+f.digit, hostPort(f.stack, peer.SinkPort))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	type result struct {
		c   net.Conn
		err error
	}
	accepted := make(chan result, 1)
	go func() {
		c, err := ln.Accept()
		accepted <- result{c, err}
	}()
	var dialed net.Conn
	if dial {
		dialed, err = p.DialContext(within(t), "tcp"+f.digit, ln.Addr().String())
	} else {
		dialed, err = l.Peer.Dial(within(t), "tcp", hostPort(f.stack, peer.SinkPort))
	}
	if err != nil {
		t.Fatal(err)
	}
	a := <-accepted
	if a.err != nil {
		t.Fatal(a.err)
	}
	if dial {
		return dialed, a.c
	}
	return a.c, dialed
}

// nothingLeft checks that no program is attached, that no goroutine stays in a
// link endpoint, and that the process has no AF_XDP or packet ring mapped.
func nothingLeft(t testing.TB, l *lab.Lab) {
	t.Helper()
	dev, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	if dev.XDP.Mode != hostif.XDPNone {
		t.Errorf("a program is attached: %+v", dev.XDP)
	}
	// The endpoint says that its goroutine has ended before that returns.
	for end := time.Now().Add(patience); ; runtime.Gosched() {
		left := inLink()
		if left == "" {
			break
		}
		if time.Now().After(end) {
			t.Errorf("goroutines are left:\n%s", left)
			break
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "socket:[") {
			t.Errorf("a ring is mapped: %s", line)
		}
	}
}

// inLink returns the stacks of goroutines that are in a link endpoint.
func inLink() (left string) {
	buf := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "tcpip/link/") {
			left += g + "\n\n"
		}
	}
	return left
}

// TestQueues says that gVisor cannot have two queues, and the bench leaves it out.
func TestQueues(t *testing.T) {
	if _, err := openXDP(hostif.Interface{}, peer.Config{Queues: 2}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

// TestOpenRefuses checks what Open does not take, and that nothing is left
// of it.
func TestOpenRefuses(t *testing.T) {
	lab.Require(t, lab.XDP)
	l := lab.New(t, lab.Config{})
	for _, tc := range []struct {
		kind string
		cfg  peer.Config
		want string
	}{
		{"rawsocket", peer.Config{}, "kind"},
		{"xdp", peer.Config{Interface: "none"}, "none"},
		{"xdp", peer.Config{Interface: "lo"}, "Ethernet"},
		{"xdp", peer.Config{Interface: lab.HostDevice, Queues: 2}, "Queues"},
		{"packet", peer.Config{Interface: lab.HostDevice, MTU: 9000}, "MTU"},
	} {
		err := l.Host.Do(func() error {
			p, err := Open(tc.kind, tc.cfg)
			if p != nil {
				p.Close()
			}
			return err
		})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Open(%q, %+v): %v, want an error about %s", tc.kind, tc.cfg, err, tc.want)
		}
	}
	// A second one on the same queue fails, and takes nothing from the first.
	p := openIn(t, l, kind("xdp"))
	defer p.Close()
	if err := l.Host.Do(func() error {
		q, err := Open("xdp", peer.Config{Interface: lab.HostDevice, V4: l.StackV4})
		if q != nil {
			q.Close()
		}
		return err
	}); err == nil {
		t.Error("two peers on one queue")
	}
	echo(t, l, p, families(l)[0])
}
