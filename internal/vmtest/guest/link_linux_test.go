package guest

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/soak/traffic"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/xsk"
)

// TestLinkReset dials as soon as Open has returned: drivers take the link down
// when a program is attached and when a socket is bound, and Open waits for it.
func TestLinkReset(t *testing.T) {
	eachNIC(t, func(t *testing.T, g *ground) {
		serveKernel(t, g)
		s := g.stack(t, zeroCopy())
		var wg sync.WaitGroup
		for _, f := range g.families() {
			wg.Go(func() {
				c, err := s.DialContext(t.Context(), "tcp", hostPort(f.peer, echoPort))
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if err := traffic.Exchange(c, []byte("at once"), patience); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			st, err := s.Device().Stats()
			t.Logf("%+v, %v", st, err)
			text, _ := os.ReadFile("/proc/kallsyms")
			for line := range strings.Lines(string(text)) {
				if strings.Contains(line, " xsk_hdr") || strings.Contains(line, " phys_base") || strings.HasSuffix(line, " _text\n") {
					t.Log(line)
				}
			}
			text, _ = os.ReadFile("/proc/iomem")
			t.Logf("%s", text)
		}
	})
}

// TestLinkDown takes the link down under a connection, and up again: the driver
// empties its rings and starts with new ones.
func TestLinkDown(t *testing.T) {
	eachNIC(t, func(t *testing.T, g *ground) {
		s := g.stack(t, zeroCopy())
		ln, err := s.Listen("tcp", hostPort(netip.IPv6Unspecified(), echoPort))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
				go echoThrough(s, c)
			}
		}()
		var conns []net.Conn
		for _, f := range g.families() {
			c, err := g.Peer.Dial(t.Context(), "tcp", hostPort(f.stack, echoPort))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			conns = append(conns, c)
			if err := traffic.Exchange(c, randomBytes(100_000), patience); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := g.SetDown(); err != nil {
				t.Fatal(err)
			}
			lab.Eventually(t, patience, "the stack's word that the link is down", func() bool {
				return errors.Is(s.Device().LinkErr(), syscall.ENETDOWN)
			})
			if err := g.SetUp(); err != nil {
				t.Fatal(err)
			}
			g.running(t)
			for _, c := range conns {
				if err := traffic.Exchange(c, randomBytes(100_000), patience); err != nil {
					t.Error(err)
				}
			}
		}
		conserved(t, s)
	})
}

// echoThrough sends back what comes. While the link is down calls say so, and
// the connection stays.
func echoThrough(s *stack.Stack, c net.Conn) {
	defer c.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		for sent := 0; sent < n; {
			k, writeErr := c.Write(buf[sent:n])
			if sent += k; writeErr != nil && !up(s, writeErr) {
				return
			}
		}
		if err != nil && !up(s, err) {
			return
		}
	}
}

// up waits for the link, if that is what err is about.
func up(s *stack.Stack, err error) bool {
	if !errors.Is(err, syscall.ENETDOWN) {
		return false
	}
	for end := time.Now().Add(patience); s.Device().LinkErr() != nil && time.Now().Before(end); <-time.After(time.Millisecond) {
	}
	return s.Device().LinkErr() == nil
}

// TestKill kills a process with a stack: the kernel has the device to itself
// again, without the program and the multicast group, and the next process can
// take it. The VLAN tag offload is restored by the next start, on the NICs that can
// have it off: igb.
func TestKill(t *testing.T) {
	eachNIC(t, func(t *testing.T, g *ground) {
		before := groups(t, g)
		tags := tagsTaken(t, g)
		cmd := g.child("stack")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Host.Do(cmd.Start); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Errorf("the child says %q: %v", line, err)
		}
		for _, f := range g.families() {
			reach(t, g, f.stack)
		}
		if ifc, err := g.Host.Interface(); err != nil || ifc.XDP.Mode != hostif.XDPNative {
			t.Errorf("%+v, %v: no program", ifc, err)
		}
		if during := groups(t, g); len(during) <= len(before) {
			t.Errorf("multicast groups %v with a stack, %v without", during, before)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait() //nolint:errcheck // it was killed
		lab.Eventually(t, patience, "the end of the program", func() bool {
			ifc, err := g.Host.Interface()
			return err == nil && ifc.XDP == hostif.XDP{}
		})
		lab.Eventually(t, patience, "the end of the multicast groups", func() bool {
			return len(groups(t, g)) == len(before)
		})
		if tagsTaken(t, g) {
			t.Error("the child did not have the NIC leave VLAN tags, or they are taken off again by itself")
		}
		if err := g.Host.Do(hostif.RestoreSettings); err != nil {
			t.Error(err)
		}
		if now := tagsTaken(t, g); now != tags {
			t.Errorf("VLAN tags taken off by the NIC: %v after the next start, %v before", now, tags)
		}
		g.running(t)
		s := g.stack(t, zeroCopy())
		serve(t, s)
		for _, f := range g.families() {
			reach(t, g, f.stack)
		}
	})
}

