package stack

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/afxnet/afxnet/internal/hostile"
	"github.com/afxnet/afxnet/internal/packet"
)

// unconnected is the peer's port of flows whose endpoint takes packets from
// anybody.
const unconnected = 999

// dispositionFlows are those that have an endpoint.
func dispositionFlows() (all []hostile.Flow) {
	for _, f := range []struct {
		src, dst string
		tcp      bool
	}{
		{"10.0.0.2:1000", "10.0.0.1:2000", true},
		{"10.0.0.3:1001", "10.0.0.77:2000", true},
		{"203.0.113.9:80", "198.51.100.7:40000", true},
		{"192.0.2.5:1002", "192.0.2.4:2000", true},
		{"[fd00::2]:1000", "[fd00::1]:2000", true},
		{"[fe80::2]:1001", "[fe80::1]:2000", true},
		{"[2001:db8::9]:80", "[fd00::77]:40000", true},
		{"10.0.0.2:999", "10.0.0.1:7000", true},
		{"[fd00::2]:999", "[fd00::1]:7000", true},
		{"10.0.0.2:1000", "10.0.0.1:3000", false},
		{"10.0.0.2:999", "10.0.0.77:7000", false},
		{"[fd00::2]:1000", "[fd00::1]:3000", false},
		{"[2001:db8::9]:999", "[fe80::1]:7000", false},
	} {
		all = append(all, hostile.Flow{
			Src: netip.MustParseAddrPort(f.src), Dst: netip.MustParseAddrPort(f.dst), TCP: f.tcp,
			Next: 0xfffff000, Window: 1 << 19, SendMax: 12345, Sacrifice: true,
		})
	}
	return all
}

// A traffic makes frames for targets: those of the hostile generator, and good
// ones, in runs that GRO merges and between all kinds of addresses, that are
// spoiled in one way or another. The same seed makes the same frames.
type traffic struct {
	rng   *rand.Rand
	bad   *hostile.Generator
	flows []hostile.Flow
	next  []uint32 // sequence numbers
	id    uint16
	mac   [6]byte // of the target
	peer  [6]byte
	noise []byte
}

func newTraffic(seed uint64, mac, peer [6]byte) *traffic {
	g := &traffic{rng: rand.New(rand.NewPCG(seed, 2)), flows: dispositionFlows(), mac: mac, peer: peer, noise: make([]byte, 4096)}
	g.bad = hostile.New(seed, hostile.Link{Target: mac, Peer: peer, MTU: 1500, Listen: 7000}, g.flows)
	for _, f := range g.flows {
		g.next = append(g.next, f.Next)
	}
	for i := range g.noise {
		g.noise[i] = byte(g.rng.Uint32())
	}
	return g
}

// one returns true once in n times.
func (g *traffic) one(n int) bool { return g.rng.IntN(n) == 0 }

func oneOf[T any](g *traffic, all ...T) T { return all[g.rng.IntN(len(all))] }

// burst makes 1 to most frames: some runs, and what is between them.
func (g *traffic) burst(most int) [][]byte {
	most = 1 + g.rng.IntN(most)
	var runs [][][]byte
	for n := 0; n < most; {
		var r [][]byte
		if g.one(2) {
			for range 1 + g.rng.IntN(10) {
				r = append(r, slices.Clone(g.bad.Next().Data))
			}
		} else {
			r = g.run()
		}
		runs, n = append(runs, r), n+len(r)
	}
	var all [][]byte
	for len(all) < most {
		i := g.rng.IntN(len(runs))
		n := min(1+g.rng.IntN(len(runs[i])), most-len(all))
		all = append(all, runs[i][:n]...)
		if runs[i] = runs[i][n:]; len(runs[i]) == 0 {
			runs = slices.Delete(runs, i, i+1)
		}
	}
	return all
}

