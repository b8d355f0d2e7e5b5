package xsk

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
)

// Addresses of the frames in the steering tests.
var (
	steerMAC      = net.HardwareAddr{0x02, 0xaf, 0x00, 0x00, 0x00, 0x01}
	steerOtherMAC = net.HardwareAddr{0x02, 0xaf, 0x00, 0x00, 0x00, 0x02}
	steerBcast    = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	steerOwn4     = netip.MustParseAddr("192.0.2.1")
	steerOther4   = netip.MustParseAddr("192.0.2.2")
	steerOwn6     = netip.MustParseAddr("2001:db8::1:2:3")
	steerOther6   = netip.MustParseAddr("2001:db8::1:2:4")
	steerAllNodes = netip.MustParseAddr("ff02::1")

	// Groups that were joined, and others with the same MAC address.
	steerGroup4      = netip.MustParseAddr("239.1.2.3")
	steerGroup6      = netip.MustParseAddr("ff05::7:123")
	steerOtherGroup4 = netip.MustParseAddr("239.129.2.3")
	steerOtherGroup6 = netip.MustParseAddr("ff02::7:123")
	steerGroupMAC4   = net.HardwareAddr{0x01, 0x00, 0x5e, 0x01, 0x02, 0x03}
	steerGroupMAC6   = net.HardwareAddr{0x33, 0x33, 0x00, 0x07, 0x01, 0x23}
)

const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeIPv6 = 0x86dd

	protoTCP, protoUDP, protoICMPv6 = 6, 17, 58
)

func joinBytes(parts ...[]byte) []byte { return slices.Concat(parts...) }

func wire16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func etherFrame(dst net.HardwareAddr, etherType uint16, payload ...[]byte) []byte {
	return joinBytes(dst, net.HardwareAddr{0x02, 0xbb, 0, 0, 0, 9}, wire16(etherType), joinBytes(payload...))
}

// ipv4Packet has options of a multiple of 4 bytes and the fragment word as is:
// flags and offset in units of 8 bytes.
func ipv4Packet(dst netip.Addr, proto byte, fragment uint16, options, payload []byte) []byte {
	h := make([]byte, 20, 20+len(options)+len(payload))
	h[0] = 0x40 | byte(5+len(options)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(cap(h)))
	binary.BigEndian.PutUint16(h[6:], fragment)
	h[8], h[9] = 64, proto
	copy(h[12:], []byte{198, 51, 100, 7})
	copy(h[16:], dst.AsSlice())
	return joinBytes(h, options, payload)
}

func ipv6Packet(src, dst netip.Addr, next byte, payload ...[]byte) []byte {
	body := joinBytes(payload...)
	h := make([]byte, 40)
	h[0] = 0x60
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	h[6], h[7] = next, 255
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	return joinBytes(h, body)
}

func arpPacket(op uint16, sender, target netip.Addr) []byte {
	return joinBytes(wire16(1), wire16(typeIPv4), []byte{6, 4}, wire16(op),
		steerOtherMAC, sender.AsSlice(), make([]byte, 6), target.AsSlice())
}

