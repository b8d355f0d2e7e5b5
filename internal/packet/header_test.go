package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"
)

func TestInfoSize(t *testing.T) {
	if n := reflect.TypeFor[Info]().Size(); n > 64 {
		t.Errorf("Info has %d bytes, more than a cache line", n)
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reasons {
		seen[r.String()] = true
	}
	for k := range Kinds {
		seen["kind "+k.String()] = true
	}
	if len(seen) != int(Reasons)+int(Kinds) || seen[""] || seen["kind "] {
		t.Errorf("names missing or double: %v", seen)
	}
	if Reasons.String() != "unknown reason" || Kinds.String() != "unknown kind" {
		t.Error("out of range values have a name")
	}
}

// edit applies a change to a fresh frame.
func edit(f []byte, change func(f []byte) []byte) []byte {
	return change(append([]byte(nil), f...))
}

func put(at int, b ...byte) func([]byte) []byte {
	return func(f []byte) []byte { copy(f[at:], b); return f }
}

func cut(n int) func([]byte) []byte { return func(f []byte) []byte { return f[:n] } }

func TestParse(t *testing.T) {
	s4, s6 := baseSeg(false), baseSeg(true)
	f4, f6 := s4.frame(), s6.frame()
	with := func(v6 bool, change func(*seg)) []byte {
		s := baseSeg(v6)
		change(&s)
		return s.frame()
	}
	hop := []byte{0, 0, 1, 4, 0, 0, 0, 0}
	routing := func(left byte) []byte { return []byte{0, 0, 0, left, 0, 0, 0, 0} }
	for _, c := range []struct {
		name   string
		frame  []byte
		reason Reason
		kind   Kind
		ext    bool
	}{
		{"tcp4", f4, OK, TCP4, false},
		{"tcp6", f6, OK, TCP6, false},
		{"empty", nil, TooShort, 0, false},
		{"13 bytes", f4[:13], TooShort, 0, false},
		{"ethernet only", f4[:14], TooShort, 0, false},
		{"half ipv4", f4[:33], TooShort, 0, false},
		{"half ipv6", f6[:53], TooShort, 0, false},
		{"too long", make([]byte, MaxFrame+1), TooLong, 0, false},
		{"longest", make([]byte, MaxFrame), OK, Other, false},
		{"vlan", edit(f4, put(12, 0x81, 0)), OK, Other, false},
		{"802.3", edit(f4, put(12, 0, 60)), OK, Other, false},
		{"arp", edit(f4, put(12, 8, 6)), OK, ARP, false},
		{"ipv4 says 6", edit(f4, put(14, 0x65)), BadVersion, 0, false},
		{"ipv6 says 4", edit(f6, put(14, 0x45)), BadVersion, 0, false},
		{"ihl 4", edit(f4, put(14, 0x44)), BadIPv4HeaderLength, 0, false},
		{"ihl past frame", edit(edit(f4, put(14, 0x4f)), cut(60)), BadIPv4HeaderLength, 0, false},
		{"total below header", edit(f4, put(16, 0, 19)), BadTotalLength, 0, false},
		{"total past frame", edit(f4, cut(len(f4)-1)), BadTotalLength, 0, false},
		{"ipv6 length past frame", edit(f6, cut(len(f6)-1)), BadTotalLength, 0, false},
		{"tcp4 too short", edit(f4, put(16, 0, 39)), TooShort, 0, false},
		{"tcp6 too short", edit(f6, put(18, 0, 19)), TooShort, 0, false},
		{"data offset 4", edit(f4, put(46, 0x40)), BadTCPDataOffset, 0, false},
		{"data offset past packet", edit(f4, put(16, 0, 51)), BadTCPDataOffset, 0, false},
		{"data offset past packet 6", edit(f6, put(18, 0, 31)), BadTCPDataOffset, 0, false},
		{"more fragments", with(false, func(s *seg) { s.frag = 0x2000 }), OK, Fragment, false},
		{"later fragment", with(false, func(s *seg) { s.frag = 5 }), OK, Fragment, false},
		{"evil bit", with(false, func(s *seg) { s.frag = 0x8000 }), OK, TCP4, false},
		{"nop options", with(false, func(s *seg) { s.ipOpts = []byte{1, 1, 1, 0} }), OK, TCP4, true},
		{"router alert", with(false, func(s *seg) { s.ipOpts = []byte{148, 4, 0, 0} }), OK, TCP4, true},
		{"source route", with(false, func(s *seg) { s.ipOpts = []byte{131, 3, 4, 0} }), OK, IP, true},
		{"strict route", with(false, func(s *seg) { s.ipOpts = []byte{1, 137, 3, 4} }), OK, IP, true},
		{"option length 0", with(false, func(s *seg) { s.ipOpts = []byte{7, 0, 0, 0} }), OK, IP, true},
		{"option past header", with(false, func(s *seg) { s.ipOpts = []byte{7, 5, 0, 0} }), OK, IP, true},
		{"option cut short", with(false, func(s *seg) { s.ipOpts = []byte{1, 1, 1, 7} }), OK, IP, true},
		{"igmp", edit(f4, put(23, 2)), OK, IP, false},
		{"icmp4", edit(f4, put(23, 1)), OK, ICMP4, false},
		{"icmp6", edit(f6, put(20, 58)), OK, ICMP6, false},
		{"icmp6 over ipv4", edit(f4, put(23, 58)), OK, IP, false},
		{"icmp4 over ipv6", edit(f6, put(20, 1)), OK, IP, false},
		{"no next header", edit(f6, put(20, 59)), OK, IP, false},
		{"jumbogram", edit(f6, put(18, 0, 0)), OK, IP, false},
		{"hop by hop", with(true, func(s *seg) { s.ext, s.extProto = hop, 0 }), OK, TCP6, true},
		{"routing done", with(true, func(s *seg) { s.ext, s.extProto = routing(0), 43 }), OK, TCP6, true},
		{"routing to go", with(true, func(s *seg) { s.ext, s.extProto = routing(1), 43 }), OK, IP, false},
		{"destination options", with(true, func(s *seg) { s.ext, s.extProto = hop, 60 }), OK, IP, false},
		{"fragment6", with(true, func(s *seg) { s.ext, s.extProto = hop, 44 }), OK, Fragment, false},
		{"extension past packet", with(true, func(s *seg) {
			s.ext, s.extProto = []byte{0, 255, 1, 4, 0, 0, 0, 0}, 0
		}), OK, IP, false},
		{"8 routing headers", edit(f6, func(f []byte) []byte { return routingChain(f, 8) }), OK, IP, false},
		{"7 routing headers", edit(f6, func(f []byte) []byte { return routingChain(f, 7) }), OK, TCP6, true},
		{"udp length", udp(false, 100, 100), OK, UDP4, false},
		{"udp shorter than ip", udp(false, 60, 100), OK, UDP4, false},
		{"udp longer than ip", udp(false, 101, 100), BadUDPLength, 0, false},
		{"udp length 7", udp(true, 7, 100), BadUDPLength, 0, false},
		{"udp length 0", udp(true, 0, 100), BadUDPLength, 0, false},
		{"udp too short", udp(true, 7, 7), TooShort, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var info Info
			r := Parse(c.frame, &info)
			if r != c.reason {
				t.Fatalf("reason = %v, want %v", r, c.reason)
			}
			if r != OK {
				return
			}
			if info.Kind != c.kind || info.Marks&Extended != 0 != c.ext {
				t.Errorf("kind = %v, extended = %v, want %v, %v", info.Kind, info.Marks&Extended != 0, c.kind, c.ext)
			}
			checkOffsets(t, c.frame, &info)
		})
	}
}

