package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/afxnet/afxnet/internal/hostile"
	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/wire"
)

// A forger knows everything of flows but what they have acknowledged.
type forger struct {
	*siege
	flow     hostile.Flow
	answers  chan packet.Info // pure ACKs of the target on the flow
	id       uint16           // of the last IPv4 packet: in order, for GRO
	expected uint64           // segments that must have been refused
}

// newForger makes one flow, called by the target or by its peer.
func newForger(t *testing.T, v6, inbound bool) *forger {
	f := &forger{answers: make(chan packet.Info, 1024)}
	f.siege = &siege{rng: rand.New(rand.NewPCG(1, 1)), seen: make(map[tuple]*[2]sequence)}
	o := overWireOptions{forged: true}
	o.wire.Faults[0].Filter = func(d wire.Dir, frame []byte) wire.Verdict {
		var info packet.Info
		if packet.Parse(frame, &info) == packet.OK && info.Kind.IsTCP() && info.Flags == packet.ACK && info.PayloadLen() == 0 {
			select {
			case f.answers <- info:
			default:
			}
		}
		return f.watch(d, frame)
	}
	o.wire.Faults[1].Filter = f.watch
	for i := range o.config {
		o.config[i].Device.NoACKHold = true
	}
	f.overWire = newOverWire(t, o)
	b := &besieged{tcp: true, host: addrB, inbound: inbound}
	if v6 {
		b.host = addrB6
	}
	f.connect(t, b)
	f.flows = []*besieged{b}
	if err := exchangeTCP(b.at, b.peer, 1); err != nil {
		t.Fatal(err)
	}
	b.at.SetDeadline(time.Time{}) //nolint:errcheck // it is open
	f.refresh(t)
	return f
}

// refresh looks at the flow's numbers, and forgets answers.
func (f *forger) refresh(t *testing.T) {
	t.Helper()
	f.flow = f.state(t)[0]
	f.settle(t)
	for len(f.answers) > 0 {
		<-f.answers
	}
}

