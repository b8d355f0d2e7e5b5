package stack

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// interfaces are those that netstack looks for with type assertions.
var interfaces = map[string]reflect.Type{
	"NetworkEndpoint":                    reflect.TypeFor[gstack.NetworkEndpoint](),
	"AddressableEndpoint":                reflect.TypeFor[gstack.AddressableEndpoint](),
	"GroupAddressableEndpoint":           reflect.TypeFor[gstack.GroupAddressableEndpoint](),
	"ForwardingNetworkEndpoint":          reflect.TypeFor[gstack.ForwardingNetworkEndpoint](),
	"MulticastForwardingNetworkEndpoint": reflect.TypeFor[gstack.MulticastForwardingNetworkEndpoint](),
	"LinkResolvableNetworkEndpoint":      reflect.TypeFor[gstack.LinkResolvableNetworkEndpoint](),
	"LinkAddressResolver":                reflect.TypeFor[gstack.LinkAddressResolver](),
	"DuplicateAddressDetector":           reflect.TypeFor[gstack.DuplicateAddressDetector](),
	"NDPEndpoint":                        reflect.TypeFor[gstack.NDPEndpoint](),
	"ipv4.IGMPEndpoint":                  reflect.TypeFor[ipv4.IGMPEndpoint](),
	"ipv6.MLDEndpoint":                   reflect.TypeFor[ipv6.MLDEndpoint](),
	"ipv6.NDPEndpoint":                   reflect.TypeFor[ipv6.NDPEndpoint](),
	"NetworkProtocol":                    reflect.TypeFor[gstack.NetworkProtocol](),
	"MulticastForwardingNetworkProtocol": reflect.TypeFor[gstack.MulticastForwardingNetworkProtocol](),
	"RejectIPv4WithHandler":              reflect.TypeFor[gstack.RejectIPv4WithHandler](),
	"RejectIPv6WithHandler":              reflect.TypeFor[gstack.RejectIPv6WithHandler](),
}

// TestWrappersAreComplete compares what wrapped and bare objects can do.
func TestWrappersAreComplete(t *testing.T) {
	// Methods that the bare objects have for themselves, in no interface of
	// netstack but the fragment store's, which they give themselves to.
	own := map[string]bool{"OnReassemblyTimeout": true, "SetDeprecated": true,
		"DefaultTTL": true, "SetDefaultTTL": true,
		"StateTypeName": true, "StateFields": true, "StateSave": true, "StateLoad": true}
	compare := func(t *testing.T, inner, outer any) {
		in, out := reflect.TypeOf(inner), reflect.TypeOf(outer)
		if in == out {
			t.Fatalf("%v is not wrapped", in)
		}
		for name, i := range interfaces {
			if in.Implements(i) != out.Implements(i) {
				t.Errorf("%s: bare %v %t, wrapped %v %t", name, in, in.Implements(i), out, out.Implements(i))
			}
		}
		for i := range in.NumMethod() {
			name := in.Method(i).Name
			if _, ok := out.MethodByName(name); !ok && !own[name] {
				t.Errorf("%v has method %s and its wrapper has not", in, name)
			}
		}
	}
	p := newPairWith(t, pairOptions{verified: true, a: testConfig(addrA), b: testConfig(addrB)})
	for _, num := range []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
		t.Run(fmt.Sprint(num), func(t *testing.T) {
			ep, terr := p.a.ns.GetNetworkEndpoint(nicID, num)
			if terr != nil {
				t.Fatal(terr)
			}
			proto := p.a.ns.NetworkProtocolInstance(num)
			switch e := ep.(type) {
			case *ipv4Endpoint:
				compare(t, e.ipv4Inner, ep)
				compare(t, proto.(*ipv4Protocol).ipv4InnerProtocol, proto)
			case *ipv6Endpoint:
				compare(t, e.ipv6Inner, ep)
				compare(t, proto.(*ipv6Protocol).ipv6InnerProtocol, proto)
			default:
				t.Fatalf("endpoint is a %T", ep)
			}
		})
	}
	p = newPair(t) // not verified
	ep, _ := p.a.ns.GetNetworkEndpoint(nicID, ipv4.ProtocolNumber)
	if _, ok := ep.(*ipv4Endpoint); ok {
		t.Error("wrapped although the link verifies nothing")
	}
}

// datagram4 returns IPv4 packets of a UDP datagram from b to a, cut at the
// given payload offsets.
func datagram4(id uint16, payload []byte, spoil bool, cuts ...int) [][]byte {
	src, dst := tcpip.AddrFrom4([4]byte{10, 0, 0, 2}), tcpip.AddrFrom4([4]byte{10, 0, 0, 1})
	u := udpSegment(src, dst, payload, spoil)
	var packets [][]byte
	for start, rest := 0, append(cuts, len(u)); len(rest) > 0; rest = rest[1:] {
		part := u[start:rest[0]]
		b := make([]byte, header.IPv4MinimumSize+len(part))
		f := header.IPv4Fields{TotalLength: uint16(len(b)), ID: id, TTL: 64, Protocol: uint8(header.UDPProtocolNumber),
			SrcAddr: src, DstAddr: dst, FragmentOffset: uint16(start)}
		if len(rest) > 1 {
			f.Flags = header.IPv4FlagMoreFragments
		}
		h := header.IPv4(b)
		h.Encode(&f)
		h.SetChecksum(^h.CalculateChecksum())
		copy(b[header.IPv4MinimumSize:], part)
		packets = append(packets, b)
		start = rest[0]
	}
	return packets
}