// routingChain puts n routing headers in front of TCP.
func routingChain(f []byte, n int) []byte {
	tcp := append([]byte(nil), f[54:]...)
	f = f[:54]
	f[20] = protoRouting
	for i := range n {
		next := byte(protoRouting)
		if i == n-1 {
			next = ProtoTCP
		}
		f = append(f, next, 0, 0, 0, 0, 0, 0, 0)
	}
	binary.BigEndian.PutUint16(f[18:], uint16(8*n+len(tcp)))
	return append(f, tcp...)
}

// udp builds a datagram with the given UDP length in an IP packet with room for
// n bytes, and the checksum that is right if the length is legal.
func udp(v6 bool, length, n int) []byte {
	s := baseSeg(v6)
	l3 := s.frame()[:34]
	if v6 {
		l3 = s.frame()[:54]
	}
	u := make([]byte, n)
	for i := range u {
		u[i] = byte(i * 7)
	}
	if n >= 8 {
		binary.BigEndian.PutUint16(u[4:], uint16(length))
		u[6], u[7] = 0, 0
		if length <= n {
			binary.BigEndian.PutUint16(u[6:], ^naiveTransport(s.addrs(), ProtoUDP, u[:length]))
		}
	}
	if v6 {
		l3[20] = ProtoUDP
		binary.BigEndian.PutUint16(l3[18:], uint16(n))
	} else {
		l3[23] = ProtoUDP
		binary.BigEndian.PutUint16(l3[16:], uint16(20+n))
		l3[24], l3[25] = 0, 0
		binary.BigEndian.PutUint16(l3[24:], ^naiveSum(l3[14:]))
	}
	return append(l3, u...)
}

