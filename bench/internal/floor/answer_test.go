package floor

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/afxnet/afxnet/internal/hostile"
	"github.com/afxnet/afxnet/internal/packet"
)

var (
	ourMAC  = [6]byte{2, 0, 0, 0, 0, 1}
	peerMAC = [6]byte{2, 0, 0, 0, 0, 2}
	our     = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	peers   = []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}
)

func newTestAnswerer() *answerer { return newAnswerer(ourMAC, our[0], our[1], 1500) }

// segment is a TCP segment from the client.
type segment struct {
	family   int // 0 is IPv4, 1 IPv6
	port     uint16
	server   uint16 // 0 is the echo's
	window   uint16 // 0 for the echo is another
	seq, ack uint32
	flags    uint8
	options  []byte
	data     []byte
	partial  bool // the checksum covers the pseudo-header only
}

// ip returns Ethernet and IP headers for n bytes of a protocol.
func ip(family int, proto uint8, n int) []byte {
	be := binary.BigEndian
	f := append(append([]byte(nil), ourMAC[:]...), peerMAC[:]...)
	src, dst := peers[family].AsSlice(), our[family].AsSlice()
	if family == 0 {
		f = be.AppendUint16(f, 0x0800)
		f = append(f, 0x45, 0)
		f = be.AppendUint16(f, uint16(20+n))
		f = append(f, 0x12, 0x34, 0x40, 0, 64, proto, 0, 0)
		f = append(append(f, src...), dst...)
		be.PutUint16(f[24:], ^packet.Fold(packet.Sum(f[14:], 0)))
		return f
	}
	f = be.AppendUint16(f, 0x86dd)
	f = append(f, 0x60, 0, 0, 0)
	f = be.AppendUint16(f, uint16(n))
	f = append(f, proto, 64)
	return append(append(f, src...), dst...)
}

// pseudo sums the pseudo-header of a frame that ip has made.
func pseudo(f []byte, family int, proto uint8, n int) uint32 {
	if family == 0 {
		return packet.PseudoHeader4((*[8]byte)(f[26:]), proto, n)
	}
	return packet.PseudoHeader6((*[32]byte)(f[22:]), proto, n)
}

func (s segment) frame() []byte {
	be := binary.BigEndian
	n := packet.TCPLen + len(s.options) + len(s.data)
	f := ip(s.family, packet.ProtoTCP, n)
	l4 := len(f)
	window := s.window
	if s.server == 0 {
		s.server, window = 7000, 501
	}
	f = be.AppendUint16(be.AppendUint16(f, s.port), s.server)
	f = be.AppendUint32(be.AppendUint32(f, s.seq), s.ack)
	f = append(f, byte((packet.TCPLen+len(s.options))/4)<<4, s.flags)
	f = be.AppendUint16(f, window)
	f = append(f, 0, 0, 0, 0)
	f = append(append(f, s.options...), s.data...)
	sum := pseudo(f, s.family, packet.ProtoTCP, n)
	if s.partial {
		be.PutUint16(f[l4+16:], packet.Fold(sum))
	} else {
		be.PutUint16(f[l4+16:], ^packet.Fold(packet.Sum(f[l4:], sum)))
	}
	return f
}

// exchange answers a frame and returns the reply, nil for none, in good form.
func exchange(tb testing.TB, a *answerer, frame []byte) ([]byte, packet.Info) {
	tb.Helper()
	buf := make([]byte, max(len(frame), slack))
	copy(buf, frame)
	n := a.answer(buf, len(frame), len(frame))
	var info packet.Info
	if n == 0 {
		return nil, info
	}
	reply := buf[:n]
	if !bytes.Equal(reply[:12], append(peerMAC[:], ourMAC[:]...)) {
		tb.Fatalf("sent from and to % x", reply[:12])
	}
	r := packet.Parse(reply, &info)
	if r == packet.OK {
		r = packet.Verify(reply, &info, 0)
	}
	if r != packet.OK {
		tb.Fatalf("reply: %v: % x", r, reply)
	}
	return reply, info
}

// tcpReply wants a reply in TCP and returns its data.
func tcpReply(tb testing.TB, a *answerer, s segment, flags uint8, seq, ack uint32) []byte {
	tb.Helper()
	server := s.server
	if server == 0 {
		server = 7000
	}
	reply, info := exchange(tb, a, s.frame())
	if reply == nil {
		tb.Fatalf("%+v: no reply", s)
	}
	if info.Flags != flags || info.Seq != seq || info.Ack != ack || info.SrcPort != server || info.DstPort != s.port {
		tb.Fatalf("%+v:\ngot %+v", s, info)
	}
	return reply[info.Payload:info.End]
}

