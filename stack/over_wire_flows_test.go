package stack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/afxnet/afxnet/internal/wire"
)

func TestOverWireConn(t *testing.T) {
	for _, tc := range []struct{ name, host string }{{"ipv4", addrB}, {"ipv6", addrB6}} {
		t.Run(tc.name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				ow := newOverWire(t, overWireOptions{chunks: 2048})
				c, s := ow.tcpPair(t, tc.host)
				return c, s, func() { c.Close(); s.Close() }, nil
			})
		})
	}
}

// send writes n random bytes and ends its side; it returns their hash.
func send(c *TCPConn, seed uint64, n int) (sum [sha256.Size]byte, err error) {
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	h, b := sha256.New(), make([]byte, 32<<10)
	for n > 0 {
		b = b[:min(n, len(b))]
		rng.Read(b) //nolint:errcheck // never fails
		h.Write(b)
		if _, err := c.Write(b); err != nil {
			return sum, err
		}
		n -= len(b)
	}
	return [sha256.Size]byte(h.Sum(nil)), c.CloseWrite()
}

// bothWays sends n bytes each way at once, to the end, and compares.
func bothWays(c, s *TCPConn, seed uint64, n int) error {
	var wg sync.WaitGroup
	var want, got [2][sha256.Size]byte
	var errs [4]error
	for i, conn := range []*TCPConn{c, s} {
		wg.Add(2)
		go func() {
			defer wg.Done()
			want[i], errs[i] = send(conn, seed+uint64(i), n)
		}()
		go func() {
			defer wg.Done()
			h := sha256.New()
			_, errs[2+i] = io.Copy(h, conn)
			got[1-i] = [sha256.Size]byte(h.Sum(nil))
		}()
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("sent %x, received %x", want, got)
	}
	return nil
}

// TestOverWireFaults sends a lot both ways over a bad link.
func TestOverWireFaults(t *testing.T) {
	for _, tc := range []struct {
		name   string
		f      wire.Faults
		queues int
		mtu    int
	}{
		{name: "perfect"},
		{name: "two queues", queues: 2},
		{name: "jumbo", mtu: 9000},
		{name: "jumbo, two queues, loss", mtu: 9000, queues: 2, f: wire.Faults{Loss: 0.005, Corrupt: 0.005, Reorder: 0.01, ReorderBy: 2, ReorderDelay: time.Millisecond}},
		{name: "loss", f: wire.Faults{Loss: 0.01}},
		{name: "reorder", f: wire.Faults{Reorder: 0.05, ReorderBy: 3, ReorderDelay: time.Millisecond}},
		{name: "duplicate", f: wire.Faults{Duplicate: 0.05}},
		{name: "corrupt", f: wire.Faults{Corrupt: 0.01, CorruptBits: 3}},
		{name: "delay", f: wire.Faults{Delay: time.Millisecond, Jitter: time.Millisecond}},
		{name: "all", f: wire.Faults{
			Loss: 0.01, Reorder: 0.05, ReorderBy: 3, ReorderDelay: time.Millisecond,
			Duplicate: 0.02, Corrupt: 0.005, Delay: 200 * time.Microsecond,
		}},
	} {
		for _, host := range []string{addrB, addrB6} {
			t.Run(tc.name+" "+host, func(t *testing.T) {
				n := 2 << 20
				if testing.Short() || raceEnabled {
					n = 256 << 10
				}
				o := overWireOptions{wire: wire.Config{Seed: 7, Faults: [2]wire.Faults{tc.f, tc.f}}}
				for i := range o.wire.Ports {
					o.wire.Ports[i].Queues, o.wire.Ports[i].MTU = tc.queues, tc.mtu
				}
				o.config[0].Profile, o.config[1].Profile = ProfileLAN, ProfileLAN
				ow := newOverWire(t, o)
				c, s := ow.tcpPair(t, host)
				within(t, "the transfer", func() {
					if err := bothWays(c, s, 1, n); err != nil {
						t.Error(err)
					}
				})
				// What is refused, of the honest, overWire.close tells.
				for i, s := range ow.s {
					if n := judged(s); n != 1 {
						t.Errorf("stack %d judges the acknowledgements of %d flows, want 1", i, n)
					}
				}
				c.Close()
				s.Close()
				ow.rest(t)
				for _, dir := range []wire.Dir{wire.From0, wire.From1} {
					st := ow.w.Stats()[dir]
					// Where 20 are to be expected, none is no chance.
					due := func(p float64) bool { return p*float64(st.Sent) > 20 }
					if due(tc.f.Loss) && st.Lost == 0 || due(tc.f.Duplicate) && st.Duplicated == 0 ||
						due(tc.f.Corrupt) && st.DeliveredCorrupt == 0 || due(tc.f.Reorder) && st.Reordered == 0 {
						t.Errorf("the faults did not happen: %+v", st)
					}
				}
			})
		}
	}
}