// datagram6 does the same for IPv6; without cuts there is no fragment header.
func datagram6(id uint32, payload []byte, spoil bool, cuts ...int) [][]byte {
	src := tcpip.AddrFrom16([16]byte{0: 0xfd, 15: 2})
	dst := tcpip.AddrFrom16([16]byte{0: 0xfd, 15: 1})
	u := udpSegment(src, dst, payload, spoil)
	var packets [][]byte
	for start, rest := 0, append(cuts, len(u)); len(rest) > 0; rest = rest[1:] {
		part := u[start:rest[0]]
		next := uint8(header.UDPProtocolNumber)
		var ext []byte
		if len(cuts) > 0 {
			ext = make([]byte, 8)
			ext[0], next = next, 44 // fragment header
			off := uint16(start)
			if len(rest) > 1 {
				off |= 1
			}
			binary.BigEndian.PutUint16(ext[2:], off)
			binary.BigEndian.PutUint32(ext[4:], id)
		}
		b := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(ext)+len(part))
		header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(len(ext) + len(part)), HopLimit: 64, SrcAddr: src, DstAddr: dst})
		b[6] = next
		packets = append(packets, append(append(b, ext...), part...))
		start = rest[0]
	}
	return packets
}

func udpSegment(src, dst tcpip.Address, payload []byte, spoil bool) []byte {
	u := make([]byte, header.UDPMinimumSize+len(payload))
	h := header.UDP(u)
	h.Encode(&header.UDPFields{SrcPort: 9, DstPort: 53, Length: uint16(len(u))})
	copy(u[header.UDPMinimumSize:], payload)
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, src, dst, uint16(len(u)))
	sum = ^checksum.Checksum(u, sum)
	if spoil {
		sum ^= 0x0101
	}
	h.SetChecksum(sum)
	return u
}

// TestChecksums injects datagrams with good and bad checksums, whole and in
// fragments. A link that has verified one would have dropped it if it was bad,
// so a bad whole one that arrives shows that it was not verified again.
func TestChecksums(t *testing.T) {
	for _, verified := range []bool{false, true} {
		for _, tc := range []struct {
			name       string
			spoil      bool
			cuts       []int
			v4, v6     bool // what arrives
			noChecksum bool
		}{
			{name: "good", v4: true, v6: true},
			{name: "bad", spoil: true, v4: verified, v6: verified},
			{name: "good in fragments", cuts: []int{16, 32}, v4: true, v6: true},
			{name: "bad in fragments", spoil: true, cuts: []int{16, 32}},
			{name: "none", noChecksum: true, v4: true},
		} {
			t.Run(fmt.Sprintf("verified=%t/%s", verified, tc.name), func(t *testing.T) {
				p := newPairWith(t, pairOptions{verified: verified, a: testConfig(addrA, addrA6), b: testConfig(addrB, addrB6)})
				u := listenUDP(t, p.a, "udp", ":53")
				payload := make([]byte, 40)
				for i, v4 := range []bool{true, false} {
					packets, proto, want := datagram4(uint16(i), payload, tc.spoil, tc.cuts...), ipv4.ProtocolNumber, tc.v4
					at := header.IPv4MinimumSize
					if !v4 {
						packets, proto, want = datagram6(uint32(i), payload, tc.spoil, tc.cuts...), ipv6.ProtocolNumber, tc.v6
						at = header.IPv6MinimumSize
					}
					if tc.noChecksum {
						packets[0][at+6], packets[0][at+7] = 0, 0
					}
					for _, b := range packets {
						p.wa.inject(proto, b)
					}
					// A mark behind it, to know when it has been handled.
					p.wa.inject(ipv4.ProtocolNumber, datagram4(1000, []byte("mark"), false)[0])
					b := make([]byte, 100)
					got := 0
					for {
						u.SetReadDeadline(time.Now().Add(10 * time.Second))
						n, _, err := u.ReadFrom(b)
						if err != nil {
							t.Fatal(err)
						}
						if string(b[:n]) == "mark" {
							break
						}
						got++
					}
					if (got == 1) != want {
						t.Errorf("IPv4 %t: %d datagrams, want one: %t", v4, got, want)
					}
				}
			})
		}
	}
}

// TestPing injects echo requests and waits for the replies.
func TestPing(t *testing.T) {
	for _, verified := range []bool{false, true} {
		p := newPairWith(t, pairOptions{verified: verified, a: testConfig(addrA), b: testConfig(addrB)})
		reply := make(chan []byte, 1)
		saw := func(pkt *gstack.PacketBuffer) {
			if pkt.TransportProtocolNumber == header.ICMPv4ProtocolNumber {
				b := pkt.ToBuffer()
				reply <- b.Flatten()
			}
		}
		p.wa.saw.Store(&saw)
		b := make([]byte, header.IPv4MinimumSize+header.ICMPv4MinimumSize+4)
		h := header.IPv4(b)
		h.Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber),
			SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 2}), DstAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 1})})
		h.SetChecksum(^h.CalculateChecksum())
		icmp := header.ICMPv4(b[header.IPv4MinimumSize:])
		icmp.SetType(header.ICMPv4Echo)
		copy(icmp[header.ICMPv4MinimumSize:], "data")
		icmp.SetChecksum(^checksum.Checksum(icmp, 0))
		p.wa.inject(ipv4.ProtocolNumber, b)
		select {
		case r := <-reply:
			if got := header.ICMPv4(header.IPv4(r).Payload()); got.Type() != header.ICMPv4EchoReply || string(got[header.ICMPv4MinimumSize:]) != "data" {
				t.Errorf("got ICMP type %d, %q", got.Type(), got)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no reply")
		}
	}
}
