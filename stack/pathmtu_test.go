package stack

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/raced"
)

// TestUDPPathMTU has a router say that a datagram was too long: from then on those to
// that host come in fragments that fit, whole, from every socket. Who forges such a
// message about a socket that is not there, or says the path takes next to nothing, is
// not believed.
func TestUDPPathMTU(t *testing.T) {
	for _, tc := range []struct {
		near, far string
		typ, code uint8
		least     int // path MTU
	}{{addrA, addrB, 3, 4, 552}, {addrA6, addrB6, 2, 0, header.IPv6MinimumMTU}} {
		t.Run(tc.far, func(t *testing.T) {
			p := guardedPair(t)
			near, far := netip.MustParseAddr(tc.near), netip.MustParseAddr(tc.far)
			loose, peer := listenUDP(t, p.a, "udp", ":9"), listenUDP(t, p.b, "udp", ":53")
			conn, err := p.a.Dial("udp", netip.AddrPortFrom(far, 53).String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			port := conn.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Port()
			sizes := make(chan int, 100)
			look := func(pkt *gstack.PacketBuffer) { sizes <- pkt.Size() }
			p.wa.saw.Store(&look)
			exchange := func(write func([]byte) (int, error), most int) {
				t.Helper()
				out, in := make([]byte, 1400), make([]byte, 1500)
				for i := range out {
					out[i] = byte(i / 7)
				}
				if _, err := write(out); err != nil {
					t.Fatal(err)
				}
				if n, _, err := peer.ReadFrom(in); string(in[:n]) != string(out) || err != nil {
					t.Fatalf("read %d bytes, %v", n, err)
				}
				n := 0
				for ; len(sizes) != 0; n++ {
					if size := <-sizes; size > most || most == 1500 && n > 0 {
						t.Errorf("packet %d has %d bytes, want %d at most", n, size, most)
					}
				}
			}
			toPeer := func(b []byte) (int, error) { return loose.WriteToUDPAddrPort(b, netip.AddrPortFrom(far, 53)) }
			complain := func(from uint16) {
				t.Helper()
				p.wa.inject(complaint(tc.typ, tc.code, 17, near, far, portsOf(from, 53)))
				// It is over when the next packet has come.
				if _, err := peer.WriteToUDPAddrPort([]byte("next"), netip.AddrPortFrom(near, port)); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 10)
				if n, err := conn.Read(b); err != nil {
					wantOp(t, err, "read", syscall.EMSGSIZE) // told first
					n, err = conn.Read(b)
					if string(b[:n]) != "next" || err != nil {
						t.Fatalf("%q, %v", b[:n], err)
					}
				} else if string(b[:n]) != "next" {
					t.Fatalf("%q", b[:n])
				}
			}
			exchange(conn.Write, 1500)
			complain(port + 1)
			exchange(conn.Write, 1500)
			complain(port)
			exchange(conn.Write, tc.least)
			exchange(toPeer, tc.least)
		})
	}
}

// TestPathMTUs looks what is remembered, and for how long.
func TestPathMTUs(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		var m pathMTUs
		a, b := tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), tcpip.AddrFrom4([4]byte{10, 0, 0, 2})
		want := func(to tcpip.Address, link uint32, bytes int) {
			t.Helper()
			if got := m.most(to, link); got != bytes {
				t.Errorf("most = %d, want %d", got, bytes)
			}
		}
		want(a, 1480, 1480)
		m.learn(a, 1300)
		m.learn(a, 1400)
		want(a, 1480, 1300)
		want(a, 1000, 1000)
		want(b, 1480, 1480)
		m.learn(a, 1200)
		want(a, 1480, 1200)
		time.Sleep(pathMTULife)
		want(a, 1480, 1480)
		m.learn(a, 1400)
		want(a, 1480, 1400)
	})
}
