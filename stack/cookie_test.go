package stack

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// TestCookieNumbers has a peer that got a SYN cookie, and whose first segments are
// lost, be heard with others: what it has sent is read from its first byte on.
func TestCookieNumbers(t *testing.T) {
	const data = "hello"
	for _, v6 := range []bool{false, true} {
		for _, noFastIP := range []bool{false, true} {
			t.Run(fmt.Sprintf("IPv6=%v/fast IP=%v", v6, !noFastIP), func(t *testing.T) {
				c := newComeback(t, v6, Config{NoFastIP: noFastIP})
				ln, err := (&ListenConfig{Stack: c.s[0], Backlog: 1}).Listen(t.Context(), "tcp", fmt.Sprint(":", servicePort))
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				c.syn(comebackPort+1, 1, 536) // is all that may be half open
				cookies := c.s[0].ns.Stats().TCP.ListenOverflowSynCookieSent
				for mss, ahead := range eachAhead() {
					for _, bare := range []bool{true, false} {
						what := fmt.Sprintf("MSS %d, %d ahead, bare %v", mss, ahead, bare)
						before := cookies.Value()
						c.seq += 1 << 20
						c.syn(comebackPort, c.seq, mss)
						c.seq++
						c.expect(t, header.TCPFlagSyn|header.TCPFlagAck)
						first := c.seq
						c.seq += uint32(ahead)
						if bare {
							c.send(header.TCPFlagAck, false, "")
						} else {
							c.send(header.TCPFlagAck, false, data[max(ahead, 0):])
						}
						c.seq = first
						c.send(header.TCPFlagAck|header.TCPFlagPsh, false, data)
						wantData(t, what, ln, data)
						if cookies.Value() == before {
							t.Fatalf("%s: no cookie", what)
						}
						c.settled(t)
						for len(c.got) > 0 {
							if h := <-c.got; h.SourcePort() == servicePort && ahead >= 0 && h.Flags().Contains(header.TCPFlagRst) {
								t.Errorf("%s: the peer is reset", what)
							}
						}
						c.send(header.TCPFlagRst, false, "")
						c.ack = 0
					}
				}
			})
		}
	}
}

// eachAhead yields sizes that a cookie tells apart, and how far ahead of the first
// byte a segment is that would be taken for the answer to another.
func eachAhead() func(yield func(mss uint16, ahead int) bool) {
	return func(yield func(uint16, int) bool) {
		for _, mss := range []uint16{536, 1300, 1440, 1460} {
			for ahead := 1 - cookieSizes; ahead < cookieSizes; ahead++ {
				if ahead != 0 && !yield(mss, ahead) {
					return
				}
			}
		}
	}
}

// wantData accepts a connection, reads data from it and closes it.
func wantData(t *testing.T, what string, ln net.Listener, data string) {
	t.Helper()
	ln.(*TCPListener).SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // it is open
	s, err := ln.Accept()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	s.(*TCPConn).SetLinger(0) //nolint:errcheck // it is open
	defer s.Close()
	s.SetReadDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // it is open
	b := make([]byte, len(data))
	if n, err := io.ReadFull(s, b); err != nil || string(b) != data {
		t.Errorf("%s: read %q, %v; want %q", what, b[:n], err, data)
	}
}

// syn sends a SYN that offers an MSS, and other options of whole words.
func (c *comeback) syn(from uint16, seq uint32, mss uint16, more ...byte) {
	n := header.TCPMinimumSize + header.TCPOptionMSSLength + len(more)
	h := make(header.TCP, n)
	h.Encode(&header.TCPFields{SrcPort: from, DstPort: c.port, SeqNum: seq, DataOffset: uint8(n), Flags: header.TCPFlagSyn, WindowSize: 60000})
	copy(h[header.TCPMinimumSize:], []byte{header.TCPOptionMSS, header.TCPOptionMSSLength})
	binary.BigEndian.PutUint16(h[header.TCPMinimumSize+2:], mss)
	copy(h[header.TCPMinimumSize+header.TCPOptionMSSLength:], more)
	putSum(c.from, c.to, 6, h, 16)
	c.w.Port(1).Send(ipFrame(c.w, c.from, c.to, 6, h))
}

// TestCookieTakenLate has a peer call again when there is room, after it was sent a
// cookie, and take the cookie: what it is told of windows is what it understands.
func TestCookieTakenLate(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, noFastIP := range []bool{false, true} {
			t.Run(fmt.Sprintf("IPv6=%v/fast IP=%v", v6, !noFastIP), func(t *testing.T) {
				c := newComeback(t, v6, Config{NoFastIP: noFastIP})
				ln, err := (&ListenConfig{Stack: c.s[0], Backlog: 1}).Listen(t.Context(), "tcp", fmt.Sprint(":", servicePort))
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				options := []byte{header.TCPOptionNOP, header.TCPOptionNOP, header.TCPOptionSACKPermitted, 2,
					header.TCPOptionNOP, header.TCPOptionWS, header.TCPOptionWSLength, 9}
				c.syn(comebackPort+1, 1, 1440) // is all that may be half open
				c.syn(comebackPort, c.seq, 1440, options...)
				cookie := c.expect(t, header.TCPFlagSyn|header.TCPFlagAck).SequenceNumber()
				c.reset(comebackPort+1, 2)
				c.settled(t)
				c.s[0].ns.Pause() // when its goroutines are done
				c.s[0].ns.Resume()
				c.syn(comebackPort, c.seq, 1440, options...)
				second := c.expect(t, header.TCPFlagSyn|header.TCPFlagAck)
				if second.SequenceNumber() == cookie {
					t.Fatal("the second answer is a cookie, too")
				}
				if o := header.ParseSynOptions(second.Options(), true); o.WS >= 0 || o.SACKPermitted {
					t.Errorf("the second answer has options that the cookie had not: %+v", o)
				}
				c.seq, c.ack = c.seq+1, cookie+1
				c.send(header.TCPFlagAck|header.TCPFlagPsh, false, "hello")
				if h := c.expect(t, header.TCPFlagAck); h.WindowSize() < 1440 {
					t.Errorf("a window of %d bytes, which has no room for a segment", h.WindowSize())
				}
				wantData(t, "the cookie", ln, "hello")
			})
		}
	}
}

// reset sends a reset.
func (c *comeback) reset(from uint16, seq uint32) {
	h := make(header.TCP, header.TCPMinimumSize)
	h.Encode(&header.TCPFields{SrcPort: from, DstPort: c.port, SeqNum: seq, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagRst})
	putSum(c.from, c.to, 6, h, 16)
	c.w.Port(1).Send(ipFrame(c.w, c.from, c.to, 6, h))
}
