package stack

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

func TestAcceptable(t *testing.T) {
	const k64 = 1 << 16
	for _, tc := range []struct {
		ack, una, nxt, window uint32
		want                  bool
	}{
		{1000, 1000, 1000, 0, true},
		{1001, 1000, 1000, 0, false},
		{999, 1000, 1000, 0, false},
		{1000, 500, 1000, 100, true},
		{500, 500, 1000, 100, true},
		{400, 500, 1000, 100, true},
		{399, 500, 1000, 100, false},
		{1001, 500, 1000, 100, false},
		{1000 + 1<<31, 500, 1000, 100, false},
		// Around zero.
		{0, 0, 0, k64, true},
		{1, 0, 0, k64, false},
		{0xffffffff, 0, 0, k64, true},
		{0xffff0000, 0, 0, k64, true},
		{0xfffeffff, 0, 0, k64, false},
		{0x10, 0xfffffff0, 0x10, k64, true},
		{0x11, 0xfffffff0, 0x10, k64, false},
		{0xfffffff0, 0xfffffff0, 0x10, k64, true},
		{0xfffffff0 - k64, 0xfffffff0, 0x10, k64, true},
		{0xffffffef - k64, 0xfffffff0, 0x10, k64, false},
		{0x80000000, 0xfffffff0, 0x10, k64, false},
		// The largest window there is, all of it in flight.
		{5, 0xc0000000, 0, 1 << 30, false},
		{0, 0xc0000000, 0, 1 << 30, true},
		{0x80000000, 0xc0000000, 0, 1 << 30, true},
		{0x7fffffff, 0xc0000000, 0, 1 << 30, false},
	} {
		if got := acceptable(tc.ack, tc.una, tc.nxt, tc.window); got != tc.want {
			t.Errorf("%#x with %#x to %#x and a window of %d: %t", tc.ack, tc.una, tc.nxt, tc.window, got)
		}
		// It does not matter where zero is.
		for range 16 {
			d := rand.Uint32()
			if got := acceptable(tc.ack+d, tc.una+d, tc.nxt+d, tc.window); got != tc.want {
				t.Errorf("%+v shifted by %#x: %t", tc, d, got)
			}
		}
	}
}

func TestWindowOf(t *testing.T) {
	for _, tc := range []struct {
		window uint16
		scale  uint8
		want   uint32
	}{
		{0, 0, 1 << 16}, {65535, 0, 1 << 16}, {1, 7, 1 << 16}, {1023, 7, 1 << 17}, {1024, 7, 1<<17 + 128},
		{65535, 14, 1 << 30}, {65535, scaleUnknown, 1 << 30}, {3, scaleUnknown, 1 << 16}, {4, scaleUnknown, 5 << 14},
	} {
		seen := pack(0xffffffff, tc.window, tc.scale, stateOpen)
		if got := windowOf(seen); got != tc.want || stateOf(seen) != stateOpen {
			t.Errorf("%d << %d: %d, want %d", tc.window, tc.scale, got, tc.want)
		}
	}
}

const (
	fin, syn, rst, ack = header.TCPFlagFin, header.TCPFlagSyn, header.TCPFlagRst, header.TCPFlagAck
)

// TestUnderWay asks for the numbers around those that were sent, as ICMP errors
// quote them: before anything was, with a SYN, and with data beyond it.
func TestUnderWay(t *testing.T) {
	for _, iss := range []uint32{1000, 0xffffffff, 0xffffff9b} {
		b := newBooks()
		among := func(from, to uint32) { // all from and to, and nothing else
			t.Helper()
			for seq, want := range map[uint32]bool{from - 1: false, from: true, to: true, to + 1: false, to + 1<<31: false} {
				if b.t.underWay(b.hash, seq) != want {
					t.Errorf("from %#x to %#x: %#x is under way: %t", from, to, seq, !want)
				}
			}
		}
		if !b.t.underWay(b.hash, 5) {
			t.Error("a flow without an account is judged")
		}
		b.out(syn, iss, 0, 0, 7)
		among(iss, iss+1)
		b.in(syn|ack, iss+1, 100, 7)
		among(iss+1, iss+1)
		b.out(ack, iss+1, 1, 100, -1)
		among(iss+1, iss+101)
		b.out(ack, iss+1, 1, 40, -1) // again
		among(iss+1, iss+101)
		b.in(ack, iss+41, 100, -1)
		among(iss+41, iss+101)
	}
}

