package stack

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/raced"
)

func messages(n, size int) []Message {
	ms := make([]Message, n)
	for i := range ms {
		ms[i] = Message{Buffers: [][]byte{make([]byte, size)}, OOB: make([]byte, 64)}
	}
	return ms
}

// TestBatch sends datagrams in pieces and reads them in pieces.
func TestBatch(t *testing.T) {
	p := newPair(t)
	for _, host := range []string{addrB, addrB6} {
		u := listenUDP(t, p.b, "udp", net.JoinHostPort(host, "0"))
		c := listenUDP(t, p.a, "udp", ":0")
		out := make([]Message, 5)
		for i := range out {
			whole := bytes.Repeat([]byte{byte('a' + i)}, 7*i)
			out[i] = Message{Buffers: [][]byte{whole[:i], whole[i : 3*i], nil, whole[3*i:]}, Addr: u.LocalAddr()}
		}
		for done := 0; done < len(out); {
			n, err := c.WriteBatch(out[done:], 0)
			if err != nil {
				t.Fatal(err)
			}
			done += n
		}
		in := make([]Message, 3)
		for i := range in {
			in[i].Buffers = [][]byte{make([]byte, 3), make([]byte, 2), make([]byte, 16)}
		}
		for done := 0; done < len(out); {
			n, err := u.ReadBatch(in, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				k := done + i
				whole := bytes.Join(in[i].Buffers, nil)
				want := bytes.Repeat([]byte{byte('a' + k)}, min(7*k, 21))
				flags := 0
				if 7*k > 21 {
					flags = flagCut
				}
				if out[k].N != 7*k || !bytes.Equal(whole[:in[i].N], want) || in[i].Flags != flags || in[i].NN != 0 {
					t.Errorf("message %d: sent %d, %q, flags %#x", k, out[k].N, whole[:in[i].N], in[i].Flags)
				}
				if from := in[i].Addr.(*net.UDPAddr); from.Port != c.LocalAddr().(*net.UDPAddr).Port {
					t.Errorf("message %d: from %v", k, from)
				}
			}
			done += n
		}
	}
}

