package netdiff

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/wire"
)

// icmpBehaviours are about what connected UDP sockets hear of ICMP errors.
//
// That a message was heard, a blocked call tells. That one was not, the next one
// does, which is "port unreachable".
func icmpBehaviours() (all []behaviour) {
	add := func(only byte, typ uint8, heard string) {
		for code := range uint8(len(heard)) {
			run := func(e *env) { e.hears(typ, code) }
			if heard[code] != 'x' {
				run = func(e *env) { e.hearsNothing(typ, code) }
			}
			name := fmt.Sprintf("icmp/UDP hears of IPv%c type %d code %d", only, typ, code)
			all = append(all, behaviour{name: name, only: only, inside: true, raw: true, run: run})
		}
	}
	add('4', 3, "--xxx-xxxxx--xxx-") // destination unreachable
	add('4', 4, "-")                 // source quench
	add('4', 11, "--")               // time exceeded
	add('4', 12, "xx")               // parameter problem
	add('6', 1, "-x--xxxx")          // destination unreachable
	add('6', 2, "x")                 // packet too big
	add('6', 3, "--")                // time exceeded
	add('6', 4, "xxx")               // parameter problem
	all = append(all, behaviour{name: "icmp/an unconnected UDP socket hears nothing", inside: true, raw: true, run: func(e *env) {
		loose, far := e.nearPacket(), e.farPacket()
		e.must(e.complainOfPort(loose, far))
		c, other := e.connectedUDP()
		r := e.blocked(func() string { return e.read(c, 8) })
		e.must(e.complainOfPort(c, other))
		e.saw("%s", r.result())
		_, err := loose.WriteTo([]byte("one"), far.LocalAddr())
		e.saw("%s", e.err(err))
		_, err = far.WriteTo([]byte("two"), loose.LocalAddr())
		e.must(err)
		e.saw("%q", e.datagram(loose))
	}})
	return all
}

// hears has a reader, and then a writer, told of a message.
func (e *env) hears(typ, code uint8) {
	c, far := e.connectedUDP()
	r := e.blocked(func() string { return e.read(c, 8) })
	e.must(e.complain(typ, code, c, far))
	e.saw("%s", r.result())
	_, err := far.WriteTo([]byte("one"), c.LocalAddr())
	e.must(err)
	e.saw("%q", e.datagram(c))
	e.must(e.complain(typ, code, c, far))
	for until := e.late(); time.Now().Before(until); <-time.After(time.Millisecond) {
		if _, err = c.Write([]byte("two")); err != nil {
			break
		}
	}
	e.saw("%s", e.err(err))
	n, err := c.Write([]byte("three"))
	e.saw("%s", e.io(n, err))
}

// hearsNothing has a reader sleep on until there is another message.
func (e *env) hearsNothing(typ, code uint8) {
	c, far := e.connectedUDP()
	r := e.blocked(func() string { return e.read(c, 8) })
	e.must(e.complain(typ, code, c, far))
	e.must(e.complainOfPort(c, far))
	e.saw("%s", r.result())
}

// complainOfPort has the near end hear that nobody listens.
func (e *env) complainOfPort(c, far udpConn) error {
	if e.family == '6' {
		return e.complain(1, 4, c, far)
	}
	return e.complain(3, 3, c, far)
}

// complain has the near end get an ICMP error about a datagram from c to far.
func (e *env) complain(typ, code uint8, c, far udpConn) error {
	from := c.LocalAddr().(*net.UDPAddr).AddrPort()
	to := far.LocalAddr().(*net.UDPAddr).AddrPort()
	return e.complainWith(typ, code, quote(from, to))
}

// quote returns the headers of a datagram of 8 bytes.
func quote(from, to netip.AddrPort) []byte {
	src, dst := from.Addr().Unmap().AsSlice(), to.Addr().Unmap().AsSlice()
	b := ipHeader(src, dst, syscall.IPPROTO_UDP, 16)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, 16)
	return append(b, make([]byte, 10)...)
}

// ipHeader returns the header of a packet with n bytes of payload.
func ipHeader(src, dst []byte, proto byte, n int) []byte {
	if len(src) == net.IPv6len {
		b := []byte{0x60, 0, 0, 0, byte(n >> 8), byte(n), proto, 64}
		return append(append(b, src...), dst...)
	}
	b := make([]byte, 12, 20+n)
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(20+n))
	b = append(append(b, src...), dst...)
	binary.BigEndian.PutUint16(b[10:], ^onesSum(b))
	return b
}

// onesSum is the sum that Internet checksums are the complement of.
func onesSum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) != 0 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// icmpOf is the network of raw sockets for the family of an address.
func icmpOf(a netip.Addr) string {
	if a.Is4() {
		return "ip4:icmp"
	}
	return "ip6:ipv6-icmp"
}

// rawAllowed tells whether the kernel lets us send ICMP messages.
var rawAllowed = sync.OnceValue(func() bool {
	c, err := net.ListenPacket("ip4:icmp", "127.0.0.1")
	if err == nil {
		c.Close()
	}
	return err == nil
})

// allowed tells whether the kernel lets us do what the behaviour needs.
func (b *behaviour) allowed() bool {
	return (!b.raw || rawAllowed()) && (!b.filter || filtersAllowed())
}

// tellOnLoopback sends an ICMP message with a raw socket, which puts the checksum
// into those of IPv6.
func tellOnLoopback(near, far netip.Addr, m []byte) error {
	c, err := net.ListenPacket(icmpOf(far), far.String())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.WriteTo(m, &net.IPAddr{IP: near.AsSlice()})
	return err
}

// tellOnWire puts an ICMP message on the wire to the near end.
func tellOnWire(t testing.TB, w *wire.Wire) func(near, far netip.Addr, m []byte) error {
	return func(near, far netip.Addr, m []byte) error {
		src, dst := far.AsSlice(), near.AsSlice()
		frame := append(append([]byte(nil), w.Port(0).MAC()...), w.Port(1).MAC()...)
		proto := byte(syscall.IPPROTO_ICMP)
		if near.Is4() {
			frame = append(frame, 0x08, 0x00)
		} else {
			frame, proto = append(frame, 0x86, 0xdd), syscall.IPPROTO_ICMPV6
			pseudo := append(append([]byte(nil), src...), dst...)
			pseudo = append(pseudo, 0, 0, byte(len(m)>>8), byte(len(m)), 0, 0, 0, proto)
			binary.BigEndian.PutUint16(m[2:], ^onesSum(append(pseudo, m...)))
		}
		frame = append(append(frame, ipHeader(src, dst, proto, len(m))...), m...)
		if !w.Port(0).Inject(frame) {
			t.Error("an ICMP message did not fit on the wire")
		}
		return nil
	}
}