func TestOverWireHalfClose(t *testing.T) {
	ow := newOverWire(t, overWireOptions{})
	c, s := ow.tcpPair(t, addrB6)
	if _, err := c.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s); err != nil || string(b) != "question" {
		t.Fatalf("%q, %v", b, err)
	}
	answer := bytes.Repeat([]byte("answer"), 50000)
	go func() {
		s.Write(answer) //nolint:errcheck // the reader sees it
		s.Close()
	}()
	if b, err := io.ReadAll(c); err != nil || !bytes.Equal(b, answer) {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	c.Close()
	ow.rest(t)
}

// TestOverWireMany has many connections at once, and a UDP flow between them.
func TestOverWireMany(t *testing.T) {
	conns, n := 200, 64<<10
	if testing.Short() || raceEnabled {
		conns, n = 50, 16<<10
	}
	var o overWireOptions
	o.wire.Seed = 3
	o.wire.Ports[1].Queues = 2
	ow := newOverWire(t, o)
	var wg sync.WaitGroup
	for i := range conns {
		c, s := ow.tcpPair(t, []string{addrB, addrB6}[i%2])
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := bothWays(c, s, uint64(i), n); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
			c.Close()
			s.Close()
		}()
	}
	within(t, "many connections", wg.Wait)
	ow.rest(t)
}

