package netdiff

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A method is one call of every method there is, in every state that a socket can
// be in. do returns what came of it.
type method[C any] struct {
	name string
	do   func(*env, C) string
}

// A state brings a socket into a state.
type state[C any] struct {
	name  string
	reach func(*env) C
	skip  string // methods that would wait for ever, with commas between
}

// inEveryState returns a behaviour for each pair of the two.
func inEveryState[C any](what string, states []state[C], methods []method[C]) (all []behaviour) {
	for _, s := range states {
		for _, m := range methods {
			if slices.Contains(strings.Split(s.skip, ","), m.name) {
				continue
			}
			all = append(all, behaviour{
				name: fmt.Sprintf("%s/%s/%s", what, s.name, m.name),
				run: func(e *env) {
					c := s.reach(e)
					e.saw("%s: %s", m.name, m.do(e, c))
				},
			})
		}
	}
	return all
}

var tcpMethods = []method[tcpConn]{
	{"Read", func(e *env, c tcpConn) string { return e.read(c, 8) }},
	{"Read of nothing", func(e *env, c tcpConn) string { return e.io(c.Read(nil)) }},
	{"Write", func(e *env, c tcpConn) string { return e.io(c.Write([]byte("x"))) }},
	{"Write of nothing", func(e *env, c tcpConn) string { return e.io(c.Write(nil)) }},
	{"Close", func(e *env, c tcpConn) string { return e.err(c.Close()) }},
	{"CloseRead", func(e *env, c tcpConn) string { return e.err(c.CloseRead()) }},
	{"CloseWrite", func(e *env, c tcpConn) string { return e.err(c.CloseWrite()) }},
	{"LocalAddr", func(e *env, c tcpConn) string { return e.addr(c.LocalAddr()) }},
	{"RemoteAddr", func(e *env, c tcpConn) string { return e.addr(c.RemoteAddr()) }},
	{"SetDeadline", func(e *env, c tcpConn) string { return e.err(c.SetDeadline(time.Time{})) }},
	{"SetReadDeadline", func(e *env, c tcpConn) string { return e.err(c.SetReadDeadline(time.Time{})) }},
	{"SetWriteDeadline", func(e *env, c tcpConn) string { return e.err(c.SetWriteDeadline(time.Time{})) }},
	{"SetKeepAlive", func(e *env, c tcpConn) string { return e.err(c.SetKeepAlive(true)) }},
	{"SetKeepAlivePeriod", func(e *env, c tcpConn) string { return e.err(c.SetKeepAlivePeriod(time.Minute)) }},
	{"SetKeepAliveConfig", func(e *env, c tcpConn) string {
		return e.err(c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute}))
	}},
	{"SetLinger", func(e *env, c tcpConn) string { return e.err(c.SetLinger(1)) }},
	{"SetNoDelay", func(e *env, c tcpConn) string { return e.err(c.SetNoDelay(false)) }},
	{"SetReadBuffer", func(e *env, c tcpConn) string { return e.err(c.SetReadBuffer(8192)) }},
	{"SetWriteBuffer", func(e *env, c tcpConn) string { return e.err(c.SetWriteBuffer(8192)) }},
	{"ReadFrom", func(e *env, c tcpConn) string { return e.io64(c.ReadFrom(strings.NewReader("x"))) }},
	{"ReadFrom a reader alone", func(e *env, c tcpConn) string {
		return e.io64(c.ReadFrom(struct{ io.Reader }{strings.NewReader("x")}))
	}},
	{"ReadFrom of nothing", func(e *env, c tcpConn) string {
		return e.io64(c.ReadFrom(struct{ io.Reader }{strings.NewReader("")}))
	}},
	{"WriteTo", func(e *env, c tcpConn) string { return e.io64(c.WriteTo(io.Discard)) }},
}