// run makes frames of one flow that belong behind each other.
func (g *traffic) run() (all [][]byte) {
	i := g.rng.IntN(len(g.flows))
	f := &g.flows[i]
	d := draft{
		g: g, to: g.mac, src: f.Src.Addr(), dst: f.Dst.Addr(), sport: f.Src.Port(), dport: f.Dst.Port(), proto: packet.ProtoUDP,
		ack: f.SendMax, flags: packet.ACK, window: uint16(1000 + g.rng.IntN(3)), ttl: 64, size: g.rng.IntN(1400),
	}
	if f.TCP {
		d.proto = packet.ProtoTCP
		if g.one(2) {
			d.options = binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10, 0, 0, 0, 1}, uint32(g.rng.IntN(2)))
		}
	}
	if g.one(4) {
		d.size = g.rng.IntN(20)
	}
	d.frag = oneOf(g, uint16(0x4000), 0x4000, 0)
	step := uint16(g.rng.IntN(2))
	acks := f.TCP && g.one(4) // nothing else
	if acks {
		d.size = 0
	}
	if g.one(3) { // the whole run is odd in one way
		d.twist()
	}
	n := 1
	if g.one(2) {
		n = 2 + g.rng.IntN(18)
	}
	for k := range n {
		if acks && !g.one(6) {
			d.ack += uint32(g.rng.IntN(4) * 700)
			d.window += uint16(g.rng.IntN(8) / 7)
		}
		one := d
		one.id, one.seq = g.id, g.next[i]
		if g.id += step; g.one(24) {
			g.id += uint16(g.rng.Uint32())
		}
		g.next[i] += uint32(d.size)
		if k == n-1 && g.one(2) && !acks {
			one.size = g.rng.IntN(d.size + 1)
			one.flags |= packet.PSH
		}
		if g.one(16) {
			one.twist()
		}
		if g.one(12) && !acks {
			one.flags |= packet.PSH
		}
		if g.one(24) {
			all = append(all, one.pieces()...)
			continue
		}
		all = append(all, one.frame())
	}
	g.id++
	if g.one(8) { // out of order
		g.rng.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
	}
	return all
}

// A draft is a packet before it is made.
type draft struct {
	g            *traffic
	to           [6]byte
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16
	seq, ack     uint32
	flags        uint8
	window, id   uint16
	frag         uint16 // IPv4 flags and offset
	tos, ttl     uint8
	options      []byte // TCP
	extra        []byte // IPv4 options, or IPv6 extension headers
	first        uint8  // IPv6: the next header before extra
	size         int    // bytes of data
	behind       int    // bytes behind the packet
	longer       int    // by how much the IP length is too large
	longerUDP    int    // the same for the UDP length
	noSum        bool   // UDP
	wrong        bool   // any one bit of the headers
	unsealed     bool   // and the checksums are not set right afterwards
}

// addresses that a packet of the link should not have, or of the stack's.
var (
	odd4 = []string{"127.0.0.1", "127.255.255.255", "0.0.0.0", "0.1.2.3", "255.255.255.255", "10.0.0.255", "10.0.0.0", "224.0.0.1", "224.0.0.251",
		"239.1.1.1", "240.0.0.1", "10.0.0.1", "10.0.0.77", "192.0.2.4", "192.0.2.5", "198.51.100.7", "198.51.100.8", "169.254.1.1", "10.0.0.9", "10.0.1.255", "8.8.8.8"}
	odd6 = []string{"::1", "::", "::ffff:10.0.0.2", "::10.0.0.2", "ff02::1", "ff02::fb", "ff05::2", "fd00::1", "fd00::77", "fe80::1",
		"ff02::1:ff00:1", "fd00::", "fd00::9", "fe80::9", "2001:db8::1", "100::1"}
)

func (d *draft) odd() netip.Addr {
	all := odd6
	if d.src.Is4() {
		all = odd4
	}
	return netip.MustParseAddr(oneOf(d.g, all...))
}

