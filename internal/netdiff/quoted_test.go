package netdiff

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// quotedBehaviours are about ICMP errors whose quoted packet has IPv6 extension
// headers, or IPv4 options, in front of the transport header.
func quotedBehaviours() (all []behaviour) {
	add := func(only byte, name string, told bool, proto byte, extra ...byte) {
		all = append(all, behaviour{name: "icmp/UDP hears of a datagram behind " + name, only: only, inside: true, raw: true, run: func(e *env) {
			c, far := e.connectedUDP()
			r := e.blocked(func() string { return e.read(c, 8) })
			prohibited, code := uint8(3), uint8(10)
			if e.family == '6' {
				prohibited, code = 1, 1
			}
			e.must(e.complainWith(prohibited, code, quoteBehind(c, far, proto, extra)))
			if !told {
				e.must(e.complainOfPort(c, far))
			}
			e.saw("%s", r.result())
		}})
	}
	const hop, routing, fragment, authentication, none, options = 0, 43, 44, 51, 59, 60
	add('6', "hop-by-hop options", true, hop, 17, 0, 1, 4, 0, 0, 0, 0)
	add('6', "long hop-by-hop options", true, hop, append([]byte{17, 2, 1, 20}, make([]byte, 20)...)...)
	add('6', "a routing header", true, routing, 17, 0, 0, 0, 0, 0, 0, 0)
	add('6', "a fragment header", true, fragment, 17, 0, 0, 1, 0, 0, 0, 1)
	add('6', "the header of a later fragment", false, fragment, 17, 0, 1, 1, 0, 0, 0, 1)
	add('6', "an authentication header", true, authentication, append([]byte{17, 4}, make([]byte, 22)...)...)
	add('6', "destination options", true, options, 17, 0, 1, 4, 0, 0, 0, 0)
	add('6', "all of them", true, hop, append([]byte{
		options, 0, 1, 4, 0, 0, 0, 0,
		routing, 0, 1, 4, 0, 0, 0, 0,
		fragment, 0, 0, 0, 0, 0, 0, 0,
		authentication, 0, 0, 1, 0, 0, 0, 1,
		options, 1,
	}, append(make([]byte, 10), 17, 0, 1, 4, 0, 0, 0, 0)...)...)
	add('6', "the end of headers", false, none)
	add('6', "half a header", false, hop, 17)
	add('4', "nothing", true, 17)
	return all
}

// quoteBehind returns the headers of a datagram from c to far, with others in
// between: proto is of the first.
func quoteBehind(c, far udpConn, proto byte, between []byte) []byte {
	from, to := c.LocalAddr().(*net.UDPAddr).AddrPort(), far.LocalAddr().(*net.UDPAddr).AddrPort()
	whole := quote(from, to)
	size := 20
	if from.Addr().Unmap().Is6() {
		size = 40
	}
	h := ipHeader(from.Addr().Unmap().AsSlice(), to.Addr().Unmap().AsSlice(), proto, len(between)+16)
	if len(between) == 1 { // cut off there
		return append(h, between...)
	}
	return append(append(h, between...), whole[size:]...)
}

// complainWith has the near end get an ICMP error that quotes a packet.
func (e *env) complainWith(typ, code uint8, quoted []byte) error {
	// What path MTU there is does not matter, and is not to be changed.
	m := []byte{typ, code, 0, 0, 0, 0, 0xff, 0xff}
	if e.family == '6' {
		binary.BigEndian.PutUint32(m[4:], 1<<16)
	}
	m = append(m, quoted...)
	if e.family == '4' {
		binary.BigEndian.PutUint16(m[2:], ^onesSum(m))
	}
	return e.tell(e.nearHost, e.farHost, m)
}

func addrPortOf(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func tcpAddrOf(a netip.AddrPort) *net.TCPAddr { return net.TCPAddrFromAddrPort(a) }