var tcpStates = []state[tcpConn]{
	{"open", func(e *env) tcpConn { c, _ := e.dialed(); return c }, "Read,WriteTo"},
	{"accepted", func(e *env) tcpConn { c, _ := e.accepted(); return c }, "Read,WriteTo"},
	{"closed", func(e *env) tcpConn {
		c, _ := e.dialed()
		e.must(c.Close())
		return c
	}, ""},
	{"accepted and closed", func(e *env) tcpConn {
		c, _ := e.accepted()
		e.must(c.Close())
		return c
	}, ""},
	{"CloseRead", func(e *env) tcpConn {
		c, _ := e.dialed()
		e.must(c.CloseRead())
		return c
	}, ""},
	{"CloseWrite", func(e *env) tcpConn {
		c, _ := e.dialed()
		e.must(c.CloseWrite())
		return c
	}, "Read,WriteTo"},
	{"both halves closed", func(e *env) tcpConn {
		c, _ := e.dialed()
		e.must(c.CloseWrite())
		e.must(c.CloseRead())
		return c
	}, ""},
	{"peer has closed its half", func(e *env) tcpConn {
		c, far := e.dialed()
		e.must(far.CloseWrite())
		e.saw("%s", e.readAll(c))
		return c
	}, ""},
	{"peer has closed", func(e *env) tcpConn {
		c, far := e.dialed()
		e.must(far.Close())
		e.saw("%s", e.readAll(c))
		return c
	}, ""},
	{"reset, told to Read", func(e *env) tcpConn {
		c, far := e.dialed()
		e.reset(far)
		e.saw("%s", e.readAll(c))
		return c
	}, ""},
	{"reset, told to Write", func(e *env) tcpConn {
		c, far := e.dialed()
		e.reset(far)
		e.saw("%s", e.writeUntilError(c))
		return c
	}, ""},
	{"deadlines passed", func(e *env) tcpConn {
		c, _ := e.dialed()
		e.must(c.SetDeadline(time.Unix(1, 0)))
		return c
	}, ""},
}

// reset closes a connection so that the peer gets a reset.
func (e *env) reset(c tcpConn) {
	e.must(c.SetLinger(0))
	e.must(c.Close())
}

// writeUntilError writes single bytes until that fails, which is some time after
// the peer has reset the connection, and returns the error. Bytes are not counted.
func (e *env) writeUntilError(c net.Conn) string {
	e.must(c.SetWriteDeadline(e.late()))
	for {
		if _, err := c.Write([]byte("x")); err != nil {
			return e.err(err)
		}
		<-time.After(time.Millisecond) // leave room for others' packets
	}
}

var listenerMethods = []method[tcpListener]{
	{"Accept", func(e *env, l tcpListener) string {
		c, err := l.Accept()
		return fmt.Sprintf("%v %s", c == nil, e.err(err))
	}},
	{"Addr", func(e *env, l tcpListener) string { return e.addr(l.Addr()) }},
	{"Close", func(e *env, l tcpListener) string { return e.err(l.Close()) }},
	{"SetDeadline", func(e *env, l tcpListener) string { return e.err(l.SetDeadline(time.Time{})) }},
}

var listenerStates = []state[tcpListener]{
	{"open", (*env).nearListener, "Accept"},
	{"closed", func(e *env) tcpListener {
		l := e.nearListener()
		e.must(l.Close())
		return l
	}, ""},
	{"deadline passed", func(e *env) tcpListener {
		l := e.nearListener()
		e.must(l.SetDeadline(time.Unix(1, 0)))
		return l
	}, ""},
}

// discardPort is one of UDP where nobody listens.
const discardPort = 19