// silent wants no reply.
func silent(tb testing.TB, a *answerer, frame []byte, counted event) {
	tb.Helper()
	before := a.count[counted]
	if reply, _ := exchange(tb, a, frame); reply != nil || a.count[counted] != before+1 {
		tb.Fatalf("%s: %d, reply % x", eventNames[counted], a.count[counted]-before, reply)
	}
}

const fin, syn, rst, psh, ack = packet.FIN, packet.SYN, packet.RST, packet.PSH, packet.ACK

// isn makes the numbers wrap in every test.
var isn uint32 = 0xfffffff0

func TestHandshake(t *testing.T) {
	linux := []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}
	for family, mss := range []uint16{1460, 1440} {
		for _, options := range [][]byte{nil, linux, {2, 4, 5, 0xb4}, {3, 9, 0, 0}, {0, 3, 3, 7}, {1, 1, 1, 3}} {
			a := newTestAnswerer()
			s := segment{family: family, port: 1, seq: isn, flags: syn, options: options}
			reply, info := exchange(t, a, s.frame())
			if reply == nil || info.Flags != syn|ack || info.Seq != isn || info.Ack != isn+1 {
				t.Fatalf("got %+v", info)
			}
			opts := reply[int(info.L4)+20 : info.Payload]
			want := []byte{2, 4, byte(mss >> 8), byte(mss)}
			if len(options) == len(linux) {
				want = append(want, 1, 3, 3, windowScale)
			}
			if !bytes.Equal(opts, want) {
				t.Errorf("options % x: got % x, want % x", options, opts, want)
			}
		}
	}
}

func TestEcho(t *testing.T) {
	for family := range 2 {
		for _, partial := range []bool{false, true} {
			a := newTestAnswerer()
			for n := 1; n <= 1440; n++ {
				data := bytes.Repeat([]byte{byte(n), 0xff}, n)[:n]
				seq := isn + uint32(n)
				s := segment{family: family, port: 9, seq: seq, ack: seq, flags: ack | psh, data: data, partial: partial}
				got := tcpReply(t, a, s, ack|psh, seq, seq+uint32(n))
				if !bytes.Equal(got, data) {
					t.Fatalf("%d bytes: got % x", n, got)
				}
				s.options = []byte{1, 1, 8, 10, 0, 0, 0, byte(n), 0, 0, 0, 1}
				if got := tcpReply(t, a, s, ack|psh, seq, seq+uint32(n)); !bytes.Equal(got, data) {
					t.Fatalf("%d bytes and options: got % x", n, got)
				}
			}
		}
	}
}

// TestDamage checks that damage on the way there is seen on the way back.
func TestDamage(t *testing.T) {
	f := segment{port: 9, seq: isn, ack: isn, flags: ack, data: []byte("some bytes")}.frame()
	f[len(f)-1] ^= 1
	buf := append(f, make([]byte, slack)...)
	n := newTestAnswerer().answer(buf, len(f), len(f))
	var info packet.Info
	if r := packet.Parse(buf[:n], &info); r != packet.OK {
		t.Fatal(r)
	}
	if r := packet.Verify(buf[:n], &info, 0); r != packet.BadTCPChecksum {
		t.Errorf("%v", r)
	}
}