// checkOffsets holds for every frame that parses.
func checkOffsets(tb testing.TB, f []byte, info *Info) {
	tb.Helper()
	if int(info.End) > len(f) {
		tb.Errorf("end %d of %d", info.End, len(f))
	}
	if info.Kind >= IP && !(info.L3 == EthernetLen && info.L3 < info.L4 && info.L4 <= info.Payload && info.Payload <= info.End) {
		tb.Errorf("offsets %+v", *info)
	}
	if info.Kind.IsTCP() && info.Payload < info.L4+TCPLen || info.Kind.IsUDP() && info.Payload != info.L4+UDPLen {
		tb.Errorf("payload at %d, transport at %d", info.Payload, info.L4)
	}
}

func TestParseFields(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := baseSeg(v6)
		s.tos, s.flags, s.seq, s.ack, s.pad = 0xb9, ACK|PSH, 0xdeadbeef, 0xfeedface, 6
		if v6 {
			s.label = 0xabcde
			s.frag, s.id = 0, 0
		}
		f := s.frame()
		got := mustParse(t, f)
		l4 := len(f) - s.pad - len(s.payload) - len(s.opts) - TCPLen
		want := Info{
			Seq: s.seq, Ack: s.ack, SrcPort: s.sport, DstPort: s.dport, Window: s.window, ID: s.id,
			L3: 14, L4: uint16(l4), Payload: uint16(l4 + 32), End: uint16(len(f) - 6), FlowLabel: s.label,
			Kind: TCP4, Marks: DontFragment | Summed, Flags: s.flags, Proto: ProtoTCP, TOS: s.tos, TTL: s.ttl,
			Hash: got.Hash, PayloadSum: naiveSum(s.payload),
		}
		if v6 {
			want.Kind = TCP6
		}
		if got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
}

func TestFlowHash(t *testing.T) {
	dst4, dst6 := netip.MustParseAddrPort("10.9.9.9:80"), netip.MustParseAddrPort("[fd22::9]:80")
	seen := map[uint32]bool{}
	for port := range uint16(1000) {
		for _, v6 := range []bool{false, true} {
			s := baseSeg(v6)
			s.sport = port
			info := mustParse(t, s.frame())
			src, dst := netip.MustParseAddr("::ffff:10.1.2.1"), dst4
			if v6 {
				src, dst = netip.MustParseAddr("fd11::1"), dst6
			}
			if h := FlowHash(ProtoTCP, netip.AddrPortFrom(src, port), dst); h != info.Hash {
				t.Fatalf("FlowHash = %#x, Parse found %#x", h, info.Hash)
			}
			seen[info.Hash] = true
		}
	}
	if len(seen) < 1990 {
		t.Errorf("%d different hashes of 2000 flows", len(seen))
	}
}