// tagsTaken tells whether the NIC takes VLAN tags off.
func tagsTaken(t *testing.T, g *ground) (on bool) {
	t.Helper()
	err := g.Host.Do(func() (err error) {
		on, err = hostif.FeatureOn(lab.HostDevice, "rx-vlan-hw-parse")
		t.Logf("VLAN tags are taken off: %v", on)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return on
}

// reach makes an exchange with the echo service at an address, from the peer.
func reach(t *testing.T, g *ground, a netip.Addr) {
	t.Helper()
	c, err := g.Peer.Dial(t.Context(), "tcp", hostPort(a, echoPort))
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	if err := traffic.Exchange(c, randomBytes(5000), patience); err != nil {
		t.Error(err)
	}
}

// groups returns the multicast addresses that the AF_XDP side lets through.
func groups(t *testing.T, g *ground) (addrs []string) {
	t.Helper()
	err := g.Host.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev_mcast")
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) == 5 && f[1] == lab.HostDevice {
				addrs = append(addrs, f[4])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}

// TestNeighbours has the peer look for an IPv6 address: its question comes to a
// multicast group. The NIC filters those nobody has joined, so the question gets
// through because the stack has joined it, and does not without.
func TestNeighbours(t *testing.T) {
	for _, d := range []device{{wiring.IGB, 1}, {wiring.Virtio, 1}} {
		t.Run(d.pair.String(), func(t *testing.T) {
			g := open(t, d.pair, d.queues)
			r := openRaw(t, g, xsk.Config{Bind: xsk.BindZeroCopy})
			// Ask for an address that openRaw has not told the peer.
			b := g.StackV6.Addr().As16()
			b[13], b[14], b[15] = 0x12, 0x34, 0x56
			addr := netip.AddrFrom16(b)
			if err := r.prog.AddAddress(addr); err != nil {
				t.Fatal(err)
			}
			seen := func() uint64 {
				n, err := r.prog.Counters()
				if err != nil {
					t.Fatal(err)
				}
				return n.RedirectND
			}
			ask := func(ctx context.Context) error {
				c, err := g.Peer.Dial(ctx, "tcp", hostPort(addr, echoPort))
				if err == nil {
					c.Close()
				}
				return err
			}
			if err := ask(t.Context()); !errors.Is(err, syscall.EHOSTUNREACH) {
				t.Fatalf("an address that nobody answers for: %v", err)
			}
			if n := seen(); n != 0 {
				t.Errorf("%d questions got through without a member", n)
			}
			err := g.Host.Do(func() error {
				ifc, err := hostif.Lookup(lab.HostDevice)
				if err != nil {
					return err
				}
				leave, err := hostif.JoinMulticast(ifc.Index, solicited(addr))
				if err == nil {
					t.Cleanup(func() { leave.Close() })
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			asked := make(chan error)
			go func() { asked <- ask(ctx) }()
			lab.Eventually(t, patience, "a question with a member", func() bool { return seen() != 0 })
			cancel()
			<-asked
		})
	}
}

// solicited is the group that questions for an address are sent to.
func solicited(a netip.Addr) net.HardwareAddr {
	b := a.As16()
	return net.HardwareAddr{0x33, 0x33, 0xff, b[13], b[14], b[15]}
}
