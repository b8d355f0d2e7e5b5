package stack

import (
	"fmt"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// TestEcho has a peer send a segment again, for want of its acknowledgement: the
// answer has the timestamp of the later copy. An older one does not take that back.
func TestEcho(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, noFastIP := range []bool{false, true} {
			t.Run(fmt.Sprintf("IPv6=%v/fast IP=%v", v6, !noFastIP), func(t *testing.T) {
				c := newComeback(t, v6, Config{NoFastIP: noFastIP})
				ln, err := c.s[0].Listen("tcp", fmt.Sprint(":", servicePort))
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				c.time = 1<<31 - 500 // its sign changes on the way
				c.send(header.TCPFlagSyn, true, "")
				c.expect(t, header.TCPFlagSyn|header.TCPFlagAck)
				c.send(header.TCPFlagAck, true, "")
				conn, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				ep := conn.(*TCPConn).ep.(*tcp.Endpoint)
				first, begin := c.seq, c.time
				for _, tc := range []struct {
					what       string
					data       string
					at         uint32 // in the stream
					time, want uint32 // after the beginning
				}{
					{"a segment", "hello", 0, 10, 10},
					{"its second copy", "hello", 0, 1000, 1000},
					{"its first", "hello", 0, 10, 1000},
					{"the next, which is older", "world", 5, 500, 1000},
					{"the first of both again", "hello", 0, 3000, 3000},
					{"both again", "helloworld", 0, 7000, 7000},
					{"a part of the second", "orld", 6, 7001, 7001},
					{"what was never sent", "hello", 1<<32 - leastWindow - 5, 9000, 7001},
					{"what is new", "!", 10, 9000, 9000},
				} {
					c.seq, c.time = first+tc.at, begin+tc.time
					c.send(header.TCPFlagAck|header.TCPFlagPsh, true, tc.data)
					h := c.expect(t, header.TCPFlagAck)
					if got := h.ParsedOptions().TSEcr - begin; got != tc.want {
						t.Errorf("%s: the answer echoes %d, want %d", tc.what, int32(got), tc.want)
					}
					// Who has sent the answer has the endpoint until it is out.
					ep.LockUser()
					ep.UnlockUser()
				}
				c.send(header.TCPFlagRst, false, "")
			})
		}
	}
}

// TestRepeats looks at the bounds of what is taken for another copy.
func TestRepeats(t *testing.T) {
	const rcv = 1<<32 - 100
	for _, tc := range []struct {
		name string
		seq  uint32
		n    int
		want verdict
	}{
		{"the last", rcv - 10, 10, again},
		{"of which some is new", rcv - 10, 11, taken},
		{"the next", rcv, 10, taken},
		{"after a gap", rcv + 10, 10, taken},
		{"before the last", rcv - 20, 10, again},
		{"the lowest", rcv - 10 - (leastWindow - 1), 10, again},
		{"too low", rcv - 10 - leastWindow, 10, taken},
		{"no data", rcv - 1, 0, taken},
	} {
		b := newBooks()
		b.out(syn, 999, 0, 0, 9)
		b.in(syn|ack, 1000, 9, 9)
		b.out(ack, 1000, rcv, 10, -1)
		h := tcpHeaderOf(ack, tc.seq, 1010, 9, -1)
		if _, v := b.t.incoming(b.hash, h, tc.n); v != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, v, tc.want)
		}
	}
}
