package stack

import (
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/afxnet/afxnet/internal/wire"
)

// marks are the TTL and the TOS of the segments that went one way.
type marks struct {
	mu  sync.Mutex
	all []tcpMark
}

type tcpMark struct {
	ttl, tos uint8
	flags    header.TCPFlags
}

// watchMarks notes what leaves from port 0 of a wire.
func watchMarks(t *testing.T, w *wire.Wire) *marks {
	m := new(marks)
	note := wire.Faults{Filter: func(_ wire.Dir, f []byte) wire.Verdict {
		var s tcpMark
		var tcp header.TCP
		switch f = f[14:]; header.IPVersion(f) {
		case 4:
			h := header.IPv4(f)
			if h.TransportProtocol() != header.TCPProtocolNumber {
				return wire.Pass
			}
			s.ttl = h.TTL()
			s.tos, _ = h.TOS()
			tcp = h.Payload()
		case 6:
			h := header.IPv6(f)
			if h.NextHeader() != uint8(header.TCPProtocolNumber) {
				return wire.Pass
			}
			s.ttl = h.HopLimit()
			s.tos, _ = h.TOS()
			tcp = h.Payload()
		default:
			return wire.Pass
		}
		s.flags = tcp.Flags()
		m.mu.Lock()
		m.all = append(m.all, s)
		m.mu.Unlock()
		return wire.Pass
	}}
	if err := w.SetFaults(wire.From0, note); err != nil {
		t.Fatal(err)
	}
	return m
}

// take returns what was noted since the last call.
func (m *marks) take() []tcpMark {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.all
	m.all = nil
	return all
}

// TestTCPMarks looks at the frames of both ends of a connection: the handshake's, data
// in one segment and in many, acknowledgements, and the end.
func TestTCPMarks(t *testing.T) {
	for _, tc := range selves {
		for _, host := range []string{addrB, addrB6} {
			for _, accepts := range []bool{false, true} {
				name := tc.name + " " + host
				if accepts {
					name += " accepted"
				}
				t.Run(name, func(t *testing.T) {
					o := overWireOptions{}
					tc.set(&o.config[0])
					tc.set(&o.config[1])
					ow := newOverWire(t, o)
					m := watchMarks(t, ow.w)
					testMarks(t, ow, m, host, accepts)
				})
			}
		}
	}
}

func testMarks(t *testing.T, ow *overWire, m *marks, host string, accepts bool) {
	if accepts { // port 0 is the one that is looked at
		ow.s[0], ow.s[1] = ow.s[1], ow.s[0]
		defer func() { ow.s[0], ow.s[1] = ow.s[1], ow.s[0] }()
		host = map[string]string{addrB: addrA, addrB6: addrA6}[host]
	}
	dialed, accepted := ow.tcpPair(t, host)
	c, peer := dialed, accepted
	if accepts {
		c, peer = accepted, dialed
	}
	exchange := func(n int) {
		t.Helper()
		go c.Write(make([]byte, n)) //nolint:errcheck // the reader tells
		if _, err := io.ReadFull(peer, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		go peer.Write(make([]byte, n)) //nolint:errcheck // the reader tells
		if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, ttl, tos uint8) {
		t.Helper()
		all := m.take()
		for _, s := range all {
			if s.ttl != ttl || s.tos != tos {
				t.Fatalf("%s: %+v; want TTL %d, TOS %d", what, s, ttl, tos)
			}
		}
		if len(all) == 0 {
			t.Errorf("%s: nothing was seen", what)
		}
	}
	exchange(1)
	check("before", 64, 0)
	for _, set := range []struct {
		ttl, tos int
		want     uint8 // of tos
	}{{1, 0x2e << 2, 0x2e << 2}, {255, 255, 252}, {77, 3, 0}, {33, 0x48 | 1, 0x48}} {
		// An acknowledgement of before may be on its way still: what is sent
		// up to the first answer is not looked at.
		if err := c.SetTTL(set.ttl); err != nil {
			t.Fatal(err)
		}
		if err := c.SetTOS(set.tos); err != nil {
			t.Fatal(err)
		}
		exchange(1)
		m.take()
		exchange(1)
		exchange(200_000)
		check("set", uint8(set.ttl), set.want)
	}
	// Refused values change nothing.
	for _, v := range []int{-1, 256, 1 << 20} {
		wantOp(t, c.SetTTL(v), "set", syscall.EINVAL)
		wantOp(t, c.SetTOS(v), "set", syscall.EINVAL)
	}
	wantOp(t, c.SetTTL(0), "set", syscall.EINVAL)
	exchange(1)
	c.Close()
	peer.Read(make([]byte, 1)) //nolint:errcheck // the FIN has come
	check("the end", 33, 0x48)
	wantOp(t, c.SetTTL(9), "set", net.ErrClosed)
	wantOp(t, c.SetTOS(9), "set", net.ErrClosed)
}

// TestTCPMarksOfReset looks at the segment with which SetLinger(0) ends a connection.
func TestTCPMarksOfReset(t *testing.T) {
	for _, tc := range selves {
		t.Run(tc.name, func(t *testing.T) {
			o := overWireOptions{}
			tc.set(&o.config[0])
			ow := newOverWire(t, o)
			m := watchMarks(t, ow.w)
			c, peer := ow.tcpPair(t, addrB)
			for _, err := range []error{c.SetTTL(5), c.SetTOS(0x20), c.SetLinger(0)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
			if _, err := peer.Read(make([]byte, 1)); err == nil {
				t.Fatal("no reset")
			}
			all := m.take()
			if last := all[len(all)-1]; last.ttl != 5 || last.tos != 0x20 || !last.flags.Contains(header.TCPFlagRst) {
				t.Errorf("%+v; want a reset, TTL 5, TOS 0x20", last)
			}
		})
	}
}