// TestConversation is a request of three segments, with losses and
// retransmissions, and a close.
func TestConversation(t *testing.T) {
	a := newTestAnswerer()
	mss := bytes.Repeat([]byte("x"), 1000)
	seg := func(seq, got uint32, flags uint8, data []byte) segment {
		return segment{port: 9, seq: isn + seq, ack: isn + got, flags: flags, data: data}
	}
	silent(t, a, seg(1, 1, ack, nil).frame(), tcpSilent) // end of the handshake
	// The first is acknowledged at once; whether it arrived, the others do
	// not know.
	tcpReply(t, a, seg(1, 1, ack, mss), ack|psh, isn+1, isn+1001)
	tcpReply(t, a, seg(1001, 1, ack, mss), ack|psh, isn+1001, isn+1)
	tcpReply(t, a, seg(2001, 1, ack, mss), ack|psh, isn+2001, isn+1)
	// The client acknowledges the echoes bit by bit.
	tcpReply(t, a, seg(3001, 2001, ack, nil), ack, isn+2001, isn+2001)
	if !a.later {
		t.Error("the next one may not replace this")
	}
	tcpReply(t, a, seg(3001, 3001, ack, nil), ack, isn+3001, isn+3001)
	silent(t, a, seg(3001, 3001, ack, nil).frame(), tcpSilent)
	// A lost echo: the same request, the same reply.
	for range 2 {
		tcpReply(t, a, seg(3001, 3001, ack, mss), ack|psh, isn+3001, isn+4001)
	}
	// A lost ACK: the client has the echo.
	before := a.count[tcpDuplicate]
	if got := tcpReply(t, a, seg(3001, 4001, ack, mss), ack, isn+4001, isn+4001); len(got) != 0 || a.count[tcpDuplicate] != before+1 {
		t.Errorf("%d bytes, %d duplicates", len(got), a.count[tcpDuplicate]-before)
	}
	// It has half of it.
	tcpReply(t, a, seg(3001, 3501, ack, mss), ack|psh, isn+3001, isn+4001)
	// A keepalive probe.
	tcpReply(t, a, seg(4000, 4001, ack, nil), ack, isn+4001, isn+4001)
	// The close, twice because the reply was lost, and the last ACK.
	for range 2 {
		tcpReply(t, a, seg(4001, 4001, ack|fin, nil), ack|fin, isn+4001, isn+4002)
	}
	silent(t, a, seg(4002, 4002, ack, nil).frame(), tcpSilent)
	// A close that overtakes the echo is acknowledged when that has arrived.
	tcpReply(t, a, seg(5000, 5000, ack, mss), ack|psh, isn+5000, isn+6000)
	tcpReply(t, a, seg(6000, 5000, ack|fin, nil), ack|fin, isn+6000, isn+5000)
	tcpReply(t, a, seg(6001, 6001, ack, nil), ack, isn+6001, isn+6001)
	// A close with data.
	if got := tcpReply(t, a, seg(7000, 7000, ack|fin|psh, mss), ack|fin|psh, isn+7000, isn+8001); len(got) != 1000 {
		t.Errorf("%d bytes", len(got))
	}
	silent(t, a, seg(1, 1, rst, nil).frame(), tcpResets)
	silent(t, a, seg(1, 1, rst|ack, nil).frame(), tcpResets)
	for _, flags := range []uint8{0, psh, fin, syn | ack, syn | fin, syn | fin | ack} {
		silent(t, a, seg(1, 1, flags, mss).frame(), badFrames)
	}
}

func udpFrame(family int, data []byte, partial bool) []byte {
	be := binary.BigEndian
	n := packet.UDPLen + len(data)
	f := ip(family, packet.ProtoUDP, n)
	l4 := len(f)
	f = be.AppendUint16(be.AppendUint16(f, 9), 7000)
	f = append(be.AppendUint16(f, uint16(n)), 0, 0)
	f = append(f, data...)
	sum := pseudo(f, family, packet.ProtoUDP, n)
	if partial {
		be.PutUint16(f[l4+6:], packet.Fold(sum))
	} else if field := ^packet.Fold(packet.Sum(f[l4:], sum)); field != 0 {
		be.PutUint16(f[l4+6:], field)
	} else {
		be.PutUint16(f[l4+6:], 0xffff)
	}
	return f
}

func TestUDP(t *testing.T) {
	a := newTestAnswerer()
	for family := range 2 {
		for n := range 1452 {
			data := bytes.Repeat([]byte{0xff, byte(n)}, n)[:n]
			for _, partial := range []bool{false, true} {
				// With padding behind, as a short frame has.
				reply, info := exchange(t, a, append(udpFrame(family, data, partial), 1, 2, 3))
				if reply == nil || info.SrcPort != 7000 || info.DstPort != 9 || !bytes.Equal(reply[info.Payload:], data) {
					t.Fatalf("%d bytes: % x", n, reply)
				}
				if info.Marks&packet.Unsummed != 0 {
					t.Fatal("the reply has no checksum")
				}
			}
		}
	}
	f := udpFrame(0, []byte("without"), false)
	clear(f[40:42])
	if _, info := exchange(t, a, f); info.Marks&packet.Unsummed == 0 {
		t.Errorf("a datagram without a checksum: %+v", info)
	}
}

