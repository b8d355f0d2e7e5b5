package guest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// echoPort is where the reflectors answer, as everywhere else in the lab's
// networks.
const echoPort = 7

// flows is how many addresses the raw sockets have in each family: the NIC puts
// packets on queues by address.
const flows = 16

// raw is a socket for each queue of the AF_XDP side, and the program.
type raw struct {
	g       *ground
	prog    *xsk.Program
	sockets []*xsk.Socket
	addrs   []netip.Addr
}

// openRaw binds sockets as cfg says, with an address of each kind for each flow.
func openRaw(t *testing.T, g *ground, cfg xsk.Config) *raw {
	t.Helper()
	r := &raw{g: g}
	cfg.Interface = lab.HostDevice
	err := g.Host.Do(func() (err error) {
		if r.prog, err = xsk.LoadProgram(xsk.ProgramConfig{Interface: cfg.Interface, Queues: g.queues, Mode: xsk.AttachNative}); err != nil {
			return err
		}
		t.Cleanup(func() {
			if err := r.prog.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := r.prog.Attach(); err != nil {
			return err
		}
		for q := range g.queues {
			cfg.Queue = uint32(q)
			s, err := xsk.Open(cfg)
			if err != nil {
				return err
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			if cfg.Bind == xsk.BindZeroCopy && !s.ZeroCopy() {
				t.Errorf("queue %d: the bind is not a zero-copy one", q)
			}
			r.sockets = append(r.sockets, s)
			if err := r.prog.AddSocket(s.Queue(), s.FD()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	g.running(t)
	ifc, err := g.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	for i := range flows {
		v4, v6 := g.StackV4.Addr().As4(), g.StackV6.Addr().As16()
		v4[3], v6[15] = byte(100+i), byte(100+i)
		for _, a := range []netip.Addr{netip.AddrFrom4(v4), netip.AddrFrom16(v6)} {
			if err := r.prog.AddAddress(a); err != nil {
				t.Fatal(err)
			}
			// Nobody here answers ARP or ND.
			if err := g.Peer.SetNeighbor(a, ifc.MAC); err != nil {
				t.Fatal(err)
			}
			r.addrs = append(r.addrs, a)
		}
	}
	return r
}

// reflect sends each UDP datagram of a socket back until the socket is closed:
// the frame with both ends exchanged, which leaves the checksum right.
func reflect(s *xsk.Socket, frames *atomic.Uint64) error {
	rx, tx := s.RX(), s.TX()
	descs := make([]umem.Desc, 64)
	for {
		rx.Refill()
		tx.Reclaim()
		n := rx.Receive(descs)
		for _, d := range descs[:n] {
			from := s.Region().Bytes(d)
			if !swap(from) || tx.Free(1) == 0 {
				continue
			}
			a, chunk, ok := tx.Frame()
			if !ok {
				continue
			}
			if !tx.Queue(a, copy(chunk, from)) {
				tx.Cancel(a)
				continue
			}
			frames.Add(1)
		}
		rx.Recycle(descs[:n])
		again := time.Duration(0)
		if tx.Flush() != 0 || tx.Lent() != 0 {
			again = time.Millisecond // nothing tells of a completion
		}
		if n != 0 {
			continue
		}
		if err := s.Wait(false, again); err != nil {
			return nil // closed
		}
	}
}

// swap exchanges sender and receiver of a UDP datagram in an Ethernet frame, and
// reports whether it is one.
func swap(f []byte) bool {
	if len(f) < 42 {
		return false
	}
	exchange := func(a, b, n int) {
		for i := range n {
			f[a+i], f[b+i] = f[b+i], f[a+i]
		}
	}
	switch binary.BigEndian.Uint16(f[12:]) {
	case 0x0800:
		if f[14] != 0x45 || f[23] != 17 {
			return false
		}
		exchange(26, 30, 4)
		exchange(34, 36, 2)
	case 0x86dd:
		if len(f) < 62 || f[20] != 17 {
			return false
		}
		exchange(22, 38, 16)
		exchange(54, 56, 2)
	default:
		return false
	}
	exchange(0, 6, 6)
	return true
}

// window is how many datagrams are under way at once: less than any ring.
const window = 16

// reflected sends datagrams of all lengths that fit an MTU, from a kernel socket
// of the peer to all addresses, and wants each back byte for byte.
func reflected(g *ground, addrs []netip.Addr, count, mtu int) error {
	var conns [2]net.PacketConn
	for i, a := range []netip.Addr{g.Peer.V4.Addr(), g.Peer.V6.Addr()} {
		c, err := g.Peer.ListenPacket("udp", hostPort(a, 0))
		if err != nil {
			return err
		}
		defer c.Close()
		conns[i] = c
	}
	random := rand.New(rand.NewPCG(1, 2))
	back := make([]byte, mtu+1)
	for sent := 0; sent < count; sent += window {
		for i, c := range conns {
			want := make(map[uint32][]byte, window)
			for k := range window {
				a := addrs[(2*(sent+k)+i)%len(addrs)]
				header := 28
				if a.Is6() {
					header = 48
				}
				msg := make([]byte, 4+random.IntN(mtu-header-4+1))
				if k == 0 {
					msg = make([]byte, mtu-header)
				}
				for j := range msg {
					msg[j] = byte(random.Uint32())
				}
				number := uint32(sent + k)
				binary.BigEndian.PutUint32(msg, number)
				want[number] = msg
				if _, err := c.WriteTo(msg, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, echoPort))); err != nil {
					return err
				}
			}
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				return err
			}
			for len(want) > 0 {
				n, from, err := c.ReadFrom(back)
				if err != nil {
					return fmt.Errorf("datagrams %d to %d: %d of %d did not come back: %w", sent, sent+window-1, len(want), window, err)
				}
				if n < 4 {
					return fmt.Errorf("%d bytes from %v", n, from)
				}
				number := binary.BigEndian.Uint32(back)
				if !bytes.Equal(want[number], back[:n]) {
					return fmt.Errorf("datagram %d of %d bytes came back as %d bytes, changed", number, len(want[number]), n)
				}
				delete(want, number)
			}
		}
	}
	return nil
}

// exchange lets the sockets reflect count datagrams of each family.
func (r *raw) exchange(t *testing.T, count, mtu int) {
	t.Helper()
	frames := make([]atomic.Uint64, len(r.sockets))
	done := make(chan error, len(r.sockets))
	for i, s := range r.sockets {
		go func() { done <- reflect(s, &frames[i]) }()
	}
	err := reflected(r.g, r.addrs, count, mtu)
	for i, s := range r.sockets {
		st, statErr := s.Statistics()
		t.Logf("queue %d: %d frames reflected, %d pending; %+v", s.Queue(), frames[i].Load(), s.TX().Pending(), st)
		if statErr != nil {
			t.Error(statErr)
		}
		if err == nil && frames[i].Load() == 0 {
			t.Errorf("queue %d: nothing came there", s.Queue())
		}
		if st.RXBadDescs+st.TXStrays+st.Kernel.RXDropped+st.Kernel.RXInvalidDescs+st.Kernel.TXInvalidDescs != 0 {
			t.Errorf("queue %d: %+v", s.Queue(), st)
		}
	}
	if err != nil {
		t.Error(err)
	}
	for _, s := range r.sockets {
		lab.Eventually(t, patience, "the frames in flight", func() bool { return s.Region().Audit().TX == 0 })
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestRaw sends and receives raw packets, zero-copy.
func TestRaw(t *testing.T) {
	eachDevice(t, func(t *testing.T, g *ground) {
		t.Run("umem=own", func(t *testing.T) {
			openRaw(t, g, xsk.Config{Bind: xsk.BindZeroCopy}).exchange(t, 512, 1500)
		})
	})
}