var udpMethods = []method[udpConn]{
	{"Read", func(e *env, c udpConn) string { return e.read(c, 8) }},
	{"Read of nothing", func(e *env, c udpConn) string { return e.io(c.Read(nil)) }},
	{"ReadFrom", func(e *env, c udpConn) string {
		n, a, err := c.ReadFrom(make([]byte, 8))
		return fmt.Sprintf("%d bytes from %s, %s", n, e.addr(a), e.err(err))
	}},
	{"ReadFrom of nothing", func(e *env, c udpConn) string {
		n, a, err := c.ReadFrom(nil)
		return fmt.Sprintf("%d bytes from %s, %s", n, e.addr(a), e.err(err))
	}},
	{"ReadFromUDP", func(e *env, c udpConn) string {
		n, a, err := c.ReadFromUDP(make([]byte, 8))
		return fmt.Sprintf("%d bytes from %s, %s", n, e.addr(a), e.err(err))
	}},
	{"ReadFromUDPAddrPort", func(e *env, c udpConn) string {
		n, a, err := c.ReadFromUDPAddrPort(make([]byte, 8))
		return fmt.Sprintf("%d bytes from %s, %s", n, e.addrPort(a), e.err(err))
	}},
	{"Write", func(e *env, c udpConn) string { return e.io(c.Write([]byte("x"))) }},
	{"Write of nothing", func(e *env, c udpConn) string { return e.io(c.Write(nil)) }},
	{"WriteTo", func(e *env, c udpConn) string {
		return e.io(c.WriteTo([]byte("x"), e.farUDP(discardPort)))
	}},
	{"WriteTo of nothing", func(e *env, c udpConn) string { return e.io(c.WriteTo(nil, e.farUDP(discardPort))) }},
	{"WriteTo without an address", func(e *env, c udpConn) string { return e.io(c.WriteTo([]byte("x"), nil)) }},
	{"WriteTo an address of TCP", func(e *env, c udpConn) string {
		return e.io(c.WriteTo([]byte("x"), e.farTCP(discardPort)))
	}},
	{"WriteToUDP", func(e *env, c udpConn) string {
		return e.io(c.WriteToUDP([]byte("x"), e.farUDP(discardPort)))
	}},
	{"WriteToUDP without an address", func(e *env, c udpConn) string { return e.io(c.WriteToUDP([]byte("x"), nil)) }},
	{"WriteToUDPAddrPort", func(e *env, c udpConn) string {
		return e.io(c.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(e.farHost, discardPort)))
	}},
	{"WriteToUDPAddrPort without an address", func(e *env, c udpConn) string {
		return e.io(c.WriteToUDPAddrPort([]byte("x"), netip.AddrPort{}))
	}},
	{"Close", func(e *env, c udpConn) string { return e.err(c.Close()) }},
	{"LocalAddr", func(e *env, c udpConn) string { return e.addr(c.LocalAddr()) }},
	{"RemoteAddr", func(e *env, c udpConn) string { return e.addr(c.RemoteAddr()) }},
	{"SetDeadline", func(e *env, c udpConn) string { return e.err(c.SetDeadline(time.Time{})) }},
	{"SetReadDeadline", func(e *env, c udpConn) string { return e.err(c.SetReadDeadline(time.Time{})) }},
	{"SetWriteDeadline", func(e *env, c udpConn) string { return e.err(c.SetWriteDeadline(time.Time{})) }},
	{"SetReadBuffer", func(e *env, c udpConn) string { return e.err(c.SetReadBuffer(8192)) }},
	{"SetWriteBuffer", func(e *env, c udpConn) string { return e.err(c.SetWriteBuffer(8192)) }},
	{"ReadMsgUDP", func(e *env, c udpConn) string {
		n, oobn, flags, a, err := c.ReadMsgUDP(make([]byte, 8), make([]byte, 64))
		return e.readMsg(n, oobn, flags, e.addr(a), err)
	}},
	{"ReadMsgUDPAddrPort", func(e *env, c udpConn) string {
		n, oobn, flags, a, err := c.ReadMsgUDPAddrPort(make([]byte, 8), nil)
		return e.readMsg(n, oobn, flags, e.addrPort(a), err)
	}},
	{"WriteMsgUDP", func(e *env, c udpConn) string {
		return e.msg(c.WriteMsgUDP([]byte("x"), nil, e.farUDP(discardPort)))
	}},
	{"WriteMsgUDP without an address", func(e *env, c udpConn) string { return e.msg(c.WriteMsgUDP([]byte("x"), nil, nil)) }},
	{"WriteMsgUDP of nothing", func(e *env, c udpConn) string { return e.msg(c.WriteMsgUDP(nil, nil, nil)) }},
	{"WriteMsgUDP with a bad control message", func(e *env, c udpConn) string {
		return e.msg(c.WriteMsgUDP([]byte("x"), make([]byte, 20), e.farUDP(discardPort)))
	}},
	{"WriteMsgUDPAddrPort", func(e *env, c udpConn) string {
		return e.msg(c.WriteMsgUDPAddrPort([]byte("x"), nil, netip.AddrPortFrom(e.farHost, discardPort)))
	}},
	{"WriteMsgUDPAddrPort without an address", func(e *env, c udpConn) string {
		return e.msg(c.WriteMsgUDPAddrPort([]byte("x"), nil, netip.AddrPort{}))
	}},
	{"ReadBatch", func(e *env, c udpConn) string {
		n, err := c.ReadBatch(batch(2), 0)
		return fmt.Sprintf("%d datagrams, %s", n, e.cause(err))
	}},
	{"ReadBatch of nothing", func(e *env, c udpConn) string {
		n, err := c.ReadBatch(nil, 0)
		return fmt.Sprintf("%d datagrams, %s", n, e.cause(err))
	}},
	{"WriteBatch", func(e *env, c udpConn) string {
		n, err := c.WriteBatch([]message{{Buffers: [][]byte{[]byte("x")}, Addr: e.farUDP(discardPort)}}, 0)
		return fmt.Sprintf("%d datagrams, %s", n, e.cause(err))
	}},
	{"WriteBatch without an address", func(e *env, c udpConn) string {
		n, err := c.WriteBatch([]message{{Buffers: [][]byte{[]byte("x")}}}, 0)
		return fmt.Sprintf("%d datagrams, %s", n, e.cause(err))
	}},
	{"WriteBatch of nothing", func(e *env, c udpConn) string {
		n, err := c.WriteBatch(nil, 0)
		return fmt.Sprintf("%d datagrams, %s", n, e.cause(err))
	}},
}

