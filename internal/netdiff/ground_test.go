package netdiff

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/internal/wired"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/umem"
)

// patience is how long a call may take that should end: not a measure of anything.
const patience = time.Minute

// loopback is package net with itself.
func loopback(t testing.TB) *ground {
	t.Helper()
	g := &ground{near: kernel{}, far: kernel{}, patience: patience, tell: tellOnLoopback, frames: ofKernel{}}
	for i, a := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
		g.nearHost[i], g.farHost[i] = a, a
		g.hole[i] = fullListener(t, netip.AddrPortFrom(a, 0))
	}
	g.half = halfPort(t)
	return g
}

// halfPort returns a port of loopback that is a hole by IPv6 and free by IPv4.
// Behaviours do not get it from spare.
func halfPort(t testing.TB) int {
	t.Helper()
	for port := 9000; port < 10000; port++ {
		four, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			continue
		}
		four.Close()
		six, err := net.ListenTCP("tcp6", &net.TCPAddr{IP: net.IPv6loopback, Port: port})
		if err != nil {
			continue
		}
		six.Close()
		fullListener(t, netip.AddrPortFrom(netip.IPv6Loopback(), uint16(port)))
		return port
	}
	t.Fatal("no port is free")
	return 0
}

// fullListener returns the address of a listener of the kernel whose queue is
// full: it drops SYNs.
func fullListener(t testing.TB, want netip.AddrPort) netip.AddrPort {
	t.Helper()
	a, port := want.Addr(), int(want.Port())
	family, bind := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Addr: a.As16(), Port: port})
	if a.Is4() {
		family, bind = syscall.AF_INET, &syscall.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, bind); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		port = sa.Port
	case *syscall.SockaddrInet6:
		port = sa.Port
	}
	at := netip.AddrPortFrom(a, uint16(port))
	c, err := kernel{}.Dial(t.Context(), "tcp", at.String()) // takes the one place that there is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return at
}

// The wire loses segments for holePort, and those of IPv6 for wiredHalf.
const (
	holePort  = 9
	wiredHalf = 7
)

// overWire is two stacks on a wire in memory.
func overWire(t testing.TB, faults wire.Faults) *ground {
	t.Helper()
	frames := &onWire{}
	faults.Filter = frames.filter
	memory := umem.Config{Chunks: 8192}
	var cfg [2]stack.Config
	g := &ground{patience: patience, frames: frames}
	for i := range cfg {
		v4 := netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)})
		v6 := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(1 + i)})
		cfg[i] = withFlag(stack.Config{Addresses: []netip.Prefix{netip.PrefixFrom(v4, 24), netip.PrefixFrom(v6, 64)}})
		hosts := []*[2]netip.Addr{&g.nearHost, &g.farHost}[i]
		*hosts = [2]netip.Addr{v4, v6}
	}
	p, err := wired.Open(wire.Config{Faults: [2]wire.Faults{faults, faults}}, memory, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("wire seed %d", p.Wire.Seed())
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	g.tell = tellOnWire(t, p.Wire)
	g.near, g.far = ours{p.Stacks[0]}, ours{p.Stacks[1]}
	for i := range g.hole {
		g.hole[i] = netip.AddrPortFrom(g.farHost[i], holePort)
	}
	g.half = wiredHalf
	return g
}

// withFlag switches off what -afxnet.off names.
func withFlag(cfg stack.Config) stack.Config {
	cfg.NoFastIP = mechanism.Off(mechanism.FastIP)
	cfg.NoInline = mechanism.Off(mechanism.Inline)
	cfg.Device.NoGRO = mechanism.Off(mechanism.GRO)
	cfg.Device.NoACKHold = mechanism.Off(mechanism.ACKHold)
	cfg.Device.NoACKMerge = mechanism.Off(mechanism.ACKMerge)
	cfg.Device.NoGather = mechanism.Off(mechanism.Gather)
	cfg.Device.NoLateArm = mechanism.Off(mechanism.LateArm)
	return cfg
}