// A books is a ledger with one flow in mind.
type books struct {
	l    ledger
	t    *ledgerTable
	hash uint64
}

func newBooks() *books {
	b := &books{hash: 0x123456789abcdef}
	b.t = b.l.ready()
	return b
}

// tcpHeaderOf returns a header; a scale of 0 or more is in an option.
func tcpHeaderOf(flags header.TCPFlags, seq, ackno uint32, window uint16, scale int) header.TCP {
	h := make(header.TCP, 24)
	h.Encode(&header.TCPFields{SeqNum: seq, AckNum: ackno, DataOffset: 24, Flags: flags, WindowSize: window})
	if scale >= 0 {
		copy(h[20:], []byte{1, 3, 3, byte(scale)})
	}
	return h
}

func (b *books) out(flags header.TCPFlags, seq, ackno uint32, n, scale int) {
	b.l.outgoing(b.t, b.hash, tcpHeaderOf(flags, seq, ackno, 1, scale), n)
}

func (b *books) in(flags header.TCPFlags, ackno uint32, window uint16, scale int) bool {
	_, v := b.t.incoming(b.hash, tcpHeaderOf(flags, 0, ackno, window, scale), 0)
	return v != forged
}

// judges tells whether the flow is judged, by asking about the far side of the
// number space.
func (b *books) judges() bool {
	a, _ := b.t.find(b.hash)
	return a != nil && !b.in(ack, uint32(a.sent.Load()>>32)+1<<31-1, 0, -1)
}

// want checks the bounds of what is acceptable.
func (b *books) want(t *testing.T, what string, una, window, newest uint32) {
	t.Helper()
	oldest := una - window
	if b.in(ack, newest+1, 0, -1) || b.in(ack, oldest-1, 0, -1) {
		t.Errorf("%s: %#x or %#x is acceptable", what, oldest-1, newest+1)
	}
	if !b.in(ack, oldest, 0, -1) {
		t.Errorf("%s: %#x is not acceptable", what, oldest)
	}
	a, _ := b.t.find(b.hash)
	seen := a.seen.Load()
	if !b.in(ack, newest, 0, -1) {
		t.Errorf("%s: %#x is not acceptable", what, newest)
	}
	a.seen.Store(seen) // asking shall change nothing
}

// iss makes numbers wrap early.
var iss uint32 = 0xfffffff0

// TestLedgerDial has the stack call.
func TestLedgerDial(t *testing.T) {
	b := newBooks()
	b.out(ack, 5, 6, 7, -1) // no account, no harm
	b.out(syn, iss, 0, 0, 9)
	if b.judges() {
		t.Error("judged before the handshake")
	}
	for _, wrong := range []uint32{0, iss, iss + 2} {
		if !b.in(syn|ack, wrong, 0, 3) || b.judges() {
			t.Error("a SYN-ACK for another SYN is netstack's to refuse")
		}
	}
	b.out(rst, 77, 0, 0, -1) // and so it does
	b.in(syn|ack, iss+1, 65535, 10)
	b.out(ack, iss+1, 1, 0, -1)
	b.want(t, "handshake", iss+1, 1<<16, iss+1)
	b.out(ack, iss+1, 1, 1000, -1)
	b.want(t, "data", iss+1, 1<<16, iss+1001)
	b.out(ack, iss+1, 1, 500, -1)
	b.out(ack, iss, 1, 0, -1)
	b.want(t, "sent again", iss+1, 1<<16, iss+1001)
	b.in(ack, iss+301, 1023, -1)
	b.want(t, "acknowledged, and a window", iss+301, 1<<20, iss+1001)
	b.in(ack, iss+201, 5, -1)
	b.want(t, "an old one", iss+301, 1<<20, iss+1001)
	b.in(ack, iss+5000, 0xffff, -1)
	b.want(t, "an unacceptable one", iss+301, 1<<20, iss+1001)
	b.out(syn, iss, 0, 0, 9)
	b.want(t, "the SYN again", iss+301, 1<<20, iss+1001)
	for _, flags := range []header.TCPFlags{syn, syn | ack, rst, rst | ack, 0, fin} {
		if !b.in(flags, iss+70000, 1, -1) {
			t.Errorf("flags %v: refused", flags)
		}
	}
	b.want(t, "what is netstack's", iss+301, 1<<20, iss+1001)
	b.out(ack|fin, iss+1001, 1, 10, -1)
	b.want(t, "FIN", iss+301, 1<<20, iss+1012)
	b.out(rst|ack, iss+90000, 1, 0, -1)
	b.want(t, "reset", iss+301, 1<<20, iss+1012)

	b.out(syn, 5000, 0, 0, 9)
	if b.judges() {
		t.Error("a new flow is judged by what the old one said")
	}
	b.in(syn|ack, 5001, 65535, -1) // a peer that does not scale
	b.in(ack, 5001, 65535, -1)
	b.want(t, "the name again", 5001, 1<<16, 5001)
}