// ndMessage is a neighbour solicitation (135) or advertisement (136) with a
// link-layer address option.
func ndMessage(icmpType byte, target netip.Addr) []byte {
	return joinBytes([]byte{icmpType, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice(), []byte{1, 1}, steerOtherMAC)
}

// solicitedNode returns the group of an IPv6 address and the group's MAC.
func solicitedNode(addr netip.Addr) (netip.Addr, net.HardwareAddr) {
	a := addr.As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(group[13:], a[13:])
	return netip.AddrFrom16(group), net.HardwareAddr{0x33, 0x33, 0xff, a[13], a[14], a[15]}
}

type steerCase struct {
	name  string
	frame []byte
	want  Verdict
}

// steerCases is one frame of every kind the program tells apart.
func steerCases() []steerCase {
	peer4 := steerOther4
	peer6 := netip.MustParseAddr("2001:db8::9")
	zero4, zero6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	l4 := make([]byte, 40)
	group, groupMAC := solicitedNode(steerOwn6)
	otherGroup, otherGroupMAC := solicitedNode(steerOther6)
	allMAC := net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}

	edit := func(frame []byte, off int, b ...byte) []byte {
		frame = slices.Clone(frame)
		copy(frame[off:], b)
		return frame
	}
	v4 := func(dst netip.Addr, proto byte, fragment uint16, options []byte) []byte {
		return etherFrame(steerMAC, typeIPv4, ipv4Packet(dst, proto, fragment, options, l4))
	}
	v6 := func(dst netip.Addr, next byte, payload ...[]byte) []byte {
		return etherFrame(steerMAC, typeIPv6, ipv6Packet(peer6, dst, next, payload...))
	}
	group4 := func(dst netip.Addr, proto byte, fragment uint16, options []byte) []byte {
		return edit(v4(dst, proto, fragment, options), 0, steerGroupMAC4...)
	}
	group6 := func(dst netip.Addr, next byte, payload ...[]byte) []byte {
		return edit(v6(dst, next, payload...), 0, steerGroupMAC6...)
	}
	nd := func(mac net.HardwareAddr, src, dst netip.Addr, icmpType byte, target netip.Addr) []byte {
		return etherFrame(mac, typeIPv6, ipv6Packet(src, dst, protoICMPv6, ndMessage(icmpType, target)))
	}
	arp := func(mac net.HardwareAddr, op uint16, sender, target netip.Addr) []byte {
		return etherFrame(mac, typeARP, arpPacket(op, sender, target))
	}
	ext := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} } // options header, 8 bytes
	tcp4, tcp6 := v4(steerOwn4, protoTCP, 0, nil), v6(steerOwn6, protoTCP, l4)
	ns := nd(groupMAC, peer6, group, 135, steerOwn6)

	return []steerCase{
		{"tcp4 own", tcp4, RedirectIPv4},
		{"udp4 own", v4(steerOwn4, protoUDP, 0, nil), RedirectIPv4},
		{"icmp4 own", v4(steerOwn4, 1, 0, nil), RedirectIPv4},
		{"unknown protocol4 own", v4(steerOwn4, 253, 0, nil), RedirectIPv4},
		{"tcp4 other", v4(steerOther4, protoTCP, 0, nil), PassNoAddress},
		{"tcp4 from own to other", edit(v4(steerOther4, protoTCP, 0, nil), 26, steerOwn4.AsSlice()...), PassNoAddress},
		{"ipv4 options", v4(steerOwn4, protoTCP, 0, []byte{7, 7, 4, 0, 0, 0, 0, 0}), RedirectIPv4},
		{"ipv4 forty bytes of options", v4(steerOwn4, protoTCP, 0, make([]byte, 40)), RedirectIPv4},
		{"ipv4 first fragment", v4(steerOwn4, protoUDP, 0x2000, nil), RedirectIPv4},
		{"ipv4 middle fragment", v4(steerOwn4, protoUDP, 0x2000|5, nil), RedirectIPv4},
		{"ipv4 last fragment", v4(steerOwn4, protoUDP, 10, nil), RedirectIPv4},
		{"ipv4 jumbo", etherFrame(steerMAC, typeIPv4, ipv4Packet(steerOwn4, protoTCP, 0, nil, make([]byte, 8980))), RedirectIPv4},
		{"ipv4 version 6", edit(tcp4, 14, 0x65), PassMalformed},
		{"ipv4 version 0", edit(tcp4, 14, 0x05), PassMalformed},
		{"ipv4 version 5", edit(tcp4, 14, 0x50), PassMalformed},
		{"ipv4 header of four words", edit(tcp4, 14, 0x44), PassMalformed},
		{"ipv4 header of no words", edit(tcp4, 14, 0x40), PassMalformed},
		{"ipv4 header past the end", edit(tcp4, 14, 0x4f)[:34], RedirectIPv4},
		{"ipv4 foreign MAC", edit(tcp4, 0, steerOtherMAC...), PassForeignMAC},
		{"ipv4 unicast in broadcast", edit(tcp4, 0, steerBcast...), PassMulticast},
		{"ipv4 unicast in multicast", edit(tcp4, 0, 1, 0, 0x5e, 0, 0, 1), PassMulticast},
		{"ipv4 broadcast", etherFrame(steerBcast, typeIPv4, ipv4Packet(netip.MustParseAddr("255.255.255.255"), protoUDP, 0, nil, l4)), PassMulticast},
		{"ipv4 multicast", etherFrame(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, typeIPv4, ipv4Packet(netip.MustParseAddr("224.0.0.1"), 2, 0, nil, l4)), PassMulticast},
		{"group4 udp", group4(steerGroup4, protoUDP, 0, nil), RedirectIPv4},
		{"group4 udp with options", group4(steerGroup4, protoUDP, 0, []byte{7, 7, 4, 0, 0, 0, 0, 0}), RedirectIPv4},
		{"group4 first fragment", group4(steerGroup4, protoUDP, 0x2000, nil), RedirectIPv4},
		{"group4 last fragment", group4(steerGroup4, protoUDP, 10, nil), RedirectIPv4},
		{"group4 udp in unicast frame", v4(steerGroup4, protoUDP, 0, nil), RedirectIPv4},
		{"group4 udp in broadcast", edit(group4(steerGroup4, protoUDP, 0, nil), 0, steerBcast...), PassMulticast},
		{"group4 udp to an IPv6 group's MAC", edit(group4(steerGroup4, protoUDP, 0, nil), 0, steerGroupMAC6...), PassMulticast},
		{"group4 udp to MPLS' MAC", edit(group4(steerGroup4, protoUDP, 0, nil), 3, 0x81), PassMulticast},
		{"group4 other", group4(steerOtherGroup4, protoUDP, 0, nil), PassMulticast},
		{"group4 other in unicast frame", v4(steerOtherGroup4, protoUDP, 0, nil), PassMulticast},
		{"group4 igmp query", group4(steerGroup4, 2, 0, []byte{0x94, 4, 0, 0}), PassMulticast},
		{"group4 igmp in unicast frame", v4(steerGroup4, 2, 0, []byte{0x94, 4, 0, 0}), PassMulticast},
		{"group4 tcp", group4(steerGroup4, protoTCP, 0, nil), PassMulticast},
		{"group4 own address", group4(steerOwn4, protoUDP, 0, nil), PassMulticast},
		{"group4 version 6", edit(group4(steerGroup4, protoUDP, 0, nil), 14, 0x65), PassMalformed},

		{"tcp6 own", tcp6, RedirectIPv6},
		{"udp6 own", v6(steerOwn6, protoUDP, l4), RedirectIPv6},
		{"tcp6 other", v6(steerOther6, protoTCP, l4), PassNoAddress},
		{"ipv6 hop-by-hop", v6(steerOwn6, 0, ext(protoTCP), l4), RedirectIPv6},
		{"ipv6 routing", v6(steerOwn6, 43, ext(protoTCP), l4), RedirectIPv6},
		{"ipv6 destination options", v6(steerOwn6, 60, ext(protoUDP), l4), RedirectIPv6},
		{"ipv6 first fragment", v6(steerOwn6, 44, []byte{protoUDP, 0, 0, 1, 0, 0, 0, 1}, l4), RedirectIPv6},
		{"ipv6 last fragment", v6(steerOwn6, 44, []byte{protoUDP, 0, 0, 40, 0, 0, 0, 1}, l4), RedirectIPv6},
		{"ipv6 three extension headers", v6(steerOwn6, 0, ext(60), ext(43), ext(protoTCP), l4), RedirectIPv6},
		{"ipv6 nothing follows", v6(steerOwn6, 59), RedirectIPv6},
		{"ipv6 version 4", edit(tcp6, 14, 0x45), PassMalformed},
		{"ipv6 foreign MAC", edit(tcp6, 0, steerOtherMAC...), PassForeignMAC},
		{"ipv6 unicast in multicast", edit(tcp6, 0, groupMAC...), PassMulticast},
		{"ipv6 unicast in broadcast", edit(tcp6, 0, steerBcast...), PassMulticast},
		{"ipv6 mapped own ipv4", v6(netip.AddrFrom16(steerOwn4.As16()), protoTCP, l4), PassNoAddress},
		{"ipv6 multicast udp", etherFrame(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 0xfb}, typeIPv6, ipv6Packet(peer6, netip.MustParseAddr("ff02::fb"), protoUDP, l4)), PassMulticast},
		{"group6 udp", group6(steerGroup6, protoUDP, l4), RedirectIPv6},
		{"group6 udp in unicast frame", v6(steerGroup6, protoUDP, l4), RedirectIPv6},
		{"group6 udp to an IPv4 group's MAC", edit(group6(steerGroup6, protoUDP, l4), 0, steerGroupMAC4...), PassMulticast},
		{"group6 other", group6(steerOtherGroup6, protoUDP, l4), PassMulticast},
		{"group6 first fragment", group6(steerGroup6, 44, []byte{protoUDP, 0, 0, 1, 0, 0, 0, 1}, l4), PassMulticast},
		{"group6 mld query", group6(steerGroup6, 0, []byte{protoICMPv6, 0, 5, 2, 0, 0, 1, 0}, []byte{130, 0, 0, 0}, l4), PassMulticast},
		{"group6 icmp", group6(steerGroup6, protoICMPv6, l4), PassMulticast},
		{"group6 own address", group6(steerOwn6, protoUDP, l4), PassMulticast},
		{"ipv6 echo to own group", etherFrame(groupMAC, typeIPv6, ipv6Packet(peer6, group, protoICMPv6, []byte{128, 0, 0, 0, 0, 0, 0, 0})), PassMulticast},

		{"ns own", ns, RedirectND},
		{"ns own in unicast frame", edit(ns, 0, steerMAC...), RedirectND},
		{"ns duplicate address probe", nd(groupMAC, zero6, group, 135, steerOwn6), RedirectND},
		{"ns hop limit 254", edit(ns, 21, 254), RedirectND},
		{"ns other", nd(otherGroupMAC, peer6, otherGroup, 135, steerOther6), PassNoAddress},
		{"ns other in own group", nd(groupMAC, peer6, group, 135, netip.MustParseAddr("2001:db8::ff01:2:3")), PassNoAddress},
		{"ns foreign MAC", edit(ns, 0, steerOtherMAC...), PassForeignMAC},
		{"ns behind hop-by-hop", etherFrame(groupMAC, typeIPv6, ipv6Packet(peer6, group, 0, ext(protoICMPv6), ndMessage(135, steerOwn6))), PassMulticast},
		{"ns unicast own", v6(steerOwn6, protoICMPv6, ndMessage(135, steerOwn6)), RedirectIPv6},
		{"ns to wider scope", edit(ns, 38, 0xff, 0x05), PassMulticast},
		{"na all nodes own", nd(allMAC, peer6, steerAllNodes, 136, steerOwn6), RedirectND},
		{"na all nodes other", nd(allMAC, peer6, steerAllNodes, 136, steerOther6), PassNoAddress},
		{"na unicast own", v6(steerOwn6, protoICMPv6, ndMessage(136, steerOther6)), RedirectIPv6},
		{"router solicitation", etherFrame(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 2}, typeIPv6, ipv6Packet(peer6, netip.MustParseAddr("ff02::2"), protoICMPv6, ndMessage(133, steerOwn6))), PassMulticast},
		{"router advertisement", nd(allMAC, peer6, steerAllNodes, 134, steerOwn6), PassMulticast},
		{"redirect message", nd(allMAC, peer6, steerAllNodes, 137, steerOwn6), PassMulticast},

		{"arp request broadcast", arp(steerBcast, 1, peer4, steerOwn4), RedirectARP},
		{"arp request unicast", arp(steerMAC, 1, peer4, steerOwn4), RedirectARP},
		{"arp reply", arp(steerMAC, 2, peer4, steerOwn4), RedirectARP},
		{"arp probe", arp(steerBcast, 1, zero4, steerOwn4), RedirectARP},
		{"arp padded", append(arp(steerBcast, 1, peer4, steerOwn4), make([]byte, 18)...), RedirectARP},
		{"arp claim of own address", arp(steerBcast, 1, steerOwn4, steerOwn4), RedirectARP},
		{"arp gratuitous other", arp(steerBcast, 1, peer4, peer4), PassNoAddress},
		{"arp request other", arp(steerBcast, 1, peer4, steerOther4), PassNoAddress},
		{"arp from own to other", arp(steerBcast, 1, steerOwn4, steerOther4), PassNoAddress},
		{"arp answer to own probe", arp(steerMAC, 2, steerOwn4, zero4), RedirectARP},
		{"arp answer to own probe, broadcast", arp(steerBcast, 2, steerOwn4, zero4), RedirectARP},
		{"arp answer to other probe", arp(steerMAC, 2, peer4, zero4), PassNoAddress},
		{"arp about nobody", arp(steerBcast, 1, zero4, zero4), PassNoAddress},
		{"arp foreign MAC", arp(steerOtherMAC, 2, peer4, steerOwn4), PassForeignMAC},
		{"arp multicast", arp(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, 1, peer4, steerOwn4), PassMulticast},
		{"arp reverse operation", arp(steerBcast, 3, peer4, steerOwn4), PassMalformed},
		{"arp operation 256", arp(steerBcast, 256, peer4, steerOwn4), PassMalformed},
		{"arp hardware type", edit(arp(steerBcast, 1, peer4, steerOwn4), 14, 0, 6), PassMalformed},
		{"arp protocol type", edit(arp(steerBcast, 1, peer4, steerOwn4), 16, 0x86, 0xdd), PassMalformed},
		{"arp hardware length", edit(arp(steerBcast, 1, peer4, steerOwn4), 18, 8), PassMalformed},
		{"arp protocol length", edit(arp(steerBcast, 1, peer4, steerOwn4), 19, 16), PassMalformed},
		{"rarp", etherFrame(steerBcast, 0x8035, arpPacket(3, peer4, steerOwn4)), PassEtherType},

		{"802.1Q", etherFrame(steerMAC, 0x8100, wire16(5), wire16(typeIPv4), tcp4[14:]), PassVLAN},
		{"802.1Q priority tag", etherFrame(steerMAC, 0x8100, wire16(0x6000), wire16(typeIPv4), tcp4[14:]), PassVLAN},
		{"802.1ad", etherFrame(steerMAC, 0x88a8, wire16(5), wire16(0x8100), wire16(6), wire16(typeIPv6), tcp6[14:]), PassVLAN},
		{"802.1Q arp", etherFrame(steerBcast, 0x8100, wire16(5), wire16(typeARP), arpPacket(1, peer4, steerOwn4)), PassVLAN},
		{"802.3 length", etherFrame(steerMAC, 46, tcp4[14:]), PassEtherType},
		{"ethertype bytes swapped", etherFrame(steerMAC, 0x0008, tcp4[14:]), PassEtherType},
		{"mpls", etherFrame(steerMAC, 0x8847, tcp4[14:]), PassEtherType},
		{"lldp", etherFrame(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0xe}, 0x88cc, l4), PassEtherType},
	}
}
