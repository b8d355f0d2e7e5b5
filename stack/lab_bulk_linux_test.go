package stack_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/soak/traffic"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
)

// bulkBytes is how much goes each way.
func bulkBytes() int {
	if raced.Enabled {
		return longOr(256<<20, 4<<20)
	}
	return longOr(1<<30, 64<<20)
}

func eachBulk(t *testing.T, run func(t *testing.T, s *labStack, f family)) {
	for _, queues := range []int{1, 2} {
		for _, mtu := range []int{1500, 3000, 9000} {
			for i, name := range []string{"IPv4", "IPv6"} {
				t.Run(fmt.Sprintf("queues=%d/mtu=%d/%s", queues, mtu, name), func(t *testing.T) {
					s := openLab(t, lab.Config{Queues: queues, MTU: mtu}, stack.Config{Profile: stack.ProfileLAN})
					run(t, s, families(s.lab)[i])
				})
			}
		}
	}
}

// TestLabBulkConnection sends over one connection: up, then down, then both
// ways at once. Every byte arrives, and no frame is lost from sight.
func TestLabBulkConnection(t *testing.T) {
	eachBulk(t, func(t *testing.T, s *labStack, f family) {
		kernel, ours := s.mustPair(t, f, f.stack.Is6())
		deadline(t, kernel, ours)
		n := bulkBytes()
		start := time.Now()
		if err := traffic.Transfer(kernel, ours, 1, n); err != nil {
			t.Fatal("upload: ", err)
		}
		up := time.Since(start)
		if err := traffic.Transfer(ours, kernel, 2, n); err != nil {
			t.Fatal("download: ", err)
		}
		down := time.Since(start) - up
		err := together(
			func() error { return traffic.Transfer(kernel, ours, 3, n) },
			func() error { return traffic.Transfer(ours, kernel, 4, n) },
		)
		if err != nil {
			t.Fatal("both ways: ", err)
		}
		both := time.Since(start) - up - down
		rate := func(d time.Duration) string { return fmt.Sprintf("%.0f MB/s", float64(n)/1e6/d.Seconds()) }
		t.Logf("up %s, down %s, both %s each way", rate(up), rate(down), rate(both))
		s.finish(t, kernel, ours)
	})
}

// TestLabBulkConnections sends the same total over 64 connections at once, all
// of them both ways.
func TestLabBulkConnections(t *testing.T) {
	eachBulk(t, func(t *testing.T, s *labStack, f family) { bulkConnections(t, s, f, bulkBytes()/64) })
}

// TestLabBulkConnectionsWhole sends all of it over each of the 64.
func TestLabBulkConnectionsWhole(t *testing.T) {
	if !*long {
		t.Skip("takes minutes: only with -afxnet.long")
	}
	s := openLab(t, lab.Config{Queues: 2}, stack.Config{Profile: stack.ProfileLAN})
	bulkConnections(t, s, families(s.lab)[0], bulkBytes())
}

// bulkConnections sends n bytes each way over each of 64 connections.
func bulkConnections(t *testing.T, s *labStack, f family, n int) {
	const conns = 64
	var work []func() error
	var all []net.Conn
	for i := range conns {
		kernel, ours := s.mustPair(t, f, i%2 == 0)
		deadline(t, kernel, ours)
		all = append(all, kernel, ours)
		work = append(work,
			func() error { return traffic.Transfer(kernel, ours, uint64(2*i), n) },
			func() error { return traffic.Transfer(ours, kernel, uint64(2*i+1), n) },
		)
	}
	start := time.Now()
	if err := together(work...); err != nil {
		t.Fatal(err)
	}
	t.Logf("%.0f MB/s each way", float64(n*conns)/1e6/time.Since(start).Seconds())
	s.finish(t, all...)
}