func TestBatchErrors(t *testing.T) {
	p := newPair(t)
	u := listenUDP(t, p.b, "udp", addrB+":53")
	c := listenUDP(t, p.a, "udp", ":0")
	conn, err := p.a.Dial("udp", addrB+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	dialed := conn.(*UDPConn)
	to := u.LocalAddr()
	one := func(addr net.Addr) []Message { return []Message{{Buffers: [][]byte{{1}}, Addr: addr}} }
	for _, tc := range []struct {
		c     *UDPConn
		ms    []Message
		flags int
		want  error
	}{
		{c, one(nil), 0, syscall.EDESTADDRREQ},
		{c, one(&net.TCPAddr{}), 0, syscall.EINVAL},
		{c, one((*net.UDPAddr)(nil)), 0, syscall.EINVAL},
		{c, one(to), 1, syscall.EOPNOTSUPP},
		{c, []Message{{Buffers: [][]byte{make([]byte, 60_000), make([]byte, 10_000)}, Addr: to}}, 0, syscall.EMSGSIZE},
		{c, []Message{{OOB: make([]byte, 16), Addr: to}}, 0, syscall.EINVAL},
	} {
		n, err := tc.c.WriteBatch(tc.ms, tc.flags)
		if n != 0 {
			t.Errorf("WriteBatch = %d", n)
		}
		wantOp(t, err, "write", tc.want)
	}
	// The first can be sent, the second cannot, and says so when its turn comes.
	ms := append(one(to), one(nil)...)
	if n, err := c.WriteBatch(ms, 0); n != 1 || err != nil {
		t.Errorf("WriteBatch = %d, %v", n, err)
	}
	if n, err := dialed.WriteBatch(one(nil), 0); n != 1 || err != nil {
		t.Errorf("WriteBatch = %d, %v", n, err)
	}
	_, err = u.ReadBatch(messages(1, 1), 1)
	wantOp(t, err, "read", syscall.EOPNOTSUPP)
	for _, f := range []func([]Message, int) (int, error){u.ReadBatch, c.WriteBatch} {
		if n, err := f(nil, 0); n != 0 || err != nil {
			t.Errorf("no messages: %d, %v", n, err)
		}
	}
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err = c.ReadBatch(messages(1, 1), 0)
	wantTimeout(t, err, "read")
	c.Close()
	_, err = c.ReadBatch(messages(1, 1), 0)
	wantOp(t, err, "read", net.ErrClosed)
	_, err = c.WriteBatch(one(to), 0)
	wantOp(t, err, "write", net.ErrClosed)
}

// TestBatchRefused sends batches to a port where nobody listens, of the stack itself: it
// refuses a datagram before the next is sent. The call after the batch tells.
func TestBatchRefused(t *testing.T) {
	s := guardedPair(t).a
	for _, host := range []string{"127.0.0.1", "::1", addrA} {
		conn, err := s.Dial("udp", net.JoinHostPort(host, "9"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := conn.(*UDPConn)
		batch := func() []Message {
			ms := messages(3, 10)
			for i := range ms {
				ms[i].OOB = nil
			}
			return ms
		}
		for range 2 {
			if n, err := c.WriteBatch(batch(), 0); n == 0 || err != nil {
				t.Fatalf("%s: WriteBatch = %d, %v", host, n, err)
			}
			_, err := c.WriteBatch(batch(), 0)
			wantOp(t, err, "write", syscall.ECONNREFUSED)
		}
		if _, err := c.WriteBatch(batch(), 0); err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Read(make([]byte, 1))
		wantOp(t, err, "read", syscall.ECONNREFUSED)
	}
}

// TestBatchWaits fills the send buffer: a batch ends there, and the next waits.
func TestBatchWaits(t *testing.T) {
	p := newPair(t)
	c := listenUDP(t, p.a, "udp", ":0")
	c.SetWriteBuffer(4 << 10)
	p.wa.hold.Store(true)
	ms := messages(100, 1000)
	for i := range ms {
		ms[i].OOB, ms[i].Addr = nil, &net.UDPAddr{IP: net.ParseIP(addrB), Port: 9}
	}
	n, err := c.WriteBatch(ms, 0)
	if n == 0 || n == len(ms) || err != nil {
		t.Fatalf("WriteBatch = %d, %v", n, err)
	}
	p.parkA.drain()
	done := make(chan error, 1)
	go func() {
		_, err := c.WriteBatch(ms, 0)
		done <- err
	}()
	p.parkA.wait(t)
	p.wa.release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestBatchWakeups counts what a batch costs: one wakeup of the device to send
// it, and one wait to read it.
func TestBatchWakeups(t *testing.T) {
	if mechanism.Off(mechanism.Gather) {
		t.Skip("it is gathering that saves the wakeups")
	}
	const batch = 20
	ow := newOverWire(t, overWireOptions{})
	u := listenUDP(t, ow.s[1], "udp", addrB+":53")
	c := listenUDP(t, ow.s[0], "udp", ":0")
	out, in := messages(batch, 100), messages(batch, 100)
	for i := range out {
		out[i].OOB, out[i].Addr = nil, u.LocalAddr()
	}
	exchange := func() {
		if n, err := c.WriteBatch(out, 0); n != batch || err != nil {
			t.Fatalf("WriteBatch = %d, %v", n, err)
		}
		for n := 0; n < batch; {
			k, err := u.ReadBatch(in, 0)
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	}
	exchange() // finds the neighbour
	ow.rest(t)
	before := deviceStats(ow.s[0])[0].Socket.TXWakeups
	if n, err := c.WriteBatch(out, 0); n != batch || err != nil {
		t.Fatalf("WriteBatch = %d, %v", n, err)
	}
	ow.rest(t)
	if n := deviceStats(ow.s[0])[0].Socket.TXWakeups - before; n != 1 {
		t.Errorf("%d wakeups for a batch of %d", n, batch)
	}
	// All of it is there now, and one call takes it.
	if n, err := u.ReadBatch(in, 0); n != batch || err != nil {
		t.Errorf("ReadBatch = %d, %v", n, err)
	}
}

// TestBatchAllocs counts the allocations of a batch that goes to another stack
// and comes back, with control messages.
func TestBatchAllocs(t *testing.T) {
	for _, host := range []string{addrB, addrB6} {
		if host == addrB6 && mechanism.Off(mechanism.FastIP) {
			continue // netstack's own IPv6 layer allocates for each packet
		}
		ow := newOverWire(t, overWireOptions{})
		u := listenUDP(t, ow.s[1], "udp", net.JoinHostPort(host, "53"))
		c := listenUDP(t, ow.s[0], "udp", ":0")
		for _, k := range []*UDPConn{u, c} {
			k.SetControlMessage(controlAll, true)
		}
		const batch = 8
		out, in := messages(batch, 100), messages(batch, 100)
		for i := range out {
			out[i].OOB, out[i].Addr = nil, u.LocalAddr()
		}
		back := make([]Message, batch)
		exchange := func(from, to *UDPConn, out, in []Message) {
			if n, err := from.WriteBatch(out, 0); n != batch || err != nil {
				t.Fatalf("WriteBatch = %d, %v", n, err)
			}
			for n := 0; n < batch; {
				k, err := to.ReadBatch(in[n:], 0)
				if err != nil {
					t.Fatal(err)
				}
				n += k
			}
		}
		round := func() {
			exchange(c, u, out, in)
			for i := range in {
				back[i] = in[i]
				back[i].OOB = in[i].OOB[:in[i].NN] // from the address it was sent to
				if host == addrB {
					back[i].OOB = back[i].OOB[:controlSpace(sizeInfo)]
				}
			}
			exchange(u, c, back, in)
		}
		for range raced.Few(500, 50) {
			round()
		}
		if got := testing.AllocsPerRun(raced.Few(1000, 50), round); got > 0 && !raceEnabled {
			t.Errorf("%s: %v allocations for two batches of %d, want 0", host, got, batch)
		}
	}
}

// TestPeerCache asks for more addresses than there are places.
func TestPeerCache(t *testing.T) {
	var c peerCache
	for round := range 3 {
		for i := range 1000 {
			ap := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), uint16(i))
			if got := c.addr(ap); got.AddrPort() != ap {
				t.Fatalf("round %d: %v for %v", round, got, ap)
			}
		}
	}
	ap := netip.MustParseAddrPort("[fe80::1%eth0]:9")
	if a := c.addr(ap); a.String() != ap.String() || a != c.addr(ap) {
		t.Error(a)
	}
}

// TestBroadcast sends to all hosts on the link, which net allows on each socket.
func TestBroadcast(t *testing.T) {
	p := newPair(t)
	u := listenUDP(t, p.b, "udp", ":53")
	u4 := listenUDP(t, p.b, "udp4", addrB+":54")
	c := listenUDP(t, p.a, "udp", ":0")
	var left atomic.Int32
	count := func(*gstack.PacketBuffer) { left.Add(1) }
	p.wa.saw.Store(&count)
	for i, to := range []string{"255.255.255.255", "10.0.0.255"} {
		text := fmt.Sprint("hello ", i)
		if _, err := c.WriteTo([]byte(text), &net.UDPAddr{IP: net.ParseIP(to), Port: 53}); err != nil {
			t.Fatalf("to %s: %v", to, err)
		}
		b := make([]byte, 20)
		n, from, err := u.ReadFrom(b)
		if string(b[:n]) != text || err != nil || from.(*net.UDPAddr).IP.String() != addrA {
			t.Errorf("to %s: %q from %v, %v", to, b[:n], from, err)
		}
		// Who is bound to an address does not get it, as with Linux.
		if _, err := c.WriteTo([]byte(text), &net.UDPAddr{IP: net.ParseIP(to), Port: 54}); err != nil {
			t.Fatalf("to %s: %v", to, err)
		}
	}
	c.WriteTo([]byte("last"), u4.LocalAddr())
	b := make([]byte, 20)
	if n, _, err := u4.ReadFrom(b); string(b[:n]) != "last" || err != nil {
		t.Errorf("bound: %q, %v", b[:n], err)
	}
	if n := left.Load(); n != 5 {
		t.Errorf("%d packets have left, want 5", n)
	}
}