// settle waits until both ends are done with what is under way. The last
// acknowledgement may have waited for so long at either that the other has sent
// something again, which is answered: that too is over then.
func (f *forger) settle(t *testing.T) {
	t.Helper()
	for _, i := range []int{1, 0, 1, 0} {
		f.taken(t, i)
		f.s[i].dev.Audit() // takes the poll lock
		f.s[i].ns.Pause()  // waits for netstack's goroutines
		f.s[i].ns.Resume()
	}
	if err := f.w.WaitIdle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// taken waits until a stack has received what it was sent.
func (f *forger) taken(t *testing.T, i int) {
	t.Helper()
	if err := f.w.WaitIdle(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := f.w.Stats()[1-i].Delivered
	if err := poll(func() error {
		if got := received(f.s[i]); got < want {
			return fmt.Errorf("stack %d: %d frames delivered, %d counted", i, want, got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// frames returns a segment of the flow in Ethernet frames: in IPv4 fragments if
// pieces is more than 1.
func (f *forger) frames(seq, ackno uint32, flags header.TCPFlags, data []byte, pieces int) (frames [][]byte) {
	src, dst := f.flow.Src.Addr().AsSlice(), f.flow.Dst.Addr().AsSlice()
	s := make([]byte, 20+len(data))
	header.TCP(s).Encode(&header.TCPFields{SrcPort: f.flow.Src.Port(), DstPort: f.flow.Dst.Port(), SeqNum: seq, AckNum: ackno,
		DataOffset: 20, Flags: flags, WindowSize: 4000})
	copy(s[20:], data)
	putSum(src, dst, 6, s, 16)
	if len(src) == 16 {
		return [][]byte{ipFrame(f.w, src, dst, 6, s)}
	}
	ours, theirs := f.w.Port(0).MAC(), f.w.Port(1).MAC()
	f.id++
	size := (len(s)/pieces + 7) &^ 7
	for at := 0; at < len(s); at += size {
		part := s[at:min(at+size, len(s))]
		frames = append(frames, frameOf(ours, theirs, 0x0800, ip4(src, dst, 6, f.id, at, len(part), at+size < len(s)), part))
	}
	return frames
}

// forge delivers frames and waits until the target is done with them.
func (f *forger) forge(t *testing.T, frames ...[]byte) {
	t.Helper()
	for _, frame := range frames {
		if !f.w.Port(0).Inject(frame) {
			t.Fatal("not delivered")
		}
	}
	want := f.w.Stats()[wire.From1].Delivered
	if err := poll(func() error {
		if got := received(f.s[0]); got < want {
			return fmt.Errorf("%d frames delivered, %d counted", want, got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	f.s[0].ns.Pause()
	f.s[0].ns.Resume()
}

// silent fails if there is anything to read at the target, or its end.
func (f *forger) silent(t *testing.T, what string) {
	t.Helper()
	if n, terr := f.flows[0].at.(*TCPConn).ep.Read(io.Discard, tcpip.ReadOptions{}); !isWouldBlock(terr) {
		t.Fatalf("%s: %d bytes were delivered, %v", what, n.Count, terr)
	}
	if got := f.s[0].guard.forged.Load(); got != f.expected {
		t.Fatalf("%s: %d segments were refused, want %d", what, got, f.expected)
	}
}

// wrongACKs returns numbers that the peer cannot acknowledge, from outside the
// window that it can have offered at most.
func (f *forger) wrongACKs() []uint32 {
	nxt, most := f.flow.SendMax, f.flow.Offered
	all := []uint32{nxt + 1, nxt + 1000, nxt + 1<<20, nxt + 1<<31 - 1, nxt + 1<<31, nxt - most - 1, nxt - most - 1<<20}
	for range 4 {
		all = append(all, nxt+1+f.rng.Uint32N(1<<31), nxt-most-1-f.rng.Uint32N(1<<30))
	}
	return all
}

// judged returns how many flows of a stack are judged.
func judged(s *Stack) (n int) {
	t := s.guard.ledger.ready()
	for i := range t.buckets {
		for k := range t.buckets[i].tags {
			if t.buckets[i].tags[k].Load() != 0 && stateOf(t.buckets[i].accounts[k].seen.Load()) == stateOpen {
				n++
			}
		}
	}
	return n
}

// TestForged sends data and FINs within the window with every wrong
// acknowledgement there is, on flows that either end has called.
func TestForged(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, inbound := range []bool{false, true} {
			t.Run(fmt.Sprintf("v6=%t inbound=%t", v6, inbound), func(t *testing.T) {
				f := newForger(t, v6, inbound)
				evil := make([]byte, 700)
				for round := range 3 {
					for i, wrong := range f.wrongACKs() {
						for _, seq := range []uint32{f.flow.Next, f.flow.Next + 100, f.flow.Next - 100} {
							what := fmt.Sprintf("round %d: ACK %d, %d from SND.NXT, at %d from RCV.NXT", round, i, int32(wrong-f.flow.SendMax), int32(seq-f.flow.Next))
							f.forge(t, f.frames(seq, wrong, ack, evil, 1)...)
							f.forge(t, f.frames(seq, wrong, ack|header.TCPFlagPsh|fin, evil, 1)...)
							f.forge(t, f.frames(seq, wrong, ack|fin, nil, 1)...)
							f.forge(t, f.frames(seq, wrong, ack, nil, 1)...)
							f.expected += 4
							f.silent(t, what)
						}
					}
					// A train, which GRO makes into one packet.
					wrong := f.flow.SendMax + 1<<30
					for merged := false; !merged; {
						frames, packets, forged := received(f.s[0]), deviceStats(f.s[0])[0].RXPackets, f.s[0].guard.forged.Load()
						for k := range 20 {
							f.w.Port(0).Inject(f.frames(f.flow.Next+uint32(700*k), wrong, ack, evil, 1)[0])
						}
						f.forge(t)
						frames, packets = received(f.s[0])-frames, deviceStats(f.s[0])[0].RXPackets-packets
						f.expected = forged + packets
						f.silent(t, "a train")
						merged = packets < frames || mechanism.Off(mechanism.GRO)
					}
					if !v6 {
						f.forge(t, f.frames(f.flow.Next, wrong, ack, evil, 3)...)
						f.expected++
						f.silent(t, "in fragments")
						bad := f.frames(f.flow.Next, wrong, ack, evil, 3)
						bad[1][50] ^= 1 // refused for its checksum
						f.forge(t, bad...)
						f.silent(t, "in fragments, spoilt")
					}
					if err := exchangeTCP(f.flows[0].at, f.flows[0].peer, uint64(round)); err != nil {
						t.Fatal(err)
					}
					f.flows[0].at.SetDeadline(time.Time{}) //nolint:errcheck // it is open
					f.refresh(t)
				}
				// The same with a right number is as good as the peer's: so what was
				// refused was refused for its number.
				f.forge(t, f.frames(f.flow.Next, f.flow.SendMax, ack, evil, 1)...)
				if n, err := io.ReadFull(f.flows[0].at, make([]byte, len(evil))); err != nil {
					t.Errorf("a right number: %d bytes, %v", n, err)
				}
				if got := f.s[0].guard.forged.Load(); got != f.expected {
					t.Errorf("a right number was refused")
				}
			})
		}
	}
}

// TestChallenge has one segment with a wrong acknowledgement be answered with a
// right one.
func TestChallenge(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, flags := range []header.TCPFlags{ack, ack | fin} {
			for i := range 7 {
				f := newForger(t, v6, i%2 == 1)
				wrong := f.wrongACKs()[i]
				f.forge(t, f.frames(f.flow.Next, wrong, flags, []byte("evil"), 1)...)
				select {
				case a := <-f.answers:
					if a.Seq != f.flow.SendMax || a.Ack != f.flow.Next {
						t.Errorf("v6=%t flags=%v: ACK %d of %d, want %d of %d", v6, flags, a.Seq, a.Ack, f.flow.SendMax, f.flow.Next)
					}
				case <-time.After(patience):
					t.Fatalf("v6=%t flags=%v: no answer to ACK %d", v6, flags, i)
				}
				f.expected = 1
				f.silent(t, "one segment")
				// And no more answers than one in half a second, however many come.
				began := time.Now()
				for range 200 {
					f.forge(t, f.frames(f.flow.Next, wrong, flags, []byte("evil"), 1)...)
				}
				if got, most := len(f.answers), int(time.Since(began)/(500*time.Millisecond))+1; got > most {
					t.Errorf("%d answers in %v", got, time.Since(began))
				}
				f.expected += 200
				f.silent(t, "many segments")
				if err := exchangeTCP(f.flows[0].at, f.flows[0].peer, 1); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestForgedUnderFlood fills the ledger with half-open connections: an
// established flow is still judged, and so is a new one.
func TestForgedUnderFlood(t *testing.T) {
	f := newForger(t, false, true)
	l, table := &f.s[0].guard.ledger, f.s[0].guard.ledger.table.Load()
	for i := range uint64(ledgerBuckets) {
		for range 4 * ledgerWays {
			l.outgoing(table, rand.Uint64()/ledgerBuckets*ledgerBuckets+i, tcpHeaderOf(syn|ack, rand.Uint32(), 1, 1, 3), 0)
		}
	}
	for i := range table.buckets {
		for k := range table.buckets[i].tags {
			if table.buckets[i].tags[k].Load() == 0 {
				t.Fatal("the ledger is not full")
			}
		}
	}
	ln, err := f.s[0].Listen("tcp", fmt.Sprintf(":%d", hostileListen))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	n := 10_000
	if testing.Short() || raceEnabled {
		n = 2000
	}
	a4 := netip.MustParseAddr(addrA).AsSlice()
	for i := range n {
		ip := tcp4([]byte{10, 0, 0, byte(3 + i%250)}, a4, uint16(1024+i/250), hostileListen, uint32(i)*7919, 2)
		f.w.Port(0).Inject(frameOf(f.w.Port(0).MAC(), f.w.Port(1).MAC(), 0x0800, ip))
		if i%256 == 255 || i == n-1 {
			f.forge(t)
		}
	}
	check := func(what string) {
		t.Helper()
		f.refresh(t)
		for _, wrong := range f.wrongACKs() {
			f.forge(t, f.frames(f.flow.Next, wrong, ack|fin, []byte("evil"), 1)...)
			f.expected++
			f.silent(t, what)
		}
		if err := exchangeTCP(f.flows[0].at, f.flows[0].peer, 3); err != nil {
			t.Fatal(err)
		}
	}
	check("an old flow")
	b := &besieged{tcp: true, host: addrB}
	f.connect(t, b)
	if err := exchangeTCP(b.at, b.peer, 4); err != nil {
		t.Fatal(err)
	}
	f.flows = []*besieged{b}
	check("a new flow")
}

// TestChurn makes connections with the same few ports, ended in every way. The
// check that nothing was refused is in overWire.close.
func TestChurn(t *testing.T) {
	rounds := 300
	if testing.Short() || raceEnabled {
		rounds = 60
	}
	for _, host := range []string{addrB, addrB6} {
		ow := newOverWire(t, overWireOptions{reused: true})
		l, err := ow.s[1].Listen("tcp", net.JoinHostPort(host, "80"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		from := netip.AddrPortFrom(netip.MustParseAddr(map[string]string{addrB: addrA, addrB6: addrA6}[host]), 0)
		var wg sync.WaitGroup
		for i := range 4 {
			from := net.TCPAddrFromAddrPort(netip.AddrPortFrom(from.Addr(), uint16(5000+i)))
			to := l.Addr().(*net.TCPAddr)
			wg.Add(1)
			go func() {
				defer wg.Done()
				for k := range rounds {
					err := poll(func() error { return visit(ow.s[0], from, to, k) })
					if err != nil {
						t.Errorf("connection %d from %v: %v", k, from, err)
						return
					}
				}
			}()
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()      // the first to close, mostly: TIME_WAIT is here
					io.CopyN(c, c, 1000) //nolint:errcheck // the other end tells
				}()
			}
		}()
		wg.Wait()
		for i, s := range ow.s {
			if got := s.guard.ledger.untracked.Load(); got != 0 {
				t.Errorf("stack %d: %d flows without an account", i, got)
			}
		}
	}
}

// visit connects, exchanges some data and ends the connection, in a way that k
// chooses.
func visit(s *Stack, from, to *net.TCPAddr, k int) error {
	c, err := s.DialTCP(context.Background(), "tcp", from, to)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // it is open
	if k%5 == 4 {
		return c.SetLinger(0)
	}
	b := make([]byte, 1000)
	if _, err := c.Write(b); err != nil {
		return err
	}
	if k%5 == 3 {
		return c.SetLinger(0) // with data under way
	}
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if n, err := c.Read(b); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("%d bytes, %w, want EOF", n, err)
	}
	return nil
}

// TestLedgerOwnAddress has the stack talk to itself: its segments are on no wire, and
// both ends' accounts in one ledger.
func TestLedgerOwnAddress(t *testing.T) {
	ow := newOverWire(t, overWireOptions{alone: true})
	for _, host := range []string{addrA, addrA6} {
		l, err := ow.s[0].Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := ow.s[0].Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := bothWays(c.(*TCPConn), s.(*TCPConn), 1, 1<<20); err != nil {
			t.Error(err)
		}
		c.Close()
		s.Close()
	}
}