func TestVerify(t *testing.T) {
	s4, s6 := baseSeg(false), baseSeg(true)
	for _, s := range []*seg{&s4, &s6} {
		s.payload = bytes.Repeat([]byte{0xa5, 3, 77}, 33)
		s.pad = 3
	}
	partial := func(s seg) []byte { s.partial = true; return s.frame() }
	options := baseSeg(false)
	options.ipOpts = []byte{1, 0, 0, 0}
	flip := func(f []byte, at int) []byte { f[at] ^= 0x10; return f }
	zeroUDP := func(v6 bool) []byte {
		f := udp(v6, 50, 60)
		at := len(f) - 60 + 6
		f[at], f[at+1] = 0, 0
		return f
	}
	for _, c := range []struct {
		name   string
		frame  []byte
		opts   VerifyOptions
		reason Reason
		marks  Mark
	}{
		{"tcp4", s4.frame(), 0, OK, Summed},
		{"tcp6", s6.frame(), AcceptPartial, OK, Summed},
		{"tcp4 partial", partial(s4), AcceptPartial, OK, Partial},
		{"tcp6 partial", partial(s6), AcceptPartial, OK, Partial},
		{"tcp4 partial refused", partial(s4), 0, PartialTCPChecksum, 0},
		{"tcp6 partial refused", partial(s6), 0, PartialTCPChecksum, 0},
		{"tcp4 partial, payload damaged", flip(partial(s4), 100), 0, PartialTCPChecksum, 0},
		{"tcp4 partial, field damaged", flip(partial(s4), 51), AcceptPartial, BadTCPChecksum, 0},
		{"ip options", options.frame(), 0, OK, Summed},
		{"ip options damaged", flip(options.frame(), 36), 0, BadIPv4Checksum, 0},
		{"ipv4 ttl", flip(s4.frame(), 22), 0, BadIPv4Checksum, 0},
		{"ipv4 ttl partial", flip(partial(s4), 22), AcceptPartial, BadIPv4Checksum, 0},
		{"payload 4", flip(s4.frame(), 100), AcceptPartial, BadTCPChecksum, 0},
		{"payload 6", flip(s6.frame(), 120), 0, BadTCPChecksum, 0},
		{"tcp header", flip(s6.frame(), 60), 0, BadTCPChecksum, 0},
		{"ipv6 address", flip(s6.frame(), 30), 0, BadTCPChecksum, 0},
		{"padding", flip(s4.frame(), len(s4.frame())-1), 0, OK, Summed},
		{"udp4", udp(false, 100, 100), 0, OK, 0},
		{"udp6 short", udp(true, 61, 100), 0, OK, 0},
		{"udp4 damaged", flip(udp(false, 100, 100), 80), 0, BadUDPChecksum, 0},
		{"udp4 behind its length", flip(udp(false, 50, 100), 120), 0, OK, 0},
		{"udp4 zero", zeroUDP(false), 0, OK, Unsummed},
		{"udp6 zero", zeroUDP(true), AcceptPartial, MissingUDPChecksum, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var info Info
			if r := Parse(c.frame, &info); r != OK {
				t.Fatalf("parse: %v", r)
			}
			if r := Verify(c.frame, &info, c.opts); r != c.reason {
				t.Fatalf("verify = %v, want %v", r, c.reason)
			}
			if got := info.Marks & (Summed | Partial | Unsummed); c.reason == OK && got != c.marks {
				t.Errorf("marks = %b, want %b", got, c.marks)
			}
		})
	}
}

