package stack

import (
	"io"
	"net"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// TestInlineLifecycle lets connections come and go while netstack's own
// goroutines stand still: none of them is needed from the first SYN to the end
// of the stream. One that the program has to wake all the same, because a
// segment came while it held the endpoint itself, does nothing; the peer then
// sends the segment again.
func TestInlineLifecycle(t *testing.T) {
	ow := newOverWire(t, overWireOptions{chosen: true})
	for _, s := range ow.s {
		p := s.ns.TransportProtocolInstance(tcp.ProtocolNumber)
		p.Pause()
		defer p.Resume()
	}
	for _, host := range []string{addrB, addrB6} {
		l, err := ow.s[1].Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for i := range 10 {
			within(t, "a connection", func() {
				c, err := ow.s[0].Dial("tcp", l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				s, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				ends := [2]net.Conn{c, s}
				first, last := ends[i%2], ends[1-i%2]
				if _, err := first.Write([]byte("first")); err != nil {
					t.Error(err)
				}
				first.(*TCPConn).CloseWrite() //nolint:errcheck // last tells
				if b, err := io.ReadAll(last); err != nil || string(b) != "first" {
					t.Errorf("%q, %v", b, err)
				}
				if _, err := last.Write([]byte("last")); err != nil {
					t.Error(err)
				}
				last.Close()
				if b, err := io.ReadAll(first); err != nil || string(b) != "last" {
					t.Errorf("%q, %v", b, err)
				}
				first.Close()
			})
		}
	}
}
