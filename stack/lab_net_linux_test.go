package stack_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/soak/traffic"
	"github.com/afxnet/afxnet/stack"
)

// TestLabConn runs the tests of a net.Conn over pipes with a kernel socket at
// one end.
func TestLabConn(t *testing.T) {
	for i, name := range []string{"IPv4", "IPv6"} {
		for _, dial := range []bool{false, true} {
			role := map[bool]string{false: "accept", true: "dial"}[dial]
			t.Run(name+"/"+role, func(t *testing.T) {
				s := openLab(t, lab.Config{}, stack.Config{})
				f := families(s.lab)[i]
				for _, first := range []bool{false, true} {
					t.Run(fmt.Sprintf("first=%v", first), func(t *testing.T) {
						nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
							kernel, ours, err := s.pair(f, dial)
							if err != nil {
								return nil, nil, nil, err
							}
							stop = func() { kernel.Close(); ours.Close() }
							if first {
								return ours, kernel, stop, nil
							}
							return kernel, ours, stop, nil
						})
					})
				}
				s.conserved(t)
			})
		}
	}
}

// ping is a raw ICMP socket of a namespace.
type ping struct {
	net.PacketConn
	v6  bool
	id  uint16
	seq uint16
}

func openPing(t *testing.T, n *lab.Namespace, v6 bool) *ping {
	t.Helper()
	p := &ping{v6: v6, id: uint16(rand.Uint32())}
	network, address := "ip4:icmp", n.V4.Addr()
	if v6 {
		network, address = "ip6:ipv6-icmp", n.V6.Addr()
	}
	err := n.Do(func() (err error) {
		p.PacketConn, err = net.ListenPacket(network, address.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// echo sends an echo request with data, and wants its answer byte for byte.
func (p *ping) echo(to net.IP, data []byte) error {
	request, reply := byte(8), byte(0)
	if p.v6 {
		request, reply = 128, 129
	}
	p.seq++
	msg := append([]byte{request, 0, 0, 0}, binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, p.id), p.seq)...)
	msg = append(msg, data...)
	if !p.v6 { // the kernel fills in that of ICMPv6
		binary.BigEndian.PutUint16(msg[2:], internetChecksum(msg))
	}
	if _, err := p.WriteTo(msg, &net.IPAddr{IP: to}); err != nil {
		return err
	}
	if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	back := make([]byte, 64<<10)
	for {
		n, from, err := p.ReadFrom(back)
		if err != nil {
			return fmt.Errorf("echo of %d bytes: %w", len(data), err)
		}
		// Others' ICMP comes here too: neighbour discovery, and requests.
		if !from.(*net.IPAddr).IP.Equal(to) || n < 8 || back[0] != reply || !bytes.Equal(back[4:8], msg[4:8]) {
			continue
		}
		if back[1] != 0 || !bytes.Equal(back[8:n], data) {
			return fmt.Errorf("echo of %d bytes came back as %d, changed", len(data), n-8)
		}
		return nil
	}
}

// internetChecksum is the checksum of RFC 1071, the plain way.
func internetChecksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// TestLabPing has the kernel ping the stack, in one packet and in fragments.
func TestLabPing(t *testing.T) {
	for _, mtu := range []int{1500, 3000, 9000} {
		t.Run(fmt.Sprintf("mtu=%d", mtu), func(t *testing.T) {
			s := openLab(t, lab.Config{MTU: mtu}, stack.Config{})
			for _, f := range families(s.lab) {
				t.Run(f.name, func(t *testing.T) {
					p := openPing(t, s.lab.Peer, f.stack.Is6())
					for _, size := range []int{0, 1, 56, 1400, 1472, 1473, 8000, 60000} {
						if err := p.echo(f.stack.AsSlice(), randomBytes(size)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			s.conserved(t)
		})
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// maxDatagram is the longest UDP datagram over IPv4.
const maxDatagram = 65507

// datagramSizes are the lengths to try: those around what fits one frame, two
// and three, the shortest and longest, and some others.
func datagramSizes(mtu int) []int {
	sizes := []int{1, 2, 3, 17, 18, 19, 63, 64, 65, 1000, 8000, 32768, maxDatagram - 1, maxDatagram}
	for _, header := range []int{20 + 8, 40 + 8} {
		for k := 1; k <= 3; k++ {
			for d := -9; d <= 9; d++ {
				sizes = append(sizes, k*(mtu-header)+d)
			}
		}
	}
	for range longOr(2000, 40) {
		sizes = append(sizes, 1+rand.IntN(maxDatagram))
	}
	return sizes
}

// TestLabDatagrams sends datagrams of 1 to 65507 bytes, there and back, from the
// kernel to the stack's echo and from the stack to the kernel's.
func TestLabDatagrams(t *testing.T) {
	for _, mtu := range []int{1500, 3000, 9000} {
		t.Run(fmt.Sprintf("mtu=%d", mtu), func(t *testing.T) {
			s := openLab(t, lab.Config{MTU: mtu, Queues: 2}, stack.Config{})
			serveEcho(t, s.Stack, 7)
			kernelEcho(t, s.lab.Peer, 7)
			for _, f := range families(s.lab) {
				t.Run(f.name, func(t *testing.T) {
					kernel, err := s.lab.Peer.Dial(t.Context(), "udp", hostPort(f.stack, 7))
					if err != nil {
						t.Fatal(err)
					}
					defer kernel.Close()
					ours, err := s.Dial("udp", hostPort(f.peer, 7))
					if err != nil {
						t.Fatal(err)
					}
					defer ours.Close()
					for _, size := range datagramSizes(mtu) {
						msg := randomBytes(size)
						if err := traffic.Exchange(kernel, msg, patience); err != nil {
							t.Errorf("kernel to stack, %d bytes: %v", size, err)
						}
						if err := traffic.Exchange(ours, msg, patience); err != nil {
							t.Errorf("stack to kernel, %d bytes: %v", size, err)
						}
						if t.Failed() {
							return
						}
					}
				})
			}
			s.conserved(t)
		})
	}
}

// toOne exchanges datagrams with one peer on a socket that is not connected. Of Linux's
// sockets those that are count the IDs of their datagrams each by themselves (5.17,
// ip_select_ident_segs in include/net/ip.h): two that come to the same number at the same
// time have their fragments put together.
type toOne struct {
	net.PacketConn
	to net.Addr
}

func (c toOne) Write(b []byte) (int, error) { return c.WriteTo(b, c.to) }
func (c toOne) RemoteAddr() net.Addr        { return c.to }

func (c toOne) Read(b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	return n, err
}

// TestLabDatagramsAtOnce has several sockets with datagrams in fragments under
// way at once: no fragment gets into another's datagram. The kernel on the other
// side keeps an incomplete one for 30 s, so one mistake spoils many.
func TestLabDatagramsAtOnce(t *testing.T) {
	s := openLab(t, lab.Config{}, stack.Config{})
	serveEcho(t, s.Stack, 7)
	kernelEcho(t, s.lab.Peer, 7)
	for _, f := range families(s.lab) {
		t.Run(f.name, func(t *testing.T) {
			var work []func() error
			for i := range 8 {
				var c net.Conn
				var err error
				if i%2 == 0 {
					c, err = s.Dial("udp", hostPort(f.peer, 7))
				} else {
					var p net.PacketConn
					p, err = s.lab.Peer.ListenPacket("udp", hostPort(f.peer, 0))
					c = toOne{p, net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.stack, 7))}
				}
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				work = append(work, func() error {
					for range 300 {
						if err := traffic.Exchange(c, randomBytes(2000+i*500), patience); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if err := together(work...); err != nil {
				t.Error(err)
			}
		})
	}
	s.conserved(t)
}

// TestLabCoexistence has a kernel service on the same interface, with the
// kernel's own address, at work while the stack's is.
func TestLabCoexistence(t *testing.T) {
	s := openLab(t, lab.Config{Queues: 2}, stack.Config{})
	serveEcho(t, s.Stack, 7)
	kernelEcho(t, s.lab.Host, 7)
	kernelEcho(t, s.lab.Peer, 8)
	for _, f := range families(s.lab) {
		t.Run(f.name, func(t *testing.T) {
			stop := make(chan struct{})
			running := make(chan error, 2)
			for _, network := range []string{"tcp", "udp"} {
				c, err := s.lab.Peer.Dial(t.Context(), network, hostPort(f.stack, 7))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				go func() {
					for {
						if err := traffic.Exchange(c, randomBytes(64), patience); err != nil {
							running <- fmt.Errorf("the stack's %s echo: %w", network, err)
							return
						}
						select {
						case <-stop:
							running <- nil
							return
						default:
						}
					}
				}()
			}
			for range 100 {
				for _, network := range []string{"tcp", "udp"} {
					if err := reach(s.lab.Peer, network, hostPort(f.host, 7), patience); err != nil {
						t.Fatalf("peer to the host's %s service: %v", network, err)
					}
					if err := reach(s.lab.Host, network, hostPort(f.peer, 8), patience); err != nil {
						t.Fatalf("host to the peer's %s service: %v", network, err)
					}
				}
			}
			if err := openPing(t, s.lab.Peer, f.host.Is6()).echo(f.host.AsSlice(), randomBytes(8000)); err != nil {
				t.Errorf("ping of the host: %v", err)
			}
			close(stop)
			if err := errors.Join(<-running, <-running); err != nil {
				t.Error(err)
			}
		})
	}
}