func TestOverWireUDP(t *testing.T) {
	for _, mtu := range []int{1500, 3000, 9000} {
		for _, host := range []string{addrB, addrB6} {
			t.Run(fmt.Sprintf("mtu %d %s", mtu, host), func(t *testing.T) {
				var o overWireOptions
				o.wire.Ports[0].MTU, o.wire.Ports[1].MTU = mtu, mtu
				ow := newOverWire(t, o)
				srv := listenUDP(t, ow.s[1], "udp", net.JoinHostPort(host, "53"))
				c, err := ow.s[0].Dial("udp", srv.LocalAddr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				in, out := make([]byte, 1<<16), make([]byte, 1<<16)
				for _, n := range []int{0, 1, 8, mtu - 48, mtu - 28, mtu - 20, 2 * mtu, 9000, 40000} {
					rand.NewChaCha8([32]byte{byte(n)}).Read(out[:n]) //nolint:errcheck // never fails
					if _, err := c.Write(out[:n]); err != nil {
						t.Fatal(n, err)
					}
					got, from, err := srv.ReadFromUDPAddrPort(in)
					if err != nil || !bytes.Equal(in[:got], out[:n]) {
						t.Fatalf("%d bytes sent, %d received, %v", n, got, err)
					}
					if _, err := srv.WriteToUDPAddrPort(in[:got], from); err != nil {
						t.Fatal(err)
					}
					if n == 0 {
						_, _, err = c.(*UDPConn).ReadFromUDPAddrPort(in) // Read would not wait
						got = 0
					} else {
						got, err = c.Read(in)
					}
					if err != nil || !bytes.Equal(in[:got], out[:n]) {
						t.Fatalf("%d bytes sent, %d came back, %v", n, got, err)
					}
				}
				ow.rest(t)
			})
		}
	}
}

// TestOverWirePing plays a host that asks with ARP or a neighbour solicitation
// and pings, with datagrams in fragments too.
func TestOverWirePing(t *testing.T) {
	ow := newOverWire(t, overWireOptions{alone: true})
	peer := ow.w.Port(1)
	got := make(chan []byte, 64)
	peer.OnReceive(func(frame []byte) {
		select {
		case got <- bytes.Clone(frame):
		default:
		}
	})
	// expect returns the first frame for which ok is true.
	expect := func(what string, ok func(f []byte) bool) {
		t.Helper()
		patience := time.After(10 * time.Second)
		for {
			select {
			case f := <-got:
				if ok(f) {
					return
				}
			case <-patience:
				t.Fatalf("no %s", what)
			}
		}
	}
	ours, theirs := ow.w.Port(0).MAC(), peer.MAC()
	a4, b4 := netip.MustParseAddr(addrA).AsSlice(), netip.MustParseAddr(addrB).AsSlice()
	a6, b6 := netip.MustParseAddr(addrA6).AsSlice(), netip.MustParseAddr(addrB6).AsSlice()

	ask := frameOf(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, theirs, 0x0806,
		[]byte{0, 1, 8, 0, 6, 4, 0, 1}, theirs, b4, make([]byte, 6), a4)
	peer.Send(ask)
	expect("ARP reply", func(f []byte) bool {
		return f[12] == 8 && f[13] == 6 && f[21] == 2 && bytes.Equal(f[22:28], ours) && bytes.Equal(f[28:32], a4)
	})

	echo := icmp4(8, bytes.Repeat([]byte("ping4"), 10))
	peer.Send(frameOf(ours, theirs, 0x0800, ip4(b4, a4, 1, 1, 0, len(echo), false), echo))
	expect("echo reply", func(f []byte) bool {
		return f[12] == 8 && f[13] == 0 && f[23] == 1 && f[34] == 0 && bytes.Equal(f[38:38+50], echo[4:])
	})

	// In two fragments, and back in as many.
	echo = icmp4(8, bytes.Repeat([]byte("0123456789abcdef"), 150))
	peer.Send(frameOf(ours, theirs, 0x0800, ip4(b4, a4, 1, 2, 0, 1480, true), echo[:1480]))
	peer.Send(frameOf(ours, theirs, 0x0800, ip4(b4, a4, 1, 2, 1480, len(echo)-1480, false), echo[1480:]))
	pieces := 0
	expect("echo reply in fragments", func(f []byte) bool {
		if f[12] == 8 && f[13] == 0 && f[23] == 1 && binary.BigEndian.Uint16(f[20:])&0x3fff != 0 {
			pieces++
		}
		return pieces == 2
	})

	group := append([]byte{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff}, a6[13:]...)
	ns := icmp6(b6, group, 135, append(append(append(make([]byte, 4), a6...), 1, 1), theirs...))
	peer.Send(frameOf(net.HardwareAddr{0x33, 0x33, 0xff, a6[13], a6[14], a6[15]}, theirs, 0x86dd, ip6(b6, group, 58, len(ns), 255), ns))
	expect("neighbour advertisement", func(f []byte) bool {
		return f[12] == 0x86 && f[20] == 58 && f[54] == 136 && bytes.Equal(f[62:78], a6)
	})
	ping := icmp6(b6, a6, 128, bytes.Repeat([]byte("ping6"), 10))
	peer.Send(frameOf(ours, theirs, 0x86dd, ip6(b6, a6, 58, len(ping), 64), ping))
	expect("echo reply over IPv6", func(f []byte) bool {
		return f[12] == 0x86 && f[20] == 58 && f[54] == 129 && bytes.Equal(f[58:58+50], ping[4:])
	})
	ow.rest(t)
}

// frameOf joins an Ethernet header and parts.
func frameOf(dst, src net.HardwareAddr, proto uint16, parts ...[]byte) []byte {
	f := append(append([]byte(nil), dst...), src...)
	f = binary.BigEndian.AppendUint16(f, proto)
	for _, p := range parts {
		f = append(f, p...)
	}
	return f
}

func ip4(src, dst []byte, proto uint8, id uint16, offset, n int, more bool) []byte {
	h := make([]byte, 20)
	h[0], h[8], h[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(h[2:], uint16(20+n))
	binary.BigEndian.PutUint16(h[4:], id)
	binary.BigEndian.PutUint16(h[6:], uint16(offset/8))
	if more {
		h[6] |= 0x20
	}
	copy(h[12:], src)
	copy(h[16:], dst)
	header.IPv4(h).SetChecksum(^header.IPv4(h).CalculateChecksum())
	return h
}

func ip6(src, dst []byte, proto uint8, n int, hops uint8) []byte {
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, proto, hops
	binary.BigEndian.PutUint16(h[4:], uint16(n))
	copy(h[8:], src)
	copy(h[24:], dst)
	return h
}

// icmp4 returns a message of a type, with code 0 and rest behind the checksum.
func icmp4(typ uint8, rest []byte) []byte {
	m := append([]byte{typ, 0, 0, 0}, rest...)
	sum := sumOf(m)
	binary.BigEndian.PutUint16(m[2:], ^sum)
	return m
}

func icmp6(src, dst []byte, typ uint8, rest []byte) []byte {
	m := append([]byte{typ, 0, 0, 0}, rest...)
	putSum(src, dst, 58, m, 2)
	return m
}

// putSum writes the checksum of a packet of proto between two addresses of one
// family to b[at:], which is 0.
func putSum(src, dst []byte, proto uint8, b []byte, at int) {
	pseudo := slices.Concat(src, dst, []byte{0, proto, byte(len(b) >> 8), byte(len(b))})
	binary.BigEndian.PutUint16(b[at:], ^sumOf(append(pseudo, b...)))
}

// ipFrame is b in a frame of IPv4 or IPv6 from port 1 of a wire to port 0.
func ipFrame(w *wire.Wire, src, dst []byte, proto uint8, b []byte) []byte {
	ours, theirs := w.Port(0).MAC(), w.Port(1).MAC()
	if len(src) == header.IPv6AddressSize {
		return frameOf(ours, theirs, 0x86dd, ip6(src, dst, proto, len(b), 64), b)
	}
	return frameOf(ours, theirs, 0x0800, ip4(src, dst, proto, 1, 0, len(b), false), b)
}

func sumOf(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// TestOverWireLink takes the link away and brings it back.
func TestOverWireLink(t *testing.T) {
	var o overWireOptions
	o.config[0].Profile, o.config[1].Profile = ProfileLAN, ProfileLAN
	ow := newOverWire(t, o)
	c, s := ow.tcpPair(t, addrB)
	var ended atomic.Int32
	errs := make(chan error, 2)
	for _, conn := range []*TCPConn{c, s} {
		go func() {
			_, err := conn.Read(make([]byte, 1))
			ended.Add(1)
			errs <- err
		}()
	}
	ow.w.Port(0).SetDown(true)
	within(t, "Read on a dead link", func() {
		for range 2 {
			if err := <-errs; !errors.Is(err, syscall.ENETDOWN) {
				t.Errorf("Read: %v", err)
			}
		}
	})
	if _, err := ow.s[0].Dial("tcp", addrB+":1"); !errors.Is(err, syscall.ENETDOWN) {
		t.Errorf("Dial: %v", err)
	}
	ow.w.Port(0).SetDown(false)
	within(t, "the transfer", func() {
		if err := bothWays(c, s, 5, 100<<10); err != nil {
			t.Error(err)
		}
	})
	c.Close()
	s.Close()
	ow.rest(t)
	ow.w.Port(1).Delete()
	if _, err := ow.s[1].Dial("tcp", addrA+":1"); !errors.Is(err, syscall.ENODEV) || !errors.Is(err, syscall.ENETDOWN) {
		t.Errorf("Dial: %v", err)
	}
}

// TestOverWireTinyRing has flows over a TX ring of 4 descriptors.
func TestOverWireTinyRing(t *testing.T) {
	var o overWireOptions
	o.rings.TX, o.rings.Completion, o.rings.RX, o.rings.Fill = 4, 4, 256, 256
	ow := newOverWire(t, o)
	var wg sync.WaitGroup
	for i := range 8 {
		c, s := ow.tcpPair(t, addrB)
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := bothWays(c, s, uint64(i), 256<<10); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
			c.Close()
			s.Close()
		}()
	}
	within(t, "transfers over a tiny ring", wg.Wait)
	ow.rest(t)
}