// TestLedgerListen has the peer call.
func TestLedgerListen(t *testing.T) {
	b := newBooks()
	b.in(syn, 0, 65535, 9)
	b.out(syn|ack, iss, 8, 0, 3)
	b.out(syn|ack, iss, 8, 0, 3)
	if !b.in(ack, iss+7, 100, -1) || b.judges() {
		t.Error("judged before the handshake")
	}
	b.out(rst, iss+7, 0, 0, -1)
	b.out(ack, iss+1, 8, 0, -1) // a challenge, still before the handshake
	b.in(ack, iss+1, 2047, -1)
	b.want(t, "handshake", iss+1, 1<<20, iss+1)
	b.out(ack, iss+1, 8, 100, -1)
	b.out(syn|ack, iss, 8, 0, 3)
	b.in(syn, 0, 65535, 1)
	b.want(t, "the SYN-ACK again", iss+1, 1<<20, iss+101)

	// From TIME_WAIT to a new connection. Nothing was heard of its scale, but that
	// of an old SYN.
	b.t.heard[b.hash%ledgerHeard].Store(0)
	b.out(syn|ack, 100000, 8, 0, 3)
	b.in(ack, 100001, 2047, -1)
	b.want(t, "unknown scale", 100001, 2048<<14, 100001)

	// Cookies: no scales.
	b.in(syn, 0, 65535, 9)
	b.out(syn|ack, 200000, 8, 0, -1)
	b.in(ack, 200001, 2047, -1)
	b.want(t, "cookie", 200001, 1<<16, 200001)

	// Two cookies, of which the peer answers the first.
	b.out(syn|ack, 300000, 8, 0, -1)
	b.out(syn|ack, 400000, 8, 0, -1)
	b.in(ack, 300001, 2047, -1)
	b.out(ack, 300001, 8, 100, -1)
	if b.judges() || !b.in(ack, 300101, 1, -1) {
		t.Error("judged by the wrong cookie")
	}
	b.in(ack, 400001, 1, -1)
	b.out(ack, 300101, 8, 100000, -1)
	if b.judges() {
		t.Error("judged by the wrong cookie, later")
	}
	b.out(syn|ack, 500000, 8, 0, -1)
	b.in(ack, 500001, 1, -1)
	b.want(t, "after it", 500001, 1<<16, 500001)
}

// TestLedgerBoth has both ends call at once.
func TestLedgerBoth(t *testing.T) {
	b := newBooks()
	b.out(syn, iss, 0, 0, 9)
	b.in(syn, 0, 65535, 9)
	b.out(syn|ack, iss, 8, 0, 9)
	b.in(ack, iss+1, 2047, -1)
	b.want(t, "ACK", iss+1, 1<<20, iss+1)
	b.out(syn, 7000, 0, 0, 9)
	b.in(syn, 0, 65535, 9)
	b.out(syn|ack, 7000, 8, 0, 9)
	b.in(syn|ack, 7001, 65535, 5)
	b.in(ack, 7001, 4095, -1)
	b.want(t, "SYN-ACK", 7001, 1<<17, 7001)
}