// deadline lets a test that hangs fail.
func deadline(t *testing.T, conns ...net.Conn) {
	t.Helper()
	for _, c := range conns {
		if err := c.SetDeadline(time.Now().Add(longOr(10*time.Minute, 2*time.Minute))); err != nil {
			t.Fatal(err)
		}
	}
}

// finish closes connections and the stack, and wants all frames accounted for
// before and after.
func (s *labStack) finish(t *testing.T, conns ...net.Conn) {
	t.Helper()
	for _, c := range conns {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	s.conserved(t)
	if err := s.Close(); err != nil {
		t.Errorf("close stack: %v", err)
	}
	for i, q := range s.Device().Audit() {
		if q.Held != 0 || q.TX != 0 || q.Chunks() == 0 {
			t.Errorf("queue %d after Close: %+v: frames are held", i, q)
		}
	}
}

// TestLabReaderOnly has an application that reads and never writes: nothing but
// its ACKs tells the sender to go on. A writer with Nagle's algorithm sends the
// second of two small segments when the first is acknowledged, so an ACK that is
// held for the kernel's 40 ms, or lost, shows in the time; a late one shows in
// the kernel's count of segments sent again.
func TestLabReaderOnly(t *testing.T) {
	s := openLab(t, lab.Config{}, stack.Config{})
	for _, f := range families(s.lab) {
		t.Run(f.name, func(t *testing.T) {
			kernel, ours := s.mustPair(t, f, false)
			deadline(t, kernel, ours)
			tcp := kernel.(*net.TCPConn)
			if err := tcp.SetNoDelay(false); err != nil {
				t.Fatal(err)
			}
			const pairs = 200
			done := make(chan error, 1)
			go func() {
				_, err := traffic.Read(ours, 20*pairs)
				done <- err
			}()
			start := time.Now()
			for range 2 * pairs {
				if _, err := kernel.Write(make([]byte, 10)); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			// Were each pair to wait for a delayed ACK, it would take 8 s.
			if d := time.Since(start); d > 4*time.Second {
				t.Errorf("%d pairs of small writes took %v: ACKs are late", pairs, d)
			}
			if err := traffic.Transfer(kernel, ours, 5, 8<<20); err != nil {
				t.Fatal(err)
			}
			err := eventually(patience, func() error {
				if info := tcpInfo(t, tcp); info.Unacked != 0 {
					return fmt.Errorf("%d segments are not acknowledged", info.Unacked)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			st, err := s.Device().Stats()
			if err != nil {
				t.Fatal(err)
			}
			// On a busy machine the kernel probes for a lost tail after 2 ms or
			// so: that is a segment now and then, late ACKs are one per flight.
			if info := tcpInfo(t, tcp); info.Total_retrans > info.Segs_out/200 && len(st.Drops()) == 0 {
				t.Errorf("the peer sent %d of %d segments again although nothing was dropped", info.Total_retrans, info.Segs_out)
			}
		})
	}
	s.conserved(t)
}

func tcpInfo(t *testing.T, c *net.TCPConn) *unix.TCPInfo {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	cerr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err := errors.Join(cerr, err); err != nil {
		t.Fatal(err)
	}
	return info
}

// TestLabPingPongFrames counts frames: a request and its answer are one packet
// each way, with the ACKs on them.
func TestLabPingPongFrames(t *testing.T) {
	if mechanism.Off(mechanism.ACKHold) {
		t.Skip("the ACKs are not held")
	}
	s := openLab(t, lab.Config{}, stack.Config{})
	serveEcho(t, s.Stack, 7)
	held := new(netdev.ACKPace).Period(1) // an ACK is, for so long at least
	for _, f := range families(s.lab) {
		t.Run(f.name, func(t *testing.T) {
			c, err := s.lab.Peer.Dial(t.Context(), "tcp", hostPort(f.stack, 7))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			msg := make([]byte, 64)
			run := func(n int) (sent, received, late, slow uint64) {
				t.Helper()
				was, err := s.Device().Stats()
				if err != nil {
					t.Fatal(err)
				}
				for range n {
					start := time.Now()
					if err := traffic.Exchange(c, msg, patience); err != nil {
						t.Fatal(err)
					}
					if time.Since(start) >= held {
						slow++
					}
				}
				is, err := s.Device().Stats()
				if err != nil {
					t.Fatal(err)
				}
				q, p := is.Queues[0], was.Queues[0]
				return q.Socket.TXFrames - p.Socket.TXFrames, q.Socket.RXFrames - p.Socket.RXFrames, q.TXACKsLate - p.TXACKsLate, slow
			}
			run(100) // the kernel acknowledges the first ones at once
			const n = 5000
			sent, received, late, slow := run(n)
			// When this machine is slow, the timer sends an ACK before the answer.
			if most := 1.1*n + float64(min(late, slow)); float64(sent) > most {
				t.Errorf("%d frames sent for %d answers, want at most %.0f", sent, n, most)
			}
			t.Logf("%d exchanges, %d of them slow: %d frames out, %d in, %d late", n, slow, sent, received, late)
		})
	}
	s.conserved(t)
}

// TestLabTinyRing has room for four frames on their way out, for 64 TCP
// connections and a UDP sender: each makes progress, and none is overlooked.
func TestLabTinyRing(t *testing.T) {
	for _, size := range []uint32{4, 2} {
		t.Run(fmt.Sprintf("descriptors=%d", size), func(t *testing.T) {
			var cfg stack.Config
			cfg.Device.Rings.TX, cfg.Device.Rings.Completion = size, size
			s := openLab(t, lab.Config{}, cfg)
			const conns = 64
			n := longOr(4<<20, 512<<10)
			if raced.Enabled {
				n /= 4
			}
			var work []func() error
			var all []net.Conn
			for i := range conns {
				kernel, ours := s.mustPair(t, families(s.lab)[i%2], i%4 < 2)
				deadline(t, kernel, ours)
				all = append(all, kernel, ours)
				work = append(work,
					func() error { return traffic.Transfer(ours, kernel, uint64(i), n) },
					func() error { return traffic.Transfer(kernel, ours, uint64(conns+i), n/8) },
				)
			}
			sent, got := s.floodUDP(t)
			if err := together(work...); err != nil {
				t.Fatal(err)
			}
			if s, g := sent(), got(); g == 0 {
				t.Errorf("%d datagrams sent beside the connections, none arrived", s)
			} else {
				t.Logf("%d datagrams sent, %d arrived", s, g)
			}
			s.finish(t, all...)
		})
	}
}

// floodUDP sends datagrams of 1400 bytes to the peer for as long as it is not
// asked how many they were; then it says how many it sent, and how many arrived.
func (s *labStack) floodUDP(t *testing.T) (sent, arrived func() int) {
	t.Helper()
	sink, err := s.lab.Peer.ListenPacket("udp", hostPort(s.lab.Peer.V4.Addr(), 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Close() })
	c, err := s.Dial("udp", sink.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	out, in := make(chan int, 1), make(chan int, 1)
	stop := make(chan struct{})
	go func() {
		n := 0
		defer func() { out <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, err := c.Write(make([]byte, 1400))
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return
			} else if err != nil && !errors.Is(err, syscall.ENOBUFS) {
				t.Errorf("datagram %d: %v", n, err)
				return
			}
			n++
		}
	}()
	go func() {
		n := 0
		defer func() { in <- n }()
		buf := make([]byte, 2048)
		for {
			if k, _, err := sink.ReadFrom(buf); err != nil {
				return
			} else if k == 1400 {
				n++
			}
		}
	}()
	sent = func() int {
		close(stop)
		c.SetWriteDeadline(time.Now()) //nolint:errcheck // closed next
		return <-out
	}
	arrived = func() int {
		sink.Close()
		return <-in
	}
	return sent, arrived
}