func TestFragments(t *testing.T) {
	a := newTestAnswerer()
	be := binary.BigEndian
	first := udpFrame(0, make([]byte, 24), false)
	be.PutUint16(first[20:], 0x2000)
	be.PutUint16(first[24:], 0)
	be.PutUint16(first[24:], ^packet.Fold(packet.Sum(first[14:34], 0)))
	reply, _ := exchange(t, a, first)
	if reply == nil || be.Uint16(reply[34:]) != 7000 || be.Uint16(reply[36:]) != 9 || !bytes.Equal(reply[26:30], our[0].AsSlice()) {
		t.Errorf("first fragment: % x", reply)
	}
	next := append(ip(0, packet.ProtoUDP, 16), "0123456789abcdef"...)
	be.PutUint16(next[20:], 4)
	if reply, _ := exchange(t, a, next); reply == nil || string(reply[34:]) != "0123456789abcdef" {
		t.Errorf("second fragment: % x", reply)
	}
	six := append(ip(1, fragmentHeader, 24), packet.ProtoUDP, 0, 0, 9, 1, 2, 3, 4)
	six = append(six, "0123456789abcdef"...)
	if reply, _ := exchange(t, a, six); reply == nil || string(reply[62:]) != "0123456789abcdef" || !bytes.Equal(reply[38:54], peers[1].AsSlice()) {
		t.Errorf("fragment of IPv6: % x", reply)
	}
	six[54] = packet.ProtoTCP
	silent(t, a, six, otherFrames)
}

func TestNeighbors(t *testing.T) {
	a := newTestAnswerer()
	arp := append(bytes.Repeat([]byte{0xff}, 6), peerMAC[:]...)
	arp = append(arp, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	arp = append(append(arp, peerMAC[:]...), peers[0].AsSlice()...)
	arp = append(append(arp, 0, 0, 0, 0, 0, 0), our[0].AsSlice()...)
	want := append(append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, ourMAC[:]...), our[0].AsSlice()...)
	want = append(append(want, peerMAC[:]...), peers[0].AsSlice()...)
	if reply, _ := exchange(t, a, arp); reply == nil || !bytes.Equal(reply[14:], want) {
		t.Errorf("ARP: got % x, want % x", reply, want)
	}
	arp[41]++
	silent(t, a, arp, otherFrames)
	silent(t, a, arp[:41], badFrames)

	for _, option := range []bool{true, false} {
		n := 24
		if option {
			n += 8
		}
		nd := ip(1, 58, n)
		nd[21] = 255
		nd = append(append(nd, 135, 0, 0, 0, 0, 0, 0, 0), our[1].AsSlice()...)
		if option {
			nd = append(append(nd, 1, 1), peerMAC[:]...)
		}
		binary.BigEndian.PutUint16(nd[56:], ^packet.Fold(packet.Sum(nd[54:], pseudo(nd, 1, 58, n))))
		reply, _ := exchange(t, a, nd)
		if len(reply) != ndEnd || reply[54] != 136 || reply[58] != 0x60 || !bytes.Equal(reply[62:78], our[1].AsSlice()) ||
			!bytes.Equal(reply[78:86], append([]byte{2, 1}, ourMAC[:]...)) || !bytes.Equal(reply[38:54], peers[1].AsSlice()) {
			t.Fatalf("advertisement: % x", reply)
		}
		if packet.Fold(packet.Sum(reply[54:], pseudo(reply, 1, 58, 32))) != 0xffff {
			t.Errorf("checksum of % x", reply)
		}
		nd[21] = 254
		silent(t, a, nd, otherFrames)
	}
}

