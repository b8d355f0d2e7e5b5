package netdiff

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"
)

// messageBehaviours are about datagrams with what comes beside their data, and many
// at a time.
func messageBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) { all = append(all, behaviour{name: "message/" + name, run: run}) }

	// ReadMsgUDP and WriteMsgUDP.
	for _, size := range []int{0, 1, 5, 1473, 8192} {
		for _, room := range []int{0, 1, 5, 9000} {
			add(fmt.Sprintf("WriteMsgUDP of %d bytes, ReadMsgUDP into %d", size, room), func(e *env) {
				c, far := e.connectedUDP()
				e.saw("%s", e.msg(c.WriteMsgUDP(pattern(size), nil, nil)))
				e.saw("%v", bytes.Equal(e.datagram(far), pattern(size)))
				_, err := far.WriteToUDP(pattern(size), e.nearUDP(portOf(c.LocalAddr())))
				e.must(err)
				e.must(c.SetReadDeadline(e.late()))
				b := make([]byte, room)
				n, oobn, flags, from, err := c.ReadMsgUDP(b, make([]byte, 64))
				e.saw("%s %v", e.readMsg(n, oobn, flags, e.addr(from), err), bytes.Equal(b[:n], pattern(size)[:n]))
			})
		}
	}
	for _, size := range []int{65507, 65508, 65535, 65536} {
		add(fmt.Sprintf("WriteMsgUDPAddrPort of %d bytes", size), func(e *env) {
			c, far := e.nearPacket(), e.farPacket()
			n, oobn, err := c.WriteMsgUDPAddrPort(pattern(size), nil, netip.AddrPortFrom(e.farHost, uint16(portOf(far.LocalAddr()))))
			e.saw("%s", e.msg(n, oobn, err))
			if err == nil {
				e.saw("%v", bytes.Equal(e.datagram(far), pattern(size)))
			}
		})
	}
	add("ReadMsgUDPAddrPort", func(e *env) {
		c, far := e.nearPacket(), e.farPacket()
		_, err := far.WriteToUDP([]byte("hello"), e.nearUDP(portOf(c.LocalAddr())))
		e.must(err)
		e.must(c.SetReadDeadline(e.late()))
		b := make([]byte, 8)
		n, oobn, flags, from, err := c.ReadMsgUDPAddrPort(b, nil)
		e.saw("%s %q", e.readMsg(n, oobn, flags, e.addrPort(from), err), b[:n])
		e.saw("%s", e.msg(c.WriteMsgUDPAddrPort([]byte("answer"), nil, from)))
		e.saw("%q", e.datagram(far))
	})
	add("WriteMsgUDPAddrPort to an address of the other family", func(e *env) {
		c := e.nearPacket()
		e.saw("%s", e.msg(c.WriteMsgUDPAddrPort([]byte("x"), nil, netip.AddrPortFrom(e.strange(e.other()), 80))))
	})
	add("WriteMsgUDP to port 0", func(e *env) {
		c := e.nearPacket()
		e.saw("%s", e.msg(c.WriteMsgUDP([]byte("x"), nil, e.farUDP(0))))
	})
	for _, n := range []int{1, 15, 16, 40} {
		add(fmt.Sprintf("WriteMsgUDP with %d zero bytes of control messages", n), func(e *env) {
			c, _ := e.connectedUDP()
			e.saw("%s", e.msg(c.WriteMsgUDP([]byte("x"), make([]byte, n), nil)))
		})
	}
	add("refused, told to ReadMsgUDP", func(e *env) {
		c, err := e.near.DialUDP(e.udp(), nil, e.farUDP(e.closedUDP()))
		e.must(err)
		e.call(c.LocalAddr(), "near")
		e.saw("%s", e.refusal(c, func() string {
			_, _, _, _, err := c.ReadMsgUDP(make([]byte, 8), nil)
			return e.err(err)
		}))
	})
	add("refused, told to ReadBatch", func(e *env) {
		c, err := e.near.DialUDP(e.udp(), nil, e.farUDP(e.closedUDP()))
		e.must(err)
		e.call(c.LocalAddr(), "near")
		e.saw("%s", e.refusal(c, func() string {
			_, err := c.ReadBatch(batch(1), 0)
			return e.cause(err)
		}))
	})

	// ReadBatch and WriteBatch.
	sent := func(e *env, far, near udpConn, texts ...string) {
		for _, text := range texts {
			_, err := far.WriteToUDP([]byte(text), e.nearUDP(portOf(near.LocalAddr())))
			e.must(err)
		}
	}
	// gets reads as many datagrams as there are, by several batches if need be.
	gets := func(e *env, c udpConn, want, size int) {
		e.must(c.SetReadDeadline(e.late()))
		for got := 0; got < want; {
			ms := batch(size)
			n, err := c.ReadBatch(ms, 0)
			e.must(err)
			for _, m := range ms[:n] {
				e.saw("%d, %d bytes from %s, flags %#x: %q", m.N, m.NN, e.addr(m.Addr), m.Flags, m.Buffers[0][:m.N])
			}
			got += n
		}
	}
	add("ReadBatch", func(e *env) {
		c, far := e.nearPacket(), e.farPacket()
		sent(e, far, c, "one", "", "three", "four and more", "five")
		gets(e, c, 5, 3)
	})
	add("ReadBatch, connected", func(e *env) {
		c, far := e.connectedUDP()
		sent(e, far, c, "one", "two")
		gets(e, c, 2, 8)
	})
	add("ReadBatch into several buffers", func(e *env) {
		c, far := e.nearPacket(), e.farPacket()
		sent(e, far, c, "hello, world", "hi", "hello, world, again")
		e.must(c.SetReadDeadline(e.late()))
		for range 3 {
			ms := []message{{Buffers: [][]byte{make([]byte, 3), {}, make([]byte, 10)}}}
			n, err := c.ReadBatch(ms, 0)
			m := ms[0]
			e.saw("%d %s: %d bytes, flags %#x: %q %q", n, e.cause(err), m.N, m.Flags, m.Buffers[0], m.Buffers[2])
		}
	})
	add("ReadBatch blocks, and takes a datagram", func(e *env) {
		c, far := e.nearPacket(), e.farPacket()
		read := e.blocked(func() string {
			n, err := c.ReadBatch(batch(4), 0)
			return fmt.Sprintf("%d %s", n, e.cause(err))
		})
		sent(e, far, c, "x")
		e.saw("%s", read.result())
	})
	add("ReadBatch blocks, and Close ends it", func(e *env) {
		c := e.nearPacket()
		read := e.blocked(func() string {
			_, err := c.ReadBatch(batch(4), 0)
			return e.cause(err)
		})
		e.must(c.Close())
		e.saw("%s", read.result())
	})
	add("ReadBatch ends at its deadline", func(e *env) {
		c := e.nearPacket()
		at := soon()
		e.must(c.SetReadDeadline(at))
		_, err := c.ReadBatch(batch(4), 0)
		e.saw("%s %s", e.cause(err), timing(at, err))
	})
	add("WriteBatch", func(e *env) {
		c, far := e.nearPacket(), e.farPacket()
		to := far.LocalAddr()
		ms := []message{
			{Buffers: [][]byte{[]byte("one")}, Addr: to},
			{Buffers: [][]byte{[]byte("tw"), {}, []byte("o")}, Addr: to},
			{Buffers: [][]byte{{}}, Addr: to},
			{Addr: to},
		}
		n, err := c.WriteBatch(ms, 0)
		e.saw("%d %s", n, e.cause(err))
		for _, m := range ms {
			e.saw("%d %d %q", m.N, m.NN, e.datagram(far))
		}
	})
	add("WriteBatch, connected", func(e *env) {
		c, far := e.connectedUDP()
		other := e.farPacket()
		ms := []message{{Buffers: [][]byte{[]byte("one")}}, {Buffers: [][]byte{[]byte("two")}, Addr: other.LocalAddr()}}
		n, err := c.WriteBatch(ms, 0)
		e.saw("%d %s", n, e.cause(err))
		e.saw("%q %q", e.datagram(far), e.datagram(other))
	})
	add("WriteBatch of 70000 bytes after a good one", func(e *env) {
		c, far := e.connectedUDP()
		ms := []message{{Buffers: [][]byte{[]byte("good")}}, {Buffers: [][]byte{make([]byte, 70000)}}, {Buffers: [][]byte{[]byte("late")}}}
		n, err := c.WriteBatch(ms, 0)
		e.saw("%d %s", n, e.cause(err))
		n, err = c.WriteBatch(ms[1:], 0)
		e.saw("%d %s", n, e.cause(err))
		e.saw("%q", e.datagram(far))
	})
	add("WriteBatch with the deadline passed", func(e *env) {
		c, _ := e.connectedUDP()
		e.must(c.SetWriteDeadline(time.Unix(1, 0)))
		n, err := c.WriteBatch([]message{{Buffers: [][]byte{[]byte("x")}}}, 0)
		e.saw("%d %s", n, e.cause(err))
	})
	return all
}
