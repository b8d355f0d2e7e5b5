package stack

import (
	"fmt"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// TestLate has the acknowledgement of a FIN overtake what the peer had sent before,
// which does not know of the FIN yet: the connection goes on to end.
func TestLate(t *testing.T) {
	for _, tc := range []struct {
		name  string
		flags header.TCPFlags // of the segment that is late
		data  string
		want  tcp.EndpointState
	}{
		{"FIN", header.TCPFlagFin, "", tcp.StateTimeWait},
		{"data", header.TCPFlagPsh, "hello", tcp.StateFinWait2},
		{"both", header.TCPFlagFin, "hello", tcp.StateTimeWait},
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
					c.send(header.TCPFlagSyn, true, "")
					c.expect(t, header.TCPFlagSyn|header.TCPFlagAck)
					c.send(header.TCPFlagAck, true, "")
					conn, err := ln.Accept()
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					s := conn.(*TCPConn)
					if err := s.CloseWrite(); err != nil {
						t.Fatal(err)
					}
					first, before := c.seq, c.ack
					c.expect(t, header.TCPFlagFin)
					all := c.ack
					if c.seq += uint32(len(tc.data)); tc.flags&header.TCPFlagFin != 0 {
						c.seq++
					}
					c.send(header.TCPFlagAck, true, "")
					c.seq, c.ack = first, before
					c.send(header.TCPFlagAck|tc.flags, true, tc.data)
					c.settled(t)
					if err := poll(func() error {
						if state := s.ep.(*tcp.Endpoint).EndpointState(); state != tc.want {
							return fmt.Errorf("the connection is in %v, want %v", state, tc.want)
						}
						return nil
					}); err != nil {
						t.Error(err)
					}
					c.ack = all
					c.send(header.TCPFlagRst, false, "")
				})
			}
		}
	}
}
