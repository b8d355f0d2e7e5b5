package stack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/afxnet/afxnet/internal/hostile"
	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/umem"
)

var hostileFrames = flag.Int("afxnet.hostile", 0, "number of frames of TestHostile; 0 is some 10 seconds' worth")

// A siege is a stack with established flows to an honest peer, and an attacker
// on the same link.
type siege struct {
	*overWire
	gen   *hostile.Generator
	rng   *rand.Rand
	flows []*besieged

	mu   sync.Mutex // guards seen
	seen map[tuple]*[2]sequence

	injected, bad, strays uint64
	resets                int
	reached               uint64 // of flows that are gone
	class                 [hostile.Classes]uint64
	peak                  uint64 // heap in use after a collection, in bytes
}

// besieged is a flow: at is the target's end.
type besieged struct {
	tcp      bool
	at, peer net.Conn
	reset    bool // a segment that may end it was sent
	spare    bool // may be ended
	host     string
	inbound  bool
}

// sequence is what one end of a flow has said last.
type sequence struct {
	max, ack uint32
	window   uint32
	scale    uint8
}

// tuple names a flow of the target.
type tuple struct {
	peer netip.AddrPort
	port uint16 // the target's
}

// watch notes the sequence numbers of honest segments.
func (s *siege) watch(dir wire.Dir, frame []byte) wire.Verdict {
	var info packet.Info
	if packet.Parse(frame, &info) != packet.OK || !info.Kind.IsTCP() {
		return wire.Pass
	}
	at, n, port, own := int(info.L3)+12, 4, info.SrcPort, info.DstPort
	if info.Kind == packet.TCP6 {
		at, n = int(info.L3)+8, 16
	}
	if dir == wire.From0 {
		at, port, own = at+n, info.DstPort, info.SrcPort
	}
	a, _ := netip.AddrFromSlice(frame[at : at+n])
	s.mu.Lock()
	defer s.mu.Unlock()
	key := tuple{netip.AddrPortFrom(a, port), own}
	if info.Flags&(packet.SYN|packet.ACK) == packet.SYN {
		s.seen[key] = new([2]sequence)
	}
	both := s.seen[key]
	if both == nil {
		return wire.Pass // what the target answers to the attacker's segments
	}
	q := &both[dir]
	end := info.Seq + uint32(info.PayloadLen())
	if info.Flags&(packet.SYN|packet.FIN) != 0 {
		end++
	}
	if info.Flags&packet.SYN != 0 {
		q.max = end
		q.scale = scaleOf(frame[info.L4+20 : info.Payload])
	}
	if int32(end-q.max) > 0 {
		q.max = end
	}
	if info.Flags&packet.ACK != 0 {
		q.ack, q.window = info.Ack, uint32(info.Window)<<q.scale
	}
	return wire.Pass
}

// scaleOf returns the window scale of a SYN's options.
func scaleOf(o []byte) uint8 {
	for len(o) > 1 && o[0] != 0 {
		if o[0] == 1 {
			o = o[1:]
			continue
		}
		if o[0] == 3 && len(o) > 2 {
			return o[2]
		}
		if o[1] < 2 || int(o[1]) > len(o) {
			break
		}
		o = o[o[1]:]
	}
	return 0
}

const hostileListen = 7000

func laySiege(t *testing.T, seed uint64) *siege {
	s := &siege{rng: rand.New(rand.NewPCG(seed, 1)), seen: make(map[tuple]*[2]sequence)}
	o := overWireOptions{wire: wire.Config{Seed: seed}, forged: true}
	for i := range o.wire.Faults {
		o.wire.Faults[i].Filter = s.watch
	}
	for i := range o.config {
		o.config[i].Profile = ProfileLAN
		o.config[i].Device.NoACKHold = true // what was said last is on the wire
	}
	s.overWire = newOverWire(t, o)
	l, err := s.s[0].Listen("tcp", fmt.Sprintf(":%d", hostileListen))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	idle, err := s.s[0].ListenPacket("udp", ":7001")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { idle.Close() })
	for i := range 20 {
		b := &besieged{tcp: true, spare: i >= 16, host: []string{addrB, addrB6}[i%2], inbound: i/2%2 == 1}
		s.connect(t, b)
		s.flows = append(s.flows, b)
	}
	for i := range 4 {
		b := &besieged{host: []string{addrB, addrB6}[i%2]}
		s.connect(t, b)
		s.flows = append(s.flows, b)
	}
	s.gen = hostile.New(seed, hostile.Link{
		Target: [6]byte(s.w.Port(0).MAC()), Peer: [6]byte(s.w.Port(1).MAC()), MTU: 1500, Listen: hostileListen,
	}, s.state(t))
	return s
}

