package stack

import (
	"net"
	"net/netip"
	"syscall"
)

// A Message is a datagram of ReadBatch or WriteBatch, with the fields of Message
// in golang.org/x/net/ipv4 and ipv6.
type Message struct {
	// Buffers hold the data, one after the other. ReadBatch fills them as far
	// as the datagram goes.
	Buffers [][]byte

	// OOB holds control messages: see UDPConn.ReadMsgUDPAddrPort and
	// WriteMsgUDPAddrPort. ReadBatch fills it.
	OOB []byte

	// Addr is a *net.UDPAddr: where to send, also on a connected socket; nil for
	// the peer of that. ReadBatch sets it to the source. It is shared by the messages of
	// one source, also of other calls: do not change it.
	Addr net.Addr

	N     int // bytes of data read or written
	NN    int // bytes of control messages read or written
	Flags int // of a datagram read: those of ReadMsgUDPAddrPort
}

// ReadBatch waits for a datagram and then reads all that have come, at most one
// for each message, with one lock and one wakeup. It returns how many. flags must
// be 0. In steady state it allocates nothing as long as no more than some hundred
// sources send by turns.
func (c *UDPConn) ReadBatch(ms []Message, flags int) (int, error) {
	n, err := c.readBatch(ms, flags)
	if err != nil {
		return 0, c.opErr("read", err)
	}
	return n, nil
}

func (c *UDPConn) readBatch(ms []Message, flags int) (int, error) {
	if flags != 0 {
		return 0, sysErrno("recvmmsg", syscall.EOPNOTSUPP)
	}
	c.rd.mu.Lock()
	defer c.rd.mu.Unlock()
	if len(ms) == 0 {
		return 0, nil
	}
	d, err := c.next("recvmmsg")
	if err != nil {
		return 0, err
	}
	for n := range ms {
		c.fill(&ms[n], &d)
		d.pkt.DecRef()
		if n+1 == len(ms) {
			break
		}
		var ok bool
		if d, ok = c.udp.in.pop(); !ok {
			return n + 1, nil
		}
	}
	return len(ms), nil
}

// fill makes a message of a datagram. Precondition: rd.mu is held.
func (c *UDPConn) fill(m *Message, d *datagram) {
	left := d.pkt.Data().Size()
	m.N, m.Flags = 0, 0
	for _, b := range m.Buffers {
		k := d.copyFrom(b, m.N)
		m.N += k
		left -= k
	}
	if left > 0 {
		m.Flags = flagCut
	}
	var cut int
	m.NN, cut = c.controlOf(m.OOB, d)
	m.Flags |= cut
	m.Addr = c.peers.addr(d.from)
}

// WriteBatch sends datagrams, with one lock and one wakeup of the device, and
// returns how many. It waits until the send buffer takes the first, and sends no
// more than it takes without another wait. The error is that of the first; a later
// one that cannot be sent ends the batch, and the next call tells. flags must be
// 0. In steady state it allocates nothing.
func (c *UDPConn) WriteBatch(ms []Message, flags int) (int, error) {
	if flags != 0 {
		return 0, c.opErr("write", sysErrno("sendmmsg", syscall.EOPNOTSUPP))
	}
	c.wr.mu.Lock()
	defer c.wr.mu.Unlock()
	if len(ms) == 0 {
		return 0, nil
	}
	n, err := c.writeBatchLocked(ms)
	if err != nil {
		return 0, opError("write", c.net, c.laddr, ms[0].Addr, err)
	}
	return n, nil
}

func (c *UDPConn) writeBatchLocked(ms []Message) (int, error) {
	for {
		if c.wr.stop.Load() != 0 {
			if err := c.why(&c.wr.parker); err != nil {
				return 0, err
			}
		}
		bulk := len(ms) > 1 && c.wr.idle != nil
		if bulk {
			c.wr.idle.BeginBulk()
		}
		n, err := c.tryBatch(ms)
		if bulk {
			c.wr.idle.EndBulk()
		}
		switch {
		case n > 0:
			return n, nil
		case err != syscall.EAGAIN:
			return 0, err
		}
		c.wr.park()
	}
}

// tryBatch sends what can be sent without waiting, up to the first error.
func (c *UDPConn) tryBatch(ms []Message) (int, error) {
	for i := range ms {
		if err := c.tryMessage(&ms[i], i > 0); err != nil {
			return i, err
		}
	}
	return len(ms), nil
}

func (c *UDPConn) tryMessage(m *Message, later bool) error {
	to, err := c.messageTarget(m)
	if err != nil {
		return err
	}
	var b []byte
	var more [][]byte
	if len(m.Buffers) > 0 {
		b, more = m.Buffers[0], m.Buffers[1:]
	}
	if len(m.OOB) == 0 {
		m.N, err = c.trySend("sendmmsg", b, more, to, nil, later)
		m.NN = 0
		return err
	}
	how, err := c.stack.parseControl(m.OOB)
	if err != nil {
		return err
	}
	m.N, err = c.trySend("sendmmsg", b, more, to, &how, later)
	m.NN = len(m.OOB)
	return err
}

// messageTarget returns where to send a message: the zero AddrPort for the peer.
func (c *UDPConn) messageTarget(m *Message) (netip.AddrPort, error) {
	if m.Addr == nil {
		if !c.connected {
			return netip.AddrPort{}, sysErrno("sendmmsg", syscall.EDESTADDRREQ)
		}
		return netip.AddrPort{}, nil
	}
	a, ok := m.Addr.(*net.UDPAddr)
	if !ok || a == nil {
		return netip.AddrPort{}, syscall.EINVAL
	}
	if err := c.malformed("sendmmsg", a); err != nil {
		return netip.AddrPort{}, err
	}
	return c.target("sendmmsg", a.AddrPort())
}

// peerSlots is how many sources a socket remembers the addresses of: a power of
// two.
const peerSlots = 256

// A peerCache has the sources of datagrams as net.Addr, so that not each datagram
// needs a new one. A source has one place in it, and goes when another wants it.
type peerCache struct{ slots *[peerSlots]peer }

type peer struct {
	from netip.AddrPort
	addr *net.UDPAddr
}

// addr returns the address of a source.
func (c *peerCache) addr(from netip.AddrPort) *net.UDPAddr {
	if c.slots == nil {
		c.slots = new([peerSlots]peer)
	}
	b := from.Addr().As16()
	p := &c.slots[(uint(b[15])+uint(b[14])*31+uint(from.Port())*7)%peerSlots]
	if p.from != from {
		*p = peer{from, newUDPAddr(from)}
	}
	return p.addr
}
