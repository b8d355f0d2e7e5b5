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

	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/umem"
)

// tcp4 returns an IPv4 packet with a TCP header and no data.
func tcp4(src, dst []byte, sport, dport uint16, seq uint32, flags uint8) []byte {
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h[0:], sport)
	binary.BigEndian.PutUint16(h[2:], dport)
	binary.BigEndian.PutUint32(h[4:], seq)
	h[12], h[13] = 5<<4, flags
	binary.BigEndian.PutUint16(h[14:], 1<<15)
	putSum(src, dst, 6, h, 16)
	return append(ip4(src, dst, 6, 1, 0, len(h), false), h...)
}

// A flood is measured in parts: what earlier tests have left is freed during one or
// another of them.
const (
	floodParts = 9
	floodFrame = 25 // bytes; a timer for each datagram is some 100 for a fragment
)

// TestFloods fills netstack's tables, one after the other. Memory stays below a
// bound however long a flood lasts, and an established flow and a new one still
// work.
func TestFloods(t *testing.T) {
	a4, b4 := netip.MustParseAddr(addrA).AsSlice(), netip.MustParseAddr(addrB).AsSlice()
	a6, b6 := netip.MustParseAddr(addrA6).AsSlice(), netip.MustParseAddr(addrB6).AsSlice()
	host := func(i int) []byte { return []byte{10, 0, 0, byte(3 + i%250)} }
	host6 := func(i int) []byte {
		b := append([]byte(nil), b6...)
		binary.BigEndian.PutUint32(b[10:], uint32(i)+1<<31)
		return b
	}
	for _, tc := range []struct {
		name  string
		room  int // bytes of heap; 0: what a flood takes does not grow with its length
		frame func(w *wire.Wire, i int) []byte
	}{
		{"tiny first fragments", 32 << 20, func(w *wire.Wire, i int) []byte {
			return frameOf(w.Port(0).MAC(), w.Port(1).MAC(), 0x0800, ip4(host(i), a4, 17, uint16(i), 0, 8, true), make([]byte, 8))
		}},
		{"fragments of one datagram", 32 << 20, func(w *wire.Wire, i int) []byte {
			return frameOf(w.Port(0).MAC(), w.Port(1).MAC(), 0x0800, ip4(b4, a4, 17, uint16(i/4000), 16*(1+i%4000), 8, true), make([]byte, 8))
		}},
		{"IPv6 fragments", 32 << 20, func(w *wire.Wire, i int) []byte {
			f := []byte{17, 0, 0, 1, 0, 0, 0, 0}
			binary.BigEndian.PutUint32(f[4:], uint32(i))
			return frameOf(w.Port(0).MAC(), w.Port(1).MAC(), 0x86dd, ip6(b6, a6, 44, 1008, 64), f, make([]byte, 1000))
		}},
		{"datagrams in fragments", 0, func(w *wire.Wire, i int) []byte {
			return frameOf(w.Port(0).MAC(), w.Port(1).MAC(), 0x0800, ip4(b4, a4, 17, uint16(i/2), 8*(i&1), 8, i&1 == 0), make([]byte, 8))
		}},
		{"datagrams in IPv6 fragments", 0, func(w *wire.Wire, i int) []byte {
			f := []byte{17, 0, 0, 1, 0, 0, 0, 0}
			if i&1 == 1 {
				f[3] = 8
			}
			binary.BigEndian.PutUint32(f[4:], uint32(i/2))
			return frameOf(w.Port(0).MAC(), w.Port(1).MAC(), 0x86dd, ip6(b6, a6, 44, 16, 64), f, make([]byte, 8))
		}},
		{"ARP requests", 16 << 20, func(w *wire.Wire, i int) []byte {
			mac := net.HardwareAddr{2, 1, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
			return frameOf(net.HardwareAddr{255, 255, 255, 255, 255, 255}, mac, 0x0806, []byte{0, 1, 8, 0, 6, 4, 0, 1}, mac, host(i), make([]byte, 6), a4)
		}},
		{"neighbour solicitations", 16 << 20, func(w *wire.Wire, i int) []byte {
			mac := net.HardwareAddr{2, 1, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
			m := icmp6(host6(i), a6, 135, append(append(append(make([]byte, 4), a6...), 1, 1), mac...))
			return frameOf(w.Port(0).MAC(), mac, 0x86dd, ip6(host6(i), a6, 58, len(m), 255), m)
		}},
		{"pings from nobody", 48 << 20, func(w *wire.Wire, i int) []byte { // the answers wait for a neighbour
			m := icmp6(host6(i), a6, 128, make([]byte, 1000))
			return frameOf(w.Port(0).MAC(), w.Port(1).MAC(), 0x86dd, ip6(host6(i), a6, 58, len(m), 64), m)
		}},
		{"half-open connections", 64 << 20, func(w *wire.Wire, i int) []byte {
			return frameOf(w.Port(0).MAC(), w.Port(1).MAC(), 0x0800, tcp4(host(i), a4, uint16(1024+i/250), hostileListen, uint32(i)*7919, 2))
		}},
		{"closed ports", 16 << 20, func(w *wire.Wire, i int) []byte {
			return frameOf(w.Port(0).MAC(), w.Port(1).MAC(), 0x0800, tcp4(b4, a4, uint16(i)|1024, uint16(i>>8)|32768, uint32(i), 2))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := 20_000
			switch {
			case *hostileFrames > 0:
				n = 200_000
			case testing.Short():
				n = 6_000
			case raced.Enabled:
				n = 3_000
			}
			ow := newOverWire(t, overWireOptions{})
			l, err := ow.s[0].Listen("tcp", fmt.Sprintf(":%d", hostileListen))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c, s := ow.tcpPair(t, addrB)
			base := int64(heap())
			last, grown := base, make([]int64, floodParts)
			for i := range n {
				ow.w.Port(0).Inject(tc.frame(ow.w, i))
				part, end := i*floodParts/n, i+1 == n || (i+1)*floodParts/n != i*floodParts/n
				if i%256 != 255 && !end {
					continue
				}
				if err := poll(func() error {
					if st := ow.w.Stats()[wire.From1]; received(ow.s[0]) < st.Delivered {
						return errors.New("frames are under way")
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				if end {
					now := int64(heap())
					grown[part], last = now-last, now
				}
			}
			t.Logf("%d frames: %.1f MB", n, float64(last-base)/1e6)
			slices.Sort(grown)
			each := grown[floodParts/2] * floodParts / int64(n)
			switch {
			case tc.room != 0 && last-base > int64(tc.room):
				t.Errorf("%d frames take %d bytes, want %d at most", n, last-base, tc.room)
			case tc.room == 0 && each > floodFrame:
				t.Errorf("each of %d frames takes %d bytes, want %d at most", n, each, floodFrame)
			}
			if err := exchangeTCP(c, s, 1); err != nil {
				t.Errorf("the established flow: %v", err)
			}
			conn, err := ow.s[1].Dial("tcp", net.JoinHostPort(addrA, fmt.Sprint(hostileListen)))
			if err != nil {
				t.Fatalf("a new flow: %v", err)
			}
			defer conn.Close()
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer accepted.Close()
			if err := exchangeTCP(conn, accepted, 2); err != nil {
				t.Errorf("a new flow: %v", err)
			}
		})
	}
}

// TestTimeWait closes many connections: netstack keeps each for a minute.
func TestTimeWait(t *testing.T) {
	n := 2000
	if testing.Short() || raceEnabled {
		n = 200
	}
	ow := newOverWire(t, overWireOptions{})
	l, err := ow.s[1].Listen("tcp", addrB+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 1)) //nolint:errcheck // until the other side closes
			c.Close()
		}
	}()
	visit := func() {
		c, err := ow.s[0].Dial("tcp", addrB+":80")
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	visit() // tables that the first one needs are made
	base := heap()
	for range n {
		visit()
	}
	used := (int64(heap()) - int64(base)) / int64(n)
	t.Logf("%d bytes per closed connection", used)
	if used > 16<<10 {
		t.Errorf("%d bytes per closed connection", used)
	}
}

// TestWildIndices has the kernel show indices that cannot be: the device stops
// with an error, nobody waits for ever, and Close works.
func TestWildIndices(t *testing.T) {
	for i, index := range []wire.Index{wire.RXProd, wire.FillCons} {
		ow := newOverWire(t, overWireOptions{})
		c, s := ow.tcpPair(t, addrB)
		if err := exchangeTCP(c, s, 1); err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Time{}) //nolint:errcheck // it is open
		q := ow.w.Port(0).Queue(0)
		done := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			done <- err
		}()
		ow.w.Port(0).Inject(frameOf(ow.w.Port(0).MAC(), ow.w.Port(1).MAC(), 0x1234, make([]byte, 60)))
		waitFor(t, fmt.Sprintf("Read after index %d", i), func() bool {
			// A packet makes the poller look, but before that it shows the true
			// index again, and the poller may be quicker than the shift.
			q.PushRX(umem.Desc{Addr: 0, Len: 60})
			q.ShiftIndex(index, 1<<20)
			return len(done) != 0
		})
		if err := <-done; err == nil {
			t.Error("Read has no error")
		} else if terr := ow.s[0].dev.LinkErr(); terr == nil {
			t.Errorf("the link is up, Read has %v", err)
		}
		if _, err := ow.s[0].Dial("tcp", addrB+":1"); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("Dial: %v", err)
		}
	}
}

// TestTrailingBytes sends datagrams whose UDP length ends before the IP packet:
// what is behind is none of the datagram's (RFC 768).
func TestTrailingBytes(t *testing.T) {
	ow := newOverWire(t, overWireOptions{alone: true})
	c := listenUDP(t, ow.s[0], "udp", addrA+":53")
	a, b := netip.MustParseAddr(addrA).AsSlice(), netip.MustParseAddr(addrB).AsSlice()
	u := append([]byte{3, 232, 0, 53, 0, 12, 0, 0}, "datatrailer"...)
	putSum(b, a, 17, u[:12], 6)
	ow.w.Port(0).Inject(ipFrame(ow.w, b, a, 17, u))
	c.SetReadDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // it is open
	buf := make([]byte, 100)
	n, _, err := c.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != "data" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}