// TestLedgerAnswer has segments answer a SYN-ACK with numbers around the first.
func TestLedgerAnswer(t *testing.T) {
	for _, first := range []uint32{1000, 0, 1, 0xffffffff} {
		b := newBooks()
		segment := func(seq uint32, flags header.TCPFlags, n int) (uint32, verdict) {
			return b.t.incoming(b.hash, tcpHeaderOf(flags, seq, iss+1, 100, -1), n)
		}
		check := func(what string, astrays bool) {
			t.Helper()
			for _, n := range []int{0, 100} {
				for off := int32(-10); off <= 10; off++ {
					want := taken
					if astrays && off != 0 && (n == 0 || off > -cookieSizes && off < cookieSizes) {
						want = astray
					}
					if seq, v := segment(first+uint32(off), ack, n); v != want || v == astray && seq != first {
						t.Errorf("%s: %d bytes, %d from %#x: %v, %#x", what, n, off, first, v, seq)
					}
				}
			}
		}
		b.in(syn, 0, 65535, 9)
		b.out(syn|ack, iss, first, 0, -1)
		check("the SYN-ACK", true)
		if _, v := segment(first+10, ack|fin, 0); v != taken {
			t.Errorf("a FIN that netstack does not mistake: %v", v)
		}
		if _, v := segment(first+1, ack|fin, 0); v != astray {
			t.Errorf("a FIN that netstack mistakes: %v", v)
		}
		again := tcpHeaderOf(syn, first-1, 0, 100, 9)
		if other := tcpHeaderOf(syn, first, 0, 100, 9); !b.t.repeated(b.hash, again) || b.t.repeated(b.hash, other) {
			t.Error("not the repetition, or another SYN, was answered before")
		}
		b.out(ack, iss+1, first, 10, -1)
		check("data", false)
		if b.t.repeated(b.hash, again) {
			t.Error("a SYN of a connection with data was answered before")
		}

		b = newBooks() // both ends call at once
		b.out(syn, iss, 0, 0, 9)
		b.in(syn, 0, 65535, 9)
		b.out(syn|ack, iss, first, 0, 9)
		check("the SYN and the SYN-ACK", true)
	}
}

// TestStrip takes window scales and SACK out of options, whole and not.
func TestStrip(t *testing.T) {
	for _, tc := range [][2][]byte{
		{{}, {}},
		{{2, 4, 5, 160, 4, 2, 8, 10, 3, 3, 4, 2, 3, 3, 4, 2, 1, 3, 3, 9}, {2, 4, 5, 160, 1, 1, 8, 10, 3, 3, 4, 2, 3, 3, 4, 2, 1, 1, 1, 1}},
		{{3, 3, 7, 0, 4, 2, 0, 0}, {1, 1, 1, 0, 4, 2, 0, 0}},
		{{1, 1, 1, 3}, {1, 1, 1, 3}},
		{{4, 2, 3, 3}, {1, 1, 3, 3}},
		{{9, 0, 4, 2}, {9, 0, 4, 2}},
		{{9, 1, 4, 2}, {9, 1, 4, 2}},
	} {
		h := make(header.TCP, header.TCPMinimumSize+len(tc[0]))
		h.Encode(&header.TCPFields{DataOffset: uint8(len(h)), Flags: syn})
		copy(h[header.TCPMinimumSize:], tc[0])
		if strip(h); !bytes.Equal(h[header.TCPMinimumSize:], tc[1]) {
			t.Errorf("%v: %v, want %v", tc[0], h[header.TCPMinimumSize:], tc[1])
		}
	}
}

