package netdiff

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"
	"time"
)

// icmpCodes are ICMP errors: for each family and type, how many codes are tried.
var icmpCodes = []struct {
	only  byte
	typ   uint8
	codes uint8
}{
	{'4', 3, 17}, {'4', 4, 1}, {'4', 11, 2}, {'4', 12, 2}, // 4 is source quench
	{'6', 1, 8}, {'6', 2, 1}, {'6', 3, 2}, {'6', 4, 3},
}

// toldTCPBehaviours are about what TCP hears of ICMP errors: a dial ends, and a
// connection remembers why it may be that nobody answers.
func toldTCPBehaviours() (all []behaviour) {
	for _, x := range icmpCodes {
		for code := range x.codes {
			all = append(all, behaviour{
				name: fmt.Sprintf("icmp/TCP dial hears of IPv%c type %d code %d", x.only, x.typ, code),
				only: x.only, inside: true, raw: true,
				run: func(e *env) { e.dialTold(x.typ, code) },
			})
		}
	}
	add := func(name string, slow bool, run func(*env)) {
		all = append(all, behaviour{name: "icmp/" + name, inside: true, raw: true, slow: slow, run: run})
	}
	add("TCP dial does not hear of other segments", false, func(e *env) {
		from, dial, seq := e.dialHole()
		for _, guess := range []uint32{seq - 1, seq + 2, seq + 1<<31} {
			e.must(e.complainOfSegment(1, 1, from, e.hole, guess))
		}
		e.must(e.complainOfSegmentPort(from, e.hole, seq))
		e.saw("%s", dial.result())
	})
	add("a connection goes on", false, func(e *env) {
		c, far := e.dialed()
		sequence := e.watched(c)
		e.send(c, "one")
		e.saw("%q", e.exactly(far, 3))
		seq, err := sequence()
		e.must(err)
		read := e.blocked(func() string { return e.read(c, 8) })
		for _, x := range icmpCodes {
			for code := range x.codes {
				if x.only == e.family {
					e.must(e.complainOfSegment(x.typ, code, addrPortOf(c.LocalAddr()), addrPortOf(c.RemoteAddr()), seq+3))
				}
			}
		}
		e.send(c, "two")
		e.saw("%q", e.exactly(far, 3))
		e.send(far, "three")
		e.saw("%s", read.result())
		e.must(far.Close())
		e.saw("%s", e.readAll(c))
	})
	for _, x := range icmpCodes {
		for code := range x.codes {
			all = append(all, behaviour{
				name: fmt.Sprintf("icmp/TCP connection that dies hears of IPv%c type %d code %d", x.only, x.typ, code),
				only: x.only, inside: true, raw: true, slow: true,
				run: func(e *env) {
					c, seq := e.dying()
					e.must(e.complainOfSegment(x.typ, code, addrPortOf(c.LocalAddr()), addrPortOf(c.RemoteAddr()), seq))
					e.givesUp(c)
					e.saw("%s", e.read(c, 8))
					e.saw("%s", e.io(c.Write([]byte("x"))))
				},
			})
		}
	}
	add("TCP connection that dies does not hear of other segments", true, func(e *env) {
		c, seq := e.dying()
		e.must(e.complainOfSegment(1, 1, addrPortOf(c.LocalAddr()), addrPortOf(c.RemoteAddr()), seq+1<<31))
		e.must(e.complainOfSegment(3, 1, addrPortOf(c.LocalAddr()), addrPortOf(c.RemoteAddr()), seq-1))
		e.givesUp(c)
		e.saw("%s", e.read(c, 8))
	})
	add("TCP connection that dies hears of the last one", true, func(e *env) {
		c, seq := e.dying()
		from, to := addrPortOf(c.LocalAddr()), addrPortOf(c.RemoteAddr())
		e.must(e.complainOfSegmentPort(from, to, seq))
		unreachable, parameter := uint8(3), uint8(12)
		if e.family == '6' {
			unreachable, parameter = 1, 4
		}
		e.must(e.complainOfSegment(unreachable, 1, from, to, seq))
		e.must(e.complainOfSegment(parameter, 0, from, to, seq))
		e.givesUp(c)
		e.saw("%s", e.read(c, 8))
	})
	add("TCP connection that dies has forgotten what was before an answer", true, func(e *env) {
		c, far := e.dialed()
		sequence := e.watched(c)
		e.send(c, "one")
		e.exactly(far, 3)
		seq, err := sequence()
		e.must(err)
		e.must(e.complainOfSegmentPort(addrPortOf(c.LocalAddr()), addrPortOf(c.RemoteAddr()), seq+3))
		// Messages do not overtake each other, and neither do what is behind them.
		e.send(c, "two")
		e.exactly(far, 3)
		e.send(far, "x") // with an acknowledgement of it
		e.exactly(c, 1)
		e.dies(c, far)
		e.saw("%s", e.read(c, 8))
	})
	return all
}