// twist makes a packet odd in one way.
func (d *draft) twist() {
	g := d.g
	switch g.rng.IntN(18) {
	case 0, 1:
		d.src = d.odd()
		d.dport = oneOf(g, d.dport, 7000, 7002, 7004) // where all sources are welcome
	case 2, 3:
		d.dst = d.odd()
		d.dport = oneOf(g, d.dport, 7000, 7007)
	case 4:
		d.dport = oneOf[uint16](g, 1, 2001, 7001, 7002, 7003, 7004, 7005, 7006, 7007, 7000)
	case 5:
		d.sport = oneOf(g, 0, uint16(g.rng.Uint32()))
	case 6:
		d.options = [][]byte{{1, 1, 1, 0}, {2, 4, 5, 180}, {1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9}, make([]byte, 40)}[g.rng.IntN(4)]
	case 7:
		d.flags = uint8(g.rng.Uint32())
	case 8:
		d.extra = g.extra(d)
	case 9:
		d.frag = oneOf[uint16](g, 0x8000, 0x2000, 1, 0x1fff, 0x4001, 0xc000, 0x6000)
	case 10:
		d.longer = oneOf(g, -1, -8, -20, -d.size, -d.size-8, 1, 100, -g.rng.IntN(d.size+1))
		if d.longer > 0 && g.one(2) {
			d.behind = d.longer
		}
	case 11:
		d.longerUDP = oneOf(g, -1, -d.size, -8-d.size, 1, 100, -g.rng.IntN(d.size+1))
	case 12:
		d.behind = 1 + g.rng.IntN(50)
	case 13:
		d.proto = oneOf[uint8](g, 0, 1, 2, 58, 59, 132, 253, packet.ProtoTCP, packet.ProtoUDP)
	case 14:
		d.to = oneOf(g, [6]byte{255, 255, 255, 255, 255, 255}, [6]byte{1, 0, 0x5e, 0, 0, 251}, [6]byte{2, 2, 2, 2, 2, 2})
	case 15:
		d.tos, d.ttl = uint8(g.rng.Uint32()), oneOf[uint8](g, 0, 1, 64, 255)
	case 16:
		d.noSum, d.size = true, d.size*g.rng.IntN(2)
	case 17:
		d.wrong, d.unsealed = true, g.one(4)
	}
}

// extra returns options or extension headers.
func (g *traffic) extra(d *draft) []byte {
	if d.src.Is4() {
		if g.one(2) {
			return disguise(d)
		}
		return [][]byte{
			{1, 1, 1, 0}, {148, 4, 0, 0}, {7, 7, 4, 0, 0, 0, 0, 0}, {131, 7, 4, 10, 0, 0, 1, 0}, {0, 0, 0, 0}, {68, 8, 5, 0, 0, 0, 0, 0}, {200, 4, 1, 2}, {200, 9, 1, 2},
		}[g.rng.IntN(8)]
	}
	d.first = oneOf[uint8](g, 0, 43, 44, 60, 60)
	switch d.first {
	case 44:
		return []byte{d.proto, 0, 0, byte(g.rng.IntN(2)), 1, 2, 3, byte(g.rng.Uint32())} // atomic or a first one
	case 43:
		return []byte{d.proto, 0, byte(g.rng.IntN(5)), byte(g.rng.IntN(2)), 0, 0, 0, 0}
	}
	return [][]byte{{d.proto, 0, 1, 4, 0, 0, 0, 0}, {d.proto, 0, 5, 2, 0, 0, 1, 0}, {d.proto, 0, 0x80, 1, 0, 0, 0, 0}, {d.proto, 0, 0x1e, 4, 0, 0, 0, 0}}[g.rng.IntN(4)]
}

// disguise returns an IPv4 option that looks like the rest of a transport header
// to whoever takes the options for one, together with the option's type and
// length as a source port.
func disguise(d *draft) []byte {
	be := binary.BigEndian
	if d.proto == packet.ProtoTCP {
		o := be.AppendUint16([]byte{200, 20}, 7000)
		o = be.AppendUint32(be.AppendUint32(o, d.seq), d.ack)
		return append(o, 5<<4, packet.ACK, 1, 0, 0, 0, 0, 0)
	}
	o := be.AppendUint16([]byte{200, 8}, 7000)
	return append(be.AppendUint16(o, uint16(8+packet.UDPLen+d.size)), 0, 0)
}