var udpStates = []state[udpConn]{
	{"unconnected", func(e *env) udpConn {
		c := e.nearPacket()
		e.must(c.SetReadDeadline(soon()))
		return c
	}, ""},
	{"connected", func(e *env) udpConn {
		c, _ := e.connectedUDP()
		e.must(c.SetReadDeadline(soon()))
		return c
	}, ""},
	{"unconnected and closed", func(e *env) udpConn {
		c := e.nearPacket()
		e.must(c.Close())
		return c
	}, ""},
	{"connected and closed", func(e *env) udpConn {
		c, _ := e.connectedUDP()
		e.must(c.Close())
		return c
	}, ""},
	{"refused", func(e *env) udpConn {
		c, err := e.near.DialUDP(e.udp(), nil, e.farUDP(e.closedUDP()))
		e.must(err)
		e.call(c.LocalAddr(), "near")
		e.saw("%s", e.refusal(c, func() string { return e.read(c, 8) }))
		return c
	}, ""},
	{"a datagram waits", func(e *env) udpConn {
		c, far := e.connectedUDP()
		_, err := far.WriteTo([]byte("hello, world"), e.nearUDP(portOf(c.LocalAddr())))
		e.must(err)
		e.must(c.SetReadDeadline(e.late()))
		return c
	}, ""},
	{"deadlines passed", func(e *env) udpConn {
		c := e.nearPacket()
		e.must(c.SetDeadline(time.Unix(1, 0)))
		return c
	}, ""},
}