// dialTold has a dial told of a message, or if it is not, of another.
func (e *env) dialTold(typ, code uint8) {
	from, dial, seq := e.dialHole()
	e.must(e.complainOfSegment(typ, code, from, e.hole, seq))
	e.must(e.complainOfSegmentPort(from, e.hole, seq))
	e.saw("%s", dial.result())
}

// dialHole starts a dial that nobody answers, and returns the sequence number of
// its SYN.
func (e *env) dialHole() (from netip.AddrPort, dial *call, seq uint32) {
	local := e.nearTCP(e.spare(e.near))
	e.call(local, "near")
	from = addrPortOf(local)
	sequence, err := e.frames.watch(from, e.hole, e.late())
	e.must(err)
	dial = e.blocked(func() string {
		c, err := e.near.DialTCP(e.tcp(), local, tcpAddrOf(e.hole))
		return e.opened(c == nil, err)
	})
	seq, err = sequence()
	e.must(err)
	return from, dial, seq
}

// userTimeout is how long those that die wait for an answer.
const userTimeout = 400 * time.Millisecond

// dying returns a connection whose peer is dead, and the sequence number of what it
// has sent since. It does not give up until givesUp: what it is to be told first may
// take its time.
func (e *env) dying() (c tcpConn, seq uint32) {
	c, far := e.dialed()
	sequence := e.watched(c)
	e.silenced(c, far)
	seq, err := sequence()
	e.must(err)
	return c, seq
}

// dies has the peer of a connection die, with data on its way to it.
func (e *env) dies(c, far tcpConn) {
	e.must(setUserTimeout(c, userTimeout))
	e.silenced(c, far)
}

// silenced has the peer of a connection hear and say nothing more, with data on its
// way to it.
func (e *env) silenced(c, far tcpConn) {
	e.must(e.frames.mute(c, far))
	e.must(c.SetDeadline(e.late()))
	e.send(c, "to nobody")
}

// givesUp has a connection of dying give up, when the near end has heard what was
// sent to it so far: messages do not overtake each other, and neither does what is
// behind them.
func (e *env) givesUp(c tcpConn) {
	near, far := e.nearPacket(), e.farPacket()
	_, err := far.WriteToUDP([]byte("x"), e.nearUDP(portOf(near.LocalAddr())))
	e.must(err)
	e.datagram(near)
	e.must(setUserTimeout(c, userTimeout))
}

// watched is frames.watch for what a connection sends.
func (e *env) watched(c tcpConn) (sequence func() (uint32, error)) {
	sequence, err := e.frames.watch(addrPortOf(c.LocalAddr()), addrPortOf(c.RemoteAddr()), e.late())
	e.must(err)
	return sequence
}

// complainOfSegment has the near end get an ICMP error about a segment.
func (e *env) complainOfSegment(typ, code uint8, from, to netip.AddrPort, seq uint32) error {
	src, dst := from.Addr().AsSlice(), to.Addr().AsSlice()
	m := ipHeader(src, dst, syscall.IPPROTO_TCP, 20)
	m = binary.BigEndian.AppendUint16(m, from.Port())
	m = binary.BigEndian.AppendUint16(m, to.Port())
	m = binary.BigEndian.AppendUint32(m, seq)
	m = append(m, 0, 0, 0, 0, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0)
	return e.complainWith(typ, code, m)
}

// complainOfSegmentPort has the near end hear that nobody listens.
func (e *env) complainOfSegmentPort(from, to netip.AddrPort, seq uint32) error {
	if e.family == '6' {
		return e.complainOfSegment(1, 4, from, to, seq)
	}
	return e.complainOfSegment(3, 3, from, to, seq)
}