// frame makes the frame.
func (d *draft) frame() []byte {
	be, g := binary.BigEndian, d.g
	b := append(append(make([]byte, 0, 1600), d.to[:]...), g.peer[:]...)
	total := len(d.extra) + d.longer + d.size
	switch d.proto {
	case packet.ProtoTCP:
		total += packet.TCPLen + len(d.options)
	case packet.ProtoUDP:
		total += packet.UDPLen
	}
	if d.src.Is4() && d.dst.Is4() {
		b = append(b, 8, 0, byte(0x45+len(d.extra)/4), d.tos)
		b = be.AppendUint16(b, uint16(packet.IPv4Len+total))
		b = be.AppendUint16(b, d.id)
		b = be.AppendUint16(b, d.frag)
		b = append(b, d.ttl, d.proto, 0, 0)
	} else {
		b = be.AppendUint32(append(b, 0x86, 0xdd), 6<<28|uint32(d.tos)<<20)
		b = be.AppendUint16(b, uint16(total))
		next := d.proto
		if d.extra != nil {
			next = d.first
		}
		b = append(b, next, d.ttl)
	}
	b = append(append(b, d.src.AsSlice()...), d.dst.AsSlice()...)
	b = append(b, d.extra...)
	b = be.AppendUint16(be.AppendUint16(b, d.sport), d.dport)
	switch d.proto {
	case packet.ProtoTCP:
		b = be.AppendUint32(be.AppendUint32(b, d.seq), d.ack)
		b = be.AppendUint16(append(b, byte(5+len(d.options)/4)<<4, d.flags), d.window)
		b = append(append(b, 0, 0, 0, 0), d.options...)
	case packet.ProtoUDP:
		b = be.AppendUint16(b, uint16(packet.UDPLen+d.size+d.longerUDP))
		b = append(b, 0, 0)
	default:
		b = b[:len(b)-4]
	}
	headers := len(b)
	at := g.rng.IntN(len(g.noise) - 2000)
	b = append(append(b, g.noise[at:at+d.size]...), g.noise[:d.behind]...)
	if d.wrong && d.unsealed {
		seal(b, d.noSum)
		b[g.rng.IntN(headers)] ^= 1 << g.rng.IntN(8)
		return b
	}
	if d.wrong {
		b[g.rng.IntN(headers)] ^= 1 << g.rng.IntN(8)
	}
	seal(b, d.noSum)
	return b
}

// pieces makes the packet in fragments, in any order, some that overlap.
func (d *draft) pieces() (all [][]byte) {
	g := d.g
	if d.extra != nil {
		return [][]byte{d.frame()}
	}
	whole := d.frame()
	v4 := d.src.Is4() && d.dst.Is4()
	start := packet.EthernetLen + packet.IPv6Len
	if v4 {
		start = packet.EthernetLen + packet.IPv4Len
	}
	body := whole[start:]
	if len(body) == 0 {
		return [][]byte{whole}
	}
	for at := 0; at < len(body); {
		n := min(8*(1+g.rng.IntN(100)), len(body)-at)
		more := uint16(0)
		if at+n < len(body) {
			more = 1
		}
		b := slices.Clone(whole[:start])
		if v4 {
			binary.BigEndian.PutUint16(b[start-14:], uint16(at/8)|more<<13)
		} else {
			b = append(b, b[start-34], 0, 0, 0, 0, 0, byte(d.id>>8), byte(d.id))
			b[start-34] = 44
			binary.BigEndian.PutUint16(b[start+2:], uint16(at)|more)
		}
		b = append(b, body[at:at+n]...)
		if v4 {
			binary.BigEndian.PutUint16(b[start-18:], uint16(packet.IPv4Len+n))
			seal(b, true)
		} else {
			binary.BigEndian.PutUint16(b[start-36:], uint16(8+n))
		}
		all = append(all, b)
		if at += n; at < len(body) && g.one(16) {
			at -= 8
		}
	}
	if g.one(2) {
		slices.Reverse(all)
	}
	return all
}

// seal sets the checksums right, as far as the headers make sense: those of the
// lengths that the headers tell.
func seal(b []byte, noSum bool) {
	var info packet.Info
	be := binary.BigEndian
	if len(b) >= packet.EthernetLen+packet.IPv4Len && b[12] == 8 && b[14]>>4 == 4 {
		if n := int(b[14]&15) * 4; n >= packet.IPv4Len && packet.EthernetLen+n <= len(b) {
			h := b[packet.EthernetLen : packet.EthernetLen+n]
			h[10], h[11] = 0, 0
			be.PutUint16(h[10:], ^packet.Fold(packet.Sum(h, 0)))
		}
	}
	if packet.Parse(b, &info) != packet.OK || info.Kind < packet.UDP4 {
		return
	}
	l4, field, n := b[info.L4:info.End], 16, int(info.End-info.L4)
	if info.Kind.IsUDP() {
		field, n = 6, int(be.Uint16(l4[4:]))
		l4 = l4[:n]
	}
	l4[field], l4[field+1] = 0, 0
	if info.Kind.IsUDP() && noSum {
		return
	}
	var s uint32
	if info.Kind == packet.TCP4 || info.Kind == packet.UDP4 {
		s = packet.PseudoHeader4((*[8]byte)(b[info.L3+12:]), info.Proto, n)
	} else {
		s = packet.PseudoHeader6((*[32]byte)(b[info.L3+8:]), info.Proto, n)
	}
	c := ^packet.Fold(packet.Sum(l4, s))
	if c == 0 {
		c = 0xffff
	}
	be.PutUint16(l4[field:], c)
}