// Values that options are set to on an open connection, good ones and bad ones.
func optionBehaviours() (all []behaviour) {
	tcp := func(name string, set func(tcpConn) error) {
		all = append(all, behaviour{name: "option/TCP/" + name, run: func(e *env) {
			c, far := e.dialed()
			e.saw("%s", e.err(set(c)))
			e.send(c, "still works")
			e.saw("%q", e.exactly(far, 11))
		}})
	}
	udp := func(name string, set func(udpConn) error) {
		all = append(all, behaviour{name: "option/UDP/" + name, run: func(e *env) {
			c, far := e.connectedUDP()
			e.saw("%s", e.err(set(c)))
			e.send(c, "still works")
			e.saw("%q", e.datagram(far))
		}})
	}
	for _, n := range []int{-1, 0, 1, 4096, 1 << 20, 1 << 30} {
		tcp(fmt.Sprintf("SetReadBuffer(%d)", n), func(c tcpConn) error { return c.SetReadBuffer(n) })
		tcp(fmt.Sprintf("SetWriteBuffer(%d)", n), func(c tcpConn) error { return c.SetWriteBuffer(n) })
		udp(fmt.Sprintf("SetReadBuffer(%d)", n), func(c udpConn) error { return c.SetReadBuffer(n) })
		udp(fmt.Sprintf("SetWriteBuffer(%d)", n), func(c udpConn) error { return c.SetWriteBuffer(n) })
	}
	for _, n := range []int{-1, 0, 1, 1 << 20} {
		tcp(fmt.Sprintf("SetLinger(%d)", n), func(c tcpConn) error { return c.SetLinger(n) })
	}
	for _, on := range []bool{true, false} {
		tcp(fmt.Sprintf("SetNoDelay(%v)", on), func(c tcpConn) error { return c.SetNoDelay(on) })
		tcp(fmt.Sprintf("SetKeepAlive(%v)", on), func(c tcpConn) error { return c.SetKeepAlive(on) })
	}
	for _, d := range []time.Duration{-time.Second, 0, time.Nanosecond, time.Second, 32767 * time.Second, 32768 * time.Second, 1 << 62} {
		tcp(fmt.Sprintf("SetKeepAlivePeriod(%v)", d), func(c tcpConn) error { return c.SetKeepAlivePeriod(d) })
		tcp(fmt.Sprintf("SetKeepAliveConfig(idle %v)", d), func(c tcpConn) error {
			return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: d})
		})
		tcp(fmt.Sprintf("SetKeepAliveConfig(interval %v)", d), func(c tcpConn) error {
			return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Interval: d})
		})
	}
	for _, n := range []int{-1, 0, 1, 127, 128} {
		tcp(fmt.Sprintf("SetKeepAliveConfig(count %d)", n), func(c tcpConn) error {
			return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Count: n})
		})
	}
	return all
}

// refusal sends a datagram to a port where nobody listens, and reads, until that
// tells more than that it has waited: hosts limit how often they refuse. It waits long
// enough for a busy machine, or a refusal that is late would be told besides that of
// the next datagram. The deadline of c is a short one afterwards.
func (e *env) refusal(c net.Conn, read func() string) string {
	for {
		e.must(c.SetReadDeadline(time.Now().Add(5 * time.Second)))
		if _, err := c.Write([]byte("x")); errors.Is(err, syscall.ECONNREFUSED) {
			continue // that was the answer to the one before
		} else {
			e.must(err)
		}
		if s := read(); !strings.Contains(s, "os.ErrDeadlineExceeded") {
			e.must(c.SetReadDeadline(soon()))
			return s
		}
	}
}

// datagram reads one datagram and fails otherwise.
func (e *env) datagram(c udpConn) []byte {
	e.must(c.SetReadDeadline(e.late()))
	b := make([]byte, 1<<16)
	n, _, err := c.ReadFromUDPAddrPort(b)
	e.must(err)
	return b[:n]
}