// TestLedgerFull fills one bucket.
func TestLedgerFull(t *testing.T) {
	b := newBooks()
	flow := func(i int) uint64 { return uint64(i+1)<<20 | 5 }
	begin := func(i int) { b.hash = flow(i); b.out(syn|ack, uint32(i)*1000, 8, 0, -1) }
	confirm := func(i int) { b.hash = flow(i); b.in(ack, uint32(i)*1000+1, 1, -1) }
	judged := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if b.hash = flow(i); !b.judges() {
				t.Errorf("flow %d is not judged", i)
			}
		}
	}
	age := func(epochs int) {
		for range epochs {
			b.l.ticked = time.Time{}
			b.hash = 1 // another bucket
			b.out(syn, rand.Uint32(), 0, 0, -1)
		}
	}
	// All but one place are of established flows.
	for i := range ledgerWays - 1 {
		begin(i)
		confirm(i)
	}
	for i := range 1000 {
		begin(100 + i)
	}
	judged(0, ledgerWays-1)
	// Who is fast enough gets the place, and then there is none.
	begin(7)
	confirm(7)
	for i := range 1000 {
		begin(2000 + i)
	}
	judged(0, ledgerWays)
	if got := b.l.untracked.Load(); got != 1000 {
		t.Errorf("%d flows without an account, want 1000", got)
	}
	if b.hash = flow(2500); b.judges() || !b.in(ack, 99, 1, -1) {
		t.Error("a flow without an account is judged")
	}
	// One that has ended gives way after a while.
	b.hash = flow(3)
	b.out(ack|fin, 3001, 8, 0, -1)
	begin(3000)
	judged(0, ledgerWays)
	age(endedAge)
	begin(3001)
	confirm(3001)
	judged(0, 3)
	judged(4, ledgerWays)
	judged(3001, 3002)
	// And one that says nothing for long; the others have.
	for range idleAge {
		age(1)
		for i := range ledgerWays {
			if b.hash = flow(i); i != 6 {
				b.out(ack, uint32(i)*1000, 8, 0, -1) // keepalive
			}
		}
		b.hash = flow(3001)
		b.out(ack, 3001*1000, 8, 0, -1)
	}
	begin(4000)
	confirm(4000)
	judged(4000, 4001)
	judged(3001, 3002)
	judged(0, 3)
	judged(4, 6)
	judged(7, 8)
	if b.hash = flow(6); b.judges() {
		t.Error("an idle flow has not given way")
	}
	// However long nobody connects, one SYN makes nobody old.
	b.l.ticked = time.Now().Add(-24 * time.Hour)
	before := b.l.untracked.Load()
	begin(5000)
	if got := b.l.untracked.Load(); got != before+1 {
		t.Error("all are old at once")
	}
}

// TestLedgerConcurrent has more flows in one bucket than it has places, each of
// them made, used by two goroutines and ended, again and again. What is honest
// must never be refused, whoever has which place meanwhile.
func TestLedgerConcurrent(t *testing.T) {
	var l ledger
	table := l.ready()
	rounds := 2000
	if testing.Short() || raceEnabled {
		rounds = 200
	}
	var wg sync.WaitGroup
	for i := range 2 * ledgerWays {
		wg.Go(func() {
			hash := uint64(i+1)<<20 | 5
			for range rounds {
				iss := rand.Uint32()
				l.outgoing(table, hash, tcpHeaderOf(syn, iss, 0, 0, 3), 0)
				if _, v := table.incoming(hash, tcpHeaderOf(syn|ack, 0, iss+1, 9, 3), 0); v != taken {
					t.Error("a SYN-ACK was refused")
				}
				sent := make(chan uint32, 4)
				go func() {
					defer close(sent)
					for k := range uint32(50) {
						l.outgoing(table, hash, tcpHeaderOf(ack, iss+1+k*1000, k, 0, -1), 1000)
						sent <- iss + 1 + (k+1)*1000
					}
				}()
				for n := range sent {
					if _, v := table.incoming(hash, tcpHeaderOf(ack, 50, n, 60000, -1), 1); v != taken {
						t.Errorf("%d was sent, and its acknowledgement refused", n)
					}
				}
				l.outgoing(table, hash, tcpHeaderOf(rst, 0, 0, 0, -1), 0)
				l.mu.Lock()
				l.ticked = time.Time{} // time flies
				l.mu.Unlock()
			}
		})
	}
	wg.Wait()
	if table.epoch.Load() < uint32(rounds) {
		t.Error("time stood still: no flow had to give way")
	}
}

