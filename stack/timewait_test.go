package stack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
)

// A comeback is a host that the test plays: it connects from one port again and
// again.
type comeback struct {
	*overWire
	net  tcpip.NetworkProtocolNumber
	from []byte          // its address
	to   []byte          // the stack's
	got  chan header.TCP // what the stack has sent to its port
	seq  uint32          // its next
	ack  uint32          // the stack's next
	time uint32          // its timestamp
	echo uint32          // the stack's
	port uint16          // of the service
}

const (
	comebackPort = 40000
	servicePort  = 80
)

func newComeback(t *testing.T, v6 bool, config Config) *comeback {
	c := &comeback{got: make(chan header.TCP, 64), seq: 1 << 30, time: 1 << 30, port: servicePort}
	a, b, at := addrA, addrB, 14+header.IPv4MinimumSize
	if c.net = ipv4.ProtocolNumber; v6 {
		c.net, a, b, at = ipv6.ProtocolNumber, addrA6, addrB6, 14+header.IPv6MinimumSize
	}
	c.from, c.to = netip.MustParseAddr(b).AsSlice(), netip.MustParseAddr(a).AsSlice()
	o := overWireOptions{alone: true}
	o.config[0] = config
	o.neighbor[0] = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	c.overWire = newOverWire(t, o)
	c.w.Port(1).OnReceive(func(f []byte) {
		if f[12] != 0x08 && f[12] != 0x86 || len(f) < at+header.TCPMinimumSize {
			return
		}
		if h := header.TCP(bytes.Clone(f[at:])); h.DestinationPort() == comebackPort {
			c.got <- h
		}
	})
	return c
}

// send sends a segment with the next numbers.
func (c *comeback) send(flags header.TCPFlags, stamp bool, data string) {
	n := header.TCPMinimumSize
	if stamp {
		n += 12
	}
	s := make([]byte, n, n+len(data))
	header.TCP(s).Encode(&header.TCPFields{SrcPort: comebackPort, DstPort: c.port, SeqNum: c.seq, AckNum: c.ack,
		DataOffset: uint8(n), Flags: flags, WindowSize: 60000})
	if stamp {
		copy(s[20:], []byte{1, 1, 8, 10})
		binary.BigEndian.PutUint32(s[24:], c.time)
		binary.BigEndian.PutUint32(s[28:], c.echo)
	}
	s = append(s, data...)
	putSum(c.from, c.to, 6, s, 16)
	c.w.Port(1).Send(ipFrame(c.w, c.from, c.to, 6, s))
	c.seq += uint32(len(data))
	if flags&(header.TCPFlagSyn|header.TCPFlagFin) != 0 {
		c.seq++
	}
}

// expect waits for a segment with flags, and acknowledges it in what is sent
// from then on.
func (c *comeback) expect(t *testing.T, flags header.TCPFlags) header.TCP {
	t.Helper()
	for patience := time.After(10 * time.Second); ; {
		select {
		case h := <-c.got:
			if h.Flags()&flags != flags || h.Flags()&^flags&header.TCPFlagSyn != 0 { // a SYN-ACK may come again
				continue
			}
			c.ack = h.SequenceNumber() + uint32(len(h.Payload()))
			if flags&(header.TCPFlagSyn|header.TCPFlagFin) != 0 {
				c.ack++
			}
			if o := h.ParsedOptions(); o.TS {
				c.echo = o.TSVal
			}
			return h
		case <-patience:
			t.Fatalf("no segment with %v", flags)
		}
	}
}