// TestHostile feeds frames of every kind: what comes back for an intact request
// is intact, nothing runs past the buffer, and every frame is counted.
func TestHostile(t *testing.T) {
	var flows []hostile.Flow
	for i := range our {
		for _, tcp := range []bool{true, false} {
			flows = append(flows, hostile.Flow{
				Src: netip.AddrPortFrom(peers[i], 1000), Dst: netip.AddrPortFrom(our[i], 7000),
				TCP: tcp, Next: isn, Window: 1 << 19, SendMax: isn, Sacrifice: true,
			})
		}
	}
	g := hostile.New(1, hostile.Link{Target: ourMAC, Peer: peerMAC, MTU: 1500, Listen: 7000}, flows)
	a := newTestAnswerer()
	replies := 0
	for i := range 200_000 {
		f := g.Next()
		buf := make([]byte, max(len(f.Data), slack))
		copy(buf, f.Data)
		var info packet.Info
		intact := packet.Parse(f.Data, &info) == packet.OK && packet.Verify(f.Data, &info, 0) == packet.OK
		first := len(f.Data)
		if i%2 != 0 && first > 2*slack {
			first -= slack // the rest is in another frame
		}
		n := a.answer(buf[:max(first, slack):max(first, slack)], first, len(f.Data), buf[first:len(f.Data)])
		if n == 0 {
			continue
		}
		replies++
		if n < 0 || n > len(buf) {
			t.Fatalf("%v: a reply of %d bytes in %d", f.Class, n, len(buf))
		}
		if r := packet.Parse(buf[:n], &info); r != packet.OK {
			t.Fatalf("%v: %v\n% x\n% x", f.Class, r, f.Data, buf[:n])
		}
		if r := packet.Verify(buf[:n], &info, 0); intact && r != packet.OK {
			t.Fatalf("%v: %v\n% x\n% x", f.Class, r, f.Data, buf[:n])
		}
	}
	c := &a.count
	made := c[arpReplies] + c[ndReplies] + c[udpEchoes] + c[tcpAccepted] + c[tcpAcks] + c[tcpDuplicate]
	if replies == 0 || c[framesIn] != 200_000 || c[badFrames] == 0 || made > uint64(replies) {
		t.Errorf("%d replies, counted %v", replies, c)
	}
}

// TestParts echoes packets of which only the beginning is in the first frame.
func TestParts(t *testing.T) {
	data := bytes.Repeat([]byte("parts"), 1000)
	for family := range 2 {
		tcp := func(data []byte, partial bool) []byte {
			return segment{family: family, port: 9, seq: isn, ack: isn, flags: ack, data: data, partial: partial}.frame()
		}
		udp := func(data []byte, partial bool) []byte { return udpFrame(family, data, partial) }
		tcpData, udpData := ambiguous(t, data, tcp), ambiguous(t, data, udp)
		for name, tc := range map[string]struct{ frame, data []byte }{
			"tcp": {tcp(data, false), data}, "tcp, partial": {tcp(data, true), data}, "tcp, ambiguous": {tcp(tcpData, false), tcpData},
			"udp": {udp(data, false), data}, "udp, partial": {udp(data, true), data}, "udp, ambiguous": {udp(udpData, false), udpData},
		} {
			f, data := tc.frame, tc.data
			for _, first := range []int{100, 101, slack, 3840} {
				a := newTestAnswerer()
				buf := make([]byte, max(first, slack))
				copy(buf, f[:first])
				n := a.answer(buf, first, len(f), f[first:4001], f[4001:])
				if n != len(f) {
					t.Fatalf("%s: a reply of %d bytes to %d", name, n, len(f))
				}
				reply := append(buf[:first], f[first:]...)
				var info packet.Info
				r := packet.Parse(reply, &info)
				if r == packet.OK {
					r = packet.Verify(reply, &info, 0)
				}
				if r != packet.OK || info.DstPort != 9 || !bytes.Equal(reply[len(reply)-len(data):], data) {
					t.Errorf("%s, %d bytes in the first frame: %v, %+v", name, first, r, info)
				}
			}
		}
	}
}

// ambiguous returns data, of an even length, with another last word: one that has the
// frame's checksum be the same whether it covers the data or the pseudo-header only.
func ambiguous(t *testing.T, data []byte, frame func(data []byte, partial bool) []byte) []byte {
	t.Helper()
	be := binary.BigEndian
	data = bytes.Clone(data)
	word := data[len(data)-2:]
	clear(word)
	whole, partial := frame(data, false), frame(data, true)
	at := 0 // of the checksum
	for whole[at] == partial[at] && whole[at+1] == partial[at+1] || at%2 != 0 {
		at++
	}
	be.PutUint16(word, packet.Fold(uint32(^be.Uint16(partial[at:]))+uint32(be.Uint16(whole[at:]))))
	if !bytes.Equal(frame(data, false), frame(data, true)) {
		t.Fatal("the checksums differ")
	}
	return data
}

func BenchmarkAnswer(b *testing.B) {
	for _, n := range []int{64, 1448} {
		f := segment{port: 9, seq: isn, ack: isn, flags: ack | psh, data: make([]byte, n)}.frame()
		b.Run(map[int]string{64: "tcp/64", 1448: "tcp/1448"}[n], func(b *testing.B) {
			a := newTestAnswerer()
			buf := make([]byte, 2048)
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, f)
				a.answer(buf, len(f), len(f))
			}
		})
	}
}