// benchPacket returns a packet as netstack hands it on.
func benchPacket(v6 bool, h header.TCP) *gstack.PacketBuffer {
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{ReserveHeaderBytes: 100})
	copy(pkt.TransportHeader().Push(len(h)), h)
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	n := header.IPv4MinimumSize
	if v6 {
		pkt.NetworkProtocolNumber = header.IPv6ProtocolNumber
		n = header.IPv6MinimumSize
	}
	rand.NewChaCha8([32]byte{}).Read(pkt.NetworkHeader().Push(n)) //nolint:errcheck // never fails
	return pkt
}

// BenchmarkScreen is what a received segment costs.
func BenchmarkScreen(b *testing.B) {
	for _, v6 := range []bool{false, true} {
		b.Run(map[bool]string{false: "ipv4", true: "ipv6"}[v6], func(b *testing.B) {
			var g guard
			pkt := benchPacket(v6, tcpHeaderOf(ack, 1, 1000, 1, -1))
			defer pkt.DecRef()
			h := header.TCP(pkt.TransportHeader().Slice())
			t := g.ledger.ready()
			hash, _ := t.hashOfReceived(pkt.NetworkProtocolNumber, pkt.NetworkHeader().Slice(), h)
			g.ledger.outgoing(t, hash, tcpHeaderOf(syn, 999, 0, 0, 3), 0)
			t.incoming(hash, tcpHeaderOf(syn|ack, 0, 1000, 9, 3), 0)
			g.ledger.outgoing(t, hash, tcpHeaderOf(ack, 1000, 0, 0, -1), 1<<30)
			n := uint32(1000)
			b.ReportAllocs()
			for b.Loop() {
				n = 1000 + (n-999)&(1<<30-1)
				h.SetAckNumber(n)
				g.screen(pkt, h, nil)
			}
			if g.forged.Load() != 0 {
				b.Fatal("refused")
			}
		})
	}
}

// BenchmarkSending is what a segment that leaves costs.
func BenchmarkSending(b *testing.B) {
	p := newPairWith(b, pairOptions{verified: true, a: testConfig(addrA, addrA6), b: testConfig(addrB, addrB6)})
	for i, proto := range []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber, header.IPv6ProtocolNumber} {
		b.Run([]string{"ipv4", "ipv6"}[i], func(b *testing.B) {
			from := [2]tcpip.Address{tcpip.AddrFromSlice([]byte{10, 0, 0, 1}), tcpip.AddrFrom16([16]byte{0xfd, 15: 1})}[i]
			to := [2]tcpip.Address{tcpip.AddrFromSlice([]byte{10, 0, 0, 2}), tcpip.AddrFrom16([16]byte{0xfd, 15: 2})}[i]
			r, terr := p.a.ns.FindRoute(nicID, from, to, proto, false)
			if terr != nil {
				b.Fatal(terr)
			}
			defer r.Release()
			var g guard
			pkt := benchPacket(i == 1, tcpHeaderOf(syn, 999, 0, 1, 3))
			defer pkt.DecRef()
			g.sending(r, pkt)
			h := header.TCP(pkt.TransportHeader().Slice())
			h.SetFlags(uint8(ack))
			n := uint32(1000)
			b.ReportAllocs()
			for b.Loop() {
				h.SetSequenceNumber(n)
				g.sending(r, pkt)
				n++
			}
		})
	}
}

// BenchmarkLedger is what of both is the ledger's own.
func BenchmarkLedger(b *testing.B) {
	k := newBooks()
	a, c := [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2}
	k.hash = k.t.hash4(a, c, 77)
	k.out(syn, 999, 0, 0, 3)
	k.in(syn|ack, 1000, 9, 3)
	k.out(ack, 1000, 0, 1<<30, -1)
	h := tcpHeaderOf(ack, 1000, 1000, 9, -1)
	n := uint32(1)
	b.Run("incoming", func(b *testing.B) {
		for b.Loop() {
			n = (n + 1) & (1<<30 - 1)
			h.SetAckNumber(1000 + n)
			k.t.incoming(k.t.hash4(a, c, 77), h, 0)
		}
	})
	b.Run("outgoing", func(b *testing.B) {
		for b.Loop() {
			n++
			h.SetSequenceNumber(n)
			k.l.outgoing(k.t, k.t.hash4(a, c, 77), h, 1)
		}
	})
}