// connect makes a connection that says hello. The stack ends its direction first,
// so that it is in TIME-WAIT there when the peer has ended the other.
func (c *comeback) connect(t *testing.T, ln net.Listener, stamp bool) (*TCPConn, *tcp.Endpoint) {
	t.Helper()
	c.ack = 0
	c.send(header.TCPFlagSyn, stamp, "")
	c.expect(t, header.TCPFlagSyn|header.TCPFlagAck)
	c.send(header.TCPFlagAck|header.TCPFlagPsh, stamp, "hello")
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := conn.(*TCPConn)
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.expect(t, header.TCPFlagFin)
	c.send(header.TCPFlagAck|header.TCPFlagFin, stamp, "")
	ep := s.ep.(*tcp.Endpoint)
	if err := poll(func() error {
		if state := ep.EndpointState(); state != tcp.StateTimeWait {
			return fmt.Errorf("the connection is in %v, not in TIME-WAIT", state)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return s, ep
}

// says wants to read what connect has sent, and the end.
func says(t *testing.T, s *TCPConn) {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s); err != nil || string(b) != "hello" {
		t.Errorf("read %q, %v", b, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// settled returns when the stack has looked at everything sent before: it refuses
// a connection to another port.
func (c *comeback) settled(t *testing.T) {
	t.Helper()
	seq := c.seq
	c.port++
	c.send(header.TCPFlagSyn, true, "")
	c.expect(t, header.TCPFlagRst)
	c.port--
	c.seq = seq
}

// holder returns who gets segments of the connection.
func (c *comeback) holder() gstack.TransportEndpoint {
	return c.s[0].ns.FindTransportEndpoint(c.net, tcp.ProtocolNumber, gstack.TransportEndpointID{
		LocalAddress: tcpip.AddrFromSlice(c.to), LocalPort: servicePort, RemoteAddress: tcpip.AddrFromSlice(c.from), RemotePort: comebackPort,
	}, nicID)
}

// TestComeback has a peer connect from a port whose last connection is in
// TIME-WAIT: it gets a new one if that is not older. Its first
// sequence number is below the last of the old connection, as after a fast upload.
func TestComeback(t *testing.T) {
	for _, tc := range []struct {
		name           string
		before, stamp  bool // timestamps in the old and the new connection
		later          int32
		deaf, accepted bool // deaf: nobody listens any more
	}{
		{name: "later", before: true, stamp: true, later: 1, accepted: true},
		{name: "much later", before: true, stamp: true, later: 1<<31 - 1, accepted: true},
		{name: "timestamps are new", stamp: true, accepted: true},
		{name: "at the same time", before: true, stamp: true, accepted: true},
		{name: "earlier", before: true, stamp: true, later: -1},
		{name: "without a timestamp", before: true},
		{name: "never with timestamps"},
		{name: "nobody listens", before: true, stamp: true, later: 1, deaf: true},
	} {
		for _, v6 := range []bool{false, true} {
			for _, noFastIP := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/IPv6=%v/fast IP=%v", tc.name, v6, !noFastIP), func(t *testing.T) {
					c := newComeback(t, v6, Config{NoFastIP: noFastIP})
					ln, err := c.s[0].Listen("tcp", fmt.Sprint(":", servicePort))
					if err != nil {
						t.Fatal(err)
					}
					defer ln.Close()
					old, ep := c.connect(t, ln, tc.before)
					if c.holder() != ep {
						t.Fatal("the first connection is not in the tables")
					}
					if tc.deaf {
						if err := ln.Close(); err != nil {
							t.Fatal(err)
						}
					}
					c.seq -= 1 << 20
					c.time += uint32(tc.later)
					if tc.accepted {
						next, _ := c.connect(t, ln, tc.stamp)
						says(t, next)
					} else {
						c.ack = 0
						c.send(header.TCPFlagSyn, tc.stamp, "")
						c.settled(t)
						if c.holder() != ep {
							t.Error("the old connection has made way")
						}
					}
					says(t, old)
				})
			}
		}
	}
}

// TestComebackOften makes way again and again on one port, and leaves the ends of
// the connections to the stack's Close, which waits for all of them.
func TestComebackOften(t *testing.T) {
	c := newComeback(t, false, Config{})
	ln, err := c.s[0].Listen("tcp", fmt.Sprint(":", servicePort))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		s, _ := c.connect(t, ln, true)
		says(t, s)
		c.seq -= 1 << 20
		c.time++
	}
	// Those that have made way are not in the tables, but netstack knows them.
	if got, want := len(c.s[0].ns.CleanupEndpoints()), 19; got != want {
		t.Errorf("%d connections have made way, want %d", got, want)
	}
}

// TestTimeWaitQuiet has connections end, and counts what the ends say afterwards:
// netstack sends keepalive probes in TIME-WAIT too, and if the peer has come back
// from the same port, they reach the new connection.
func TestTimeWaitQuiet(t *testing.T) {
	for _, name := range []string{"closed", "held, and has made way"} {
		t.Run(name, func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				ow := newOverWire(t, overWireOptions{bubble: true})
				l, err := ow.s[1].Listen("tcp", net.JoinHostPort(addrB, "80"))
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				var held []net.Conn
				from := &net.TCPAddr{IP: net.ParseIP(addrA), Port: 5000}
				for range 3 {
					c, err := ow.s[0].DialTCP(t.Context(), "tcp", from, l.Addr().(*net.TCPAddr))
					if err != nil {
						t.Fatal(err)
					}
					s, err := l.Accept()
					if err != nil {
						t.Fatal(err)
					}
					if err := s.(*TCPConn).CloseWrite(); err != nil { // first: TIME-WAIT is there
						t.Fatal(err)
					}
					c.Read(make([]byte, 1)) //nolint:errcheck // the end
					c.Close()
					if name == "closed" {
						s.Close()
					} else {
						held = append(held, s)
					}
					time.Sleep(10 * time.Millisecond)
				}
				if name != "closed" {
					held[2].Close() // the last has nobody to make way for
				}
				before := ow.w.Stats()[wire.From1].Sent
				time.Sleep(50 * time.Second)
				if n := ow.w.Stats()[wire.From1].Sent - before; n != 0 {
					t.Errorf("%d frames from connections that have ended", n)
				}
				for _, s := range held {
					s.Close()
				}
			})
		})
	}
}