// connect makes the two ends of a flow.
func (s *siege) connect(t *testing.T, b *besieged) {
	t.Helper()
	from, to, host := s.s[0], s.s[1], b.host
	if b.inbound {
		from, to = to, from
		host = map[string]string{addrB: addrA, addrB6: addrA6}[host]
	}
	if !b.tcp {
		u := listenUDP(t, to, "udp", net.JoinHostPort(host, "0"))
		c, err := from.Dial("udp", u.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		b.at, b.peer = c, u
		t.Cleanup(func() { b.at.Close(); b.peer.Close() })
		return
	}
	l, err := to.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if b.at, err = from.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b.peer, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	if b.inbound {
		b.at, b.peer = b.peer, b.at
	}
	t.Cleanup(func() { b.at.Close(); b.peer.Close() })
}

// state waits until both ends of every flow have acknowledged everything, and
// returns the flows for the attacker.
func (s *siege) state(t *testing.T) (flows []hostile.Flow) {
	t.Helper()
	for _, b := range s.flows {
		src := netip.MustParseAddrPort(b.peer.LocalAddr().String())
		f := hostile.Flow{Src: src, Dst: netip.MustParseAddrPort(b.at.LocalAddr().String()), TCP: b.tcp, Sacrifice: b.spare}
		if b.tcp {
			key := tuple{src, f.Dst.Port()}
			err := poll(func() error {
				s.mu.Lock()
				defer s.mu.Unlock()
				q := s.seen[key]
				if q == nil || q[0].ack != q[1].max || q[1].ack != q[0].max {
					return fmt.Errorf("%+v: not at rest: %+v", key, q)
				}
				f.Next, f.SendMax, f.Window, f.Offered = q[0].ack, q[0].max, q[0].window, 1<<16<<q[1].scale
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		flows = append(flows, f)
	}
	return flows
}

// poll calls f until it has no error, for 20 seconds at most.
func poll(f func() error) (err error) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); runtime.Gosched() {
		if err = f(); err == nil {
			break
		}
	}
	return err
}

// attack injects n frames, and has the kernel lie about descriptors in between.
func (s *siege) attack(t *testing.T, n int) {
	t.Helper()
	const burst = 256 // a quarter of the RX ring
	port := s.w.Port(0)
	for i := range n {
		f := s.gen.Next()
		s.class[f.Class]++
		if f.Reset {
			s.flows[f.Flow].reset = true
		}
		port.Inject(f.Data)
		s.injected++
		if i%burst != burst-1 && i != n-1 {
			continue
		}
		s.lie(port.Queue(0))
		want := s.w.Stats()[wire.From1]
		if err := poll(func() error {
			if got := received(s.s[0]); got < want.Delivered {
				return fmt.Errorf("%d frames delivered, %d counted", want.Delivered, got)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	// Netstack's processors are done with them when they can pause. Before that,
	// no flow may move: an acknowledgement of what is sent only later would be
	// as good as the peer's.
	s.s[0].ns.Pause()
	s.s[0].ns.Resume()
}

// lie pushes descriptors and completions that cannot be true.
func (s *siege) lie(q *wire.Queue) {
	memory := umem.Addr(4096 * 2048)
	for range 4 {
		d := umem.Desc{Addr: memory + umem.Addr(s.rng.Uint64N(1<<40)), Len: s.rng.Uint32()}
		switch s.rng.IntN(4) {
		case 0:
			d = umem.Desc{Addr: umem.Addr(s.rng.Uint64N(uint64(memory)))&^2047 + 2000, Len: 49 + s.rng.Uint32N(1<<31)}
		case 1:
			d = umem.Desc{Addr: umem.Addr(s.rng.Uint64()) | 1<<63, Len: 60}
		case 2:
			d = umem.Desc{Addr: umem.Addr(s.rng.Uint64N(uint64(memory)))}
		}
		if q.PushRX(d) {
			s.bad++
		}
		if q.PushCompletion(memory + umem.Addr(s.rng.Uint64N(1<<50))) {
			s.strays++
		}
	}
}

// verify sends data through every flow, both ways.
func (s *siege) verify(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	for i, b := range s.flows {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if !b.tcp {
				if err := exchangeUDP(b); err != nil {
					t.Errorf("UDP flow %d: %v", i, err)
				}
				return
			}
			err := exchangeTCP(b.at, b.peer, uint64(i)+s.injected)
			switch {
			case err != nil && b.reset && errors.Is(err, syscall.ECONNRESET):
				b.at.SetDeadline(time.Time{}) //nolint:errcheck // it is over
				s.mu.Lock()
				s.resets++
				s.mu.Unlock()
			case err != nil:
				var info tcpip.TCPInfoOption
				b.at.(*TCPConn).ep.GetSockOpt(&info) //nolint:errcheck // only to tell
				t.Errorf("TCP flow %d, %v to %v: %v; %+v", i, b.at.LocalAddr(), b.peer.LocalAddr(), err, info)
			case b.reset:
				t.Errorf("TCP flow %d lives, although it was reset", i)
			}
		}()
	}
	wg.Wait()
	for _, b := range s.flows {
		if b.reset {
			s.reached += reached(b)
			b.at.Close()
			b.peer.(*TCPConn).SetLinger(0) //nolint:errcheck // to be gone
			b.peer.Close()
			b.reset = false
			s.connect(t, b)
		}
	}
}

// patience is for what takes a retransmission or two.
const patience = 60 * time.Second

// exchangeTCP sends random bytes both ways and compares.
func exchangeTCP(a, b net.Conn, seed uint64) error {
	errs := make(chan error, 4)
	sides := [2]net.Conn{a, b}
	var data [2][]byte
	for i := range data {
		data[i] = make([]byte, 3000)
		var key [32]byte
		binary.BigEndian.PutUint64(key[:], seed)
		key[8] = byte(i)
		rand.NewChaCha8(key).Read(data[i]) //nolint:errcheck // never fails
	}
	for i, c := range sides {
		c.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // it is open
		go func() {
			_, err := c.Write(data[i])
			errs <- err
		}()
		go func() {
			got := make([]byte, len(data[1-i]))
			_, err := io.ReadFull(c, got)
			if err == nil && !bytes.Equal(got, data[1-i]) {
				err = errors.New("the data is not what was sent")
			}
			if err != nil {
				// The others need not wait for their deadline.
				a.SetDeadline(time.Unix(1, 0)) //nolint:errcheck // it is over
				b.SetDeadline(time.Unix(1, 0)) //nolint:errcheck // it is over
			}
			errs <- err
		}()
	}
	var all []error
	for range 4 {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// exchangeUDP sends a message there and back. Whatever else is in the queues is
// the attacker's; a message that is lost is sent again, as one does.
func exchangeUDP(b *besieged) error {
	tag := binary.BigEndian.AppendUint64([]byte("honest message "), rand.Uint64())
	at, peer := b.at.(*UDPConn), b.peer.(*UDPConn)
	to := netip.MustParseAddrPort(at.LocalAddr().String())
	if err := await(peer, tag, func() error { _, err := at.Write(tag); return err }); err != nil {
		return fmt.Errorf("to the peer: %w", err)
	}
	if err := await(at, tag, func() error { _, err := peer.WriteToUDPAddrPort(tag, to); return err }); err != nil {
		return fmt.Errorf("from the peer: %w", err)
	}
	return nil
}

// await calls send until c receives tag. Errors that an ICMP message, true or
// false, may have caused are passed over: each is told once.
func await(c *UDPConn, tag []byte, send func() error) error {
	buf := make([]byte, 2048)
	return poll(func() error {
		send()                                         //nolint:errcheck // see above
		c.SetReadDeadline(time.Now().Add(time.Second)) //nolint:errcheck // it is open
		for {
			n, _, err := c.ReadFromUDPAddrPort(buf)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
				return err
			case err == nil && bytes.Equal(buf[:n], tag):
				return nil
			}
		}
	})
}

// reached returns how many packets netstack has handed to the target's end.
func reached(b *besieged) uint64 {
	if b.tcp {
		return b.at.(*TCPConn).ep.Stats().(*tcp.Stats).SegmentsReceived.Value()
	}
	offered, _ := b.at.(*UDPConn).udp.in.counts()
	return offered
}

func (s *siege) reachedAll() (n uint64) {
	for _, b := range s.flows {
		n += reached(b)
	}
	return n + s.reached
}

// heap returns the bytes in use after a collection.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools give up what they keep in the second one
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
