package stack

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/xsk"
)

// A crowd is many TCP clients that the test plays on port 1 of a wire, in a few
// bytes each: what a connection costs then is what it costs the stack on port 0.
// Each client has one connection; even ones use IPv4 and odd ones IPv6. They are
// on the link, on more hosts than netstack's neighbour cache has room for.
type crowd struct {
	*overWire
	ln *TCPListener

	endpoints int // of the stack, with no client

	mu      sync.Mutex // guards what follows
	clients []client
}

// A client is one end of a connection. Names are those of RFC 9293, 3.3.1.
type client struct {
	nxt, rcv uint32 // SND.NXT and RCV.NXT
	state    clientState
	heard    uint8 // bytes of data that have come, modulo 256
}

type clientState uint8

const (
	clientNew    clientState = iota
	clientCalls              // its SYN is out
	clientOpen               // established
	clientLeaves             // its FIN is out
	clientGone               // closed by both, or reset
)

const (
	crowdHosts  = 1200 // half of them of each family
	crowdPort   = 80   // of the service
	crowdFirst  = 2000 // first port of a host
	crowdWindow = 256  // clients at a time that wait for an answer: a quarter of the RX ring
	crowdWords  = 16   // bytes that a client says
)

// newCrowd makes a stack, a service on it and n clients that have not called yet.
func newCrowd(t testing.TB, n int) *crowd {
	t.Helper()
	c := &crowd{clients: make([]client, n)}
	o := overWireOptions{alone: true, rings: xsk.RingSizes{Fill: 2048, Completion: 1024, RX: 1024, TX: 1024}}
	cfg := &o.config[0]
	cfg.Addresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/16"), netip.MustParsePrefix("fd00::1/64")}
	for host := range crowdHosts {
		cfg.Neighbors = append(cfg.Neighbors, Neighbor{Addr: crowdHost(host), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2}})
	}
	c.overWire = newOverWire(t, o)
	c.w.Port(1).OnReceive(c.receive)
	ln, err := c.s[0].Listen("tcp", fmt.Sprint(":", crowdPort))
	if err != nil {
		t.Fatal(err)
	}
	c.ln = ln.(*TCPListener)
	c.endpoints = len(c.s[0].ns.RegisteredEndpoints())
	t.Cleanup(func() { ln.Close() })
	return c
}

// crowdHost returns the address of a host; even ones have one of IPv4.
func crowdHost(i int) netip.Addr {
	a := [16]byte{0: 0xfd, 14: byte(1 + i>>8), 15: byte(i)}
	if i%2 == 1 {
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{10, 0, a[14], a[15]})
}

// indexOf returns the client that has an address and a port.
func indexOf(low [2]byte, port uint16) int {
	host := int(low[0]-1)<<8 | int(low[1])
	return (int(port)-crowdFirst)*crowdHosts + host
}

// of returns the client at the other end of a connection.
func (c *crowd) of(conn net.Conn) int {
	a := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	b := a.Addr().AsSlice()
	return indexOf([2]byte(b[len(b)-2:]), a.Port())
}

// call has client i connect.
func (c *crowd) call(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clients[i] = client{nxt: uint32(i) << 12, state: clientCalls}
	c.send(i, packet.SYN, "")
	c.clients[i].nxt++
}

// words are what client i says: crowdWords bytes.
func words(i int) string { return fmt.Sprintf("%*d", crowdWords, i) }

// say sends words.
func (c *crowd) say(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send(i, packet.ACK|packet.PSH, words(i))
	c.clients[i].nxt += crowdWords
}

// leave ends client i: with a reset, or in order.
func (c *crowd) leave(i int, reset bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reset {
		c.send(i, packet.RST|packet.ACK, "")
		c.clients[i].state = clientGone
		return
	}
	c.send(i, packet.FIN|packet.ACK, "")
	c.clients[i].nxt++
	c.clients[i].state = clientLeaves
}

// state returns where client i stands.
func (c *crowd) state(i int) clientState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clients[i].state
}

// heard returns how many bytes have come for client i, modulo 256.
func (c *crowd) heard(i int) uint8 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clients[i].heard
}

// receive answers a frame of the stack's.
func (c *crowd) receive(frame []byte) {
	var info packet.Info
	if packet.Parse(frame, &info) != packet.OK || !info.Kind.IsTCP() {
		return
	}
	i := indexOf([2]byte(frame[info.L4-2:]), info.DstPort)
	c.mu.Lock()
	defer c.mu.Unlock()
	if i < 0 || i >= len(c.clients) {
		return
	}
	k, n := &c.clients[i], info.PayloadLen()
	switch {
	case info.Flags&packet.RST != 0:
		k.state = clientGone
		return
	case k.state == clientNew || k.state == clientGone && info.Flags&packet.FIN == 0:
		return
	case info.Flags&packet.SYN != 0:
		k.rcv = info.Seq + 1
		if k.state == clientCalls {
			k.state = clientOpen
		}
	case info.Seq == k.rcv && info.Flags&packet.FIN != 0:
		k.rcv += uint32(n) + 1
		flags := uint8(packet.ACK)
		if k.state == clientOpen {
			flags |= packet.FIN
		}
		k.state = clientGone
		c.send(i, flags, "")
		if flags&packet.FIN != 0 {
			k.nxt++
		}
		return
	case info.Seq == k.rcv && n > 0:
		k.rcv += uint32(n)
		k.heard += uint8(n)
	case info.Seq == k.rcv:
		return // an acknowledgement
	}
	c.send(i, packet.ACK, "")
}

// send sends a segment of client i. A SYN has the options that Linux sends.
func (c *crowd) send(i int, flags uint8, data string) {
	k, local, remote := &c.clients[i], c.s[0].own4, crowdHost(i%crowdHosts)
	if remote.Is6() {
		local = c.s[0].own6
	}
	options := []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0} // timestamps
	if flags&packet.SYN != 0 {
		options = append(options, 2, 4, 0x05, 0xa0, 4, 2, 3, 3, 7, 0, 0, 0) // MSS, SACK, window scale
	}
	n := header.TCPMinimumSize + len(options)
	b := make([]byte, header.TCPMinimumSize, n+len(data))
	header.TCP(b).Encode(&header.TCPFields{SrcPort: uint16(crowdFirst + i/crowdHosts), DstPort: crowdPort, SeqNum: k.nxt,
		AckNum: k.rcv, DataOffset: uint8(n), Flags: header.TCPFlags(flags), WindowSize: 1 << 14})
	b = append(append(b, options...), data...)
	putSum(remote.AsSlice(), local.AsSlice(), packet.ProtoTCP, b, 16)
	c.w.Port(1).Send(ipFrame(c.w, remote.AsSlice(), local.AsSlice(), packet.ProtoTCP, b))
}