func TestVerifyUDPPartial(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		f := udp(v6, 60, 60)
		field := f[len(f)-60+6:]
		if v6 {
			binary.BigEndian.PutUint16(field, Fold(PseudoHeader6((*[32]byte)(f[22:]), ProtoUDP, 60)))
		} else {
			binary.BigEndian.PutUint16(field, Fold(PseudoHeader4((*[8]byte)(f[26:]), ProtoUDP, 60)))
		}
		var info Info
		Parse(f, &info)
		if r := Verify(f, &info, AcceptPartial); r != OK || info.Marks&Partial == 0 {
			t.Errorf("v6 %t: verify = %v, marks %b", v6, r, info.Marks)
		}
		Parse(f, &info)
		if r := Verify(f, &info, 0); r != PartialUDPChecksum || info.Marks&Partial != 0 {
			t.Errorf("v6 %t: without the option = %v, marks %b", v6, r, info.Marks)
		}
		for n := len(f) - 60 + UDPLen; n < len(f); n += 7 {
			if _, r := parsed(0, len(f), f[:n], f[n:]); r != PartialUDPChecksum {
				t.Errorf("v6 %t: in parts = %v", v6, r)
			}
		}
		field[0] ^= 0x10
		Parse(f, &info)
		if r := Verify(f, &info, AcceptPartial); r != BadUDPChecksum {
			t.Errorf("v6 %t: damaged = %v", v6, r)
		}
	}
}

// TestVerifyLeavesFragments: whatever the sums are.
func TestVerifyLeavesFragments(t *testing.T) {
	s := baseSeg(false)
	s.frag = 0x2000
	f := s.frame()
	f[24] ^= 1
	f[80] ^= 1
	var info Info
	if r := Parse(f, &info); r != OK {
		t.Fatal(r)
	}
	if r := Verify(f, &info, 0); r != OK || info.Marks&Summed != 0 {
		t.Errorf("verify = %v, marks %b", r, info.Marks)
	}
}

func FuzzParse(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		s := baseSeg(v6)
		f.Add(s.frame())
		s.ext, s.ipOpts = []byte{0, 0, 1, 4, 0, 0, 0, 0}, []byte{1, 1, 1, 0}
		f.Add(s.frame())
		f.Add(udp(v6, 20, 30))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame := append([]byte(nil), b...)
		var info, again Info
		r := Parse(frame, &info)
		if r >= BadIPv4Checksum {
			t.Fatalf("parse = %v", r)
		}
		if r != OK {
			return
		}
		checkOffsets(t, frame, &info)
		v := Verify(frame, &info, 0)
		if !bytes.Equal(frame, b) {
			t.Fatal("frame was changed")
		}
		if v == OK && info.Kind.IsTCP() {
			checkSums(t, frame[:info.End], int(info.L4))
			if info.Marks&Summed == 0 || !sameSum(info.PayloadSum, naiveSum(frame[info.Payload:info.End])) {
				t.Errorf("payload sum %#x", info.PayloadSum)
			}
		}
		// Padding changes nothing but the frame's length.
		if info.Kind > IP && int(info.End) == len(frame) && len(frame) < MaxFrame {
			Parse(append(frame, 1), &again)
			Verify(append(frame, 1), &again, 0)
			if v == OK && again != info {
				t.Errorf("padded: %+v\nplain: %+v", again, info)
			}
		}
	})
}

func BenchmarkParseVerify(b *testing.B) {
	for _, n := range []int{64, 1500} {
		for _, v6 := range []bool{false, true} {
			s := baseSeg(v6)
			name, hdr := "ipv4", 66
			if v6 {
				name, hdr = "ipv6", 86
			}
			s.payload = make([]byte, max(0, n-hdr))
			f := s.frame()
			b.Run(name+"/len="+map[int]string{64: "64", 1500: "1500"}[n], func(b *testing.B) {
				var info Info
				b.SetBytes(int64(len(f)))
				b.ReportAllocs()
				for b.Loop() {
					if Parse(f, &info) != OK || Verify(f, &info, AcceptPartial) != OK {
						b.Fatal("bad frame")
					}
				}
			})
		}
	}
}
