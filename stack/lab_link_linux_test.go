package stack_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/soak/traffic"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
)

// downWithin is how soon a blocked call ends when the link goes.
const downWithin = time.Second

// TestLabLink takes the link away under load: it is set down, or deleted.
func TestLabLink(t *testing.T) {
	t.Run("down", func(t *testing.T) {
		s := openLab(t, lab.Config{}, stack.Config{})
		s.loseLink(t, s.lab.SetDown, downWithin)
		s.idle(t)
		if err := s.lab.SetUp(); err != nil {
			t.Fatal(err)
		}
		s.works(t)
	})
	t.Run("servers wait", func(t *testing.T) {
		s := openLab(t, lab.Config{Queues: 2}, stack.Config{})
		s.serversWait(t)
	})
	t.Run("deleted", func(t *testing.T) {
		s := openLab(t, lab.Config{Queues: 2}, stack.Config{})
		s.loseLink(t, s.lab.Delete, downWithin)
		s.idle(t)
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Run("down and up again", func(t *testing.T) {
		s := openLab(t, lab.Config{Queues: 2}, stack.Config{})
		for range 10 {
			if err := s.lab.SetDown(); err != nil {
				t.Fatal(err)
			}
			if err := s.lab.SetUp(); err != nil {
				t.Fatal(err)
			}
		}
		s.works(t)
	})
	t.Run("deleted while closing", func(t *testing.T) {
		s := openLab(t, lab.Config{}, stack.Config{})
		err := together(s.lab.Delete, s.Close)
		if err != nil {
			t.Error(err)
		}
	})
}

// A blocked call is one that waits for packets; err is what it returned.
type blocked struct {
	name string
	err  error
}

// loseLink runs one call of every kind that blocks, with traffic beside them,
// takes the link away, and wants them all back within the time, with ENETDOWN.
func (s *labStack) loseLink(t *testing.T, lose func() error, within time.Duration) {
	t.Helper()
	ended := make(chan blocked, 16)
	calls := 0
	block := func(name string, f func() error) {
		calls++
		go func() { ended <- blocked{name, f()} }()
	}
	fs := families(s.lab)
	ln, err := s.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	block("Accept", func() error {
		_, err := ln.Accept()
		return err
	})
	p, err := s.ListenPacket("udp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	block("ReadFrom", func() error {
		_, _, err := p.ReadFrom(make([]byte, 10))
		return err
	})
	_, quiet := s.mustPair(t, fs[0], false)
	block("Read", func() error {
		_, err := quiet.Read(make([]byte, 10))
		return err
	})
	_, full := s.mustPair(t, fs[1], true)
	var wrote atomic.Uint64
	block("Write", func() error {
		for b := make([]byte, 64<<10); ; {
			if _, err := full.Write(b); err != nil {
				return err
			}
			wrote.Add(uint64(len(b)))
		}
	})
	// Load in both directions.
	kernelUp, up := s.mustPair(t, fs[0], true)
	block("Read under load", func() error {
		_, err := io.Copy(io.Discard, up)
		return err
	})
	go flood(kernelUp)
	kernelDown, down := s.mustPair(t, fs[1], false)
	block("Write under load", func() error {
		for b := make([]byte, 64<<10); ; {
			if _, err := down.Write(b); err != nil {
				return err
			}
		}
	})
	go drain(kernelDown)
	sink, err := s.lab.Peer.ListenPacket("udp", hostPort(fs[0].peer, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	datagrams, err := s.Dial("udp", sink.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	block("datagrams", func() error {
		for b := make([]byte, 1400); ; {
			if _, err := datagrams.Write(b); err != nil && !errors.Is(err, syscall.ENOBUFS) {
				return err
			}
		}
	})
	// A writer is blocked when what it wrote does not grow.
	var last uint64
	err = eventually(patience, func() error {
		n := wrote.Load()
		if n == 0 || n != last {
			last = n
			<-time.After(20 * time.Millisecond)
			return fmt.Errorf("%d bytes written to a peer that does not read", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Nobody has this address: the dial waits for an answer to ARP, for seconds.
	block("Dial", func() error {
		_, err := s.Dial("tcp", "10.77.0.99:80")
		return err
	})

	start := time.Now()
	if err := lose(); err != nil {
		t.Fatal(err)
	}
	late := unhurried(t.Context(), within)
	for range calls {
		select {
		case b := <-ended:
			if !errors.Is(b.err, syscall.ENETDOWN) {
				t.Errorf("%s: %v, want ENETDOWN", b.name, b.err)
			}
		case <-late:
			t.Fatalf("calls are still blocked %v after the link went", within)
		}
	}
	t.Logf("all calls ended %v after the link was gone", time.Since(start))
	// So do those that come now.
	_, err = s.Dial("tcp", hostPort(fs[0].peer, 80))
	_, err2 := quiet.Read(make([]byte, 10))
	_, err3 := full.Write(make([]byte, 10))
	_, err4 := p.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(fs[0].peer, 80)))
	for i, err := range []error{err, err2, err3, err4} {
		if !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("call %d after the link went: %v, want ENETDOWN", i, err)
		}
	}
	// Who waits for peers has been told, and waits on unless the device is gone.
	want := error(os.ErrDeadlineExceeded)
	if err := s.Device().LinkErr(); errors.Is(err, syscall.ENODEV) {
		want = syscall.ENODEV
	}
	past := time.Now().Add(-time.Second)
	if err := errors.Join(ln.(*stack.TCPListener).SetDeadline(past), p.SetReadDeadline(past)); err != nil {
		t.Error(err)
	}
	_, err = ln.Accept()
	_, _, err2 = p.ReadFrom(make([]byte, 10))
	for i, err := range []error{err, err2} {
		if !errors.Is(err, want) {
			t.Errorf("server %d after the link went: %v, want %v", i, err, want)
		}
	}
	ln.Close()
	p.Close()
}

// serversWait has servers of TCP and UDP, with blocked calls, live through two outages.
func (s *labStack) serversWait(t *testing.T) {
	t.Helper()
	ln, err := s.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p, err := s.ListenPacket("udp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	told := make(chan error, 16)
	temporary := func(err error) bool {
		if ne, ok := err.(interface{ Temporary() bool }); !ok || !ne.Temporary() {
			return false
		}
		told <- err
		return true
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err == nil {
				go func() {
					defer c.Close()
					io.Copy(c, c) //nolint:errcheck // the client tells
				}()
			} else if !temporary(err) {
				return
			}
		}
	}()
	go func() {
		for b := make([]byte, 2048); ; {
			n, from, err := p.ReadFrom(b)
			if err == nil {
				p.WriteTo(b[:n], from) //nolint:errcheck // the client tells
			} else if !temporary(err) {
				return
			}
		}
	}()
	for range 2 {
		if err := s.lab.SetDown(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-told; !errors.Is(err, syscall.ENETDOWN) {
				t.Errorf("%v, want ENETDOWN", err)
			}
		}
		s.idle(t)
		if len(told) != 0 {
			t.Errorf("told again: %v", <-told)
		}
		if err := s.lab.SetUp(); err != nil {
			t.Fatal(err)
		}
		for _, f := range families(s.lab) {
			for _, network := range []string{"tcp", "udp"} {
				lab.Eventually(t, patience, "an answer by "+network+" to "+f.name, func() bool {
					return reach(s.lab.Peer, network, hostPort(f.stack, 7), time.Second) == nil
				})
			}
		}
	}
}

// idleShare is the part of one CPU that the process, with all that the test has
// in it, may use while nothing happens.
const idleShare = 0.05

// idle checks that a stack with nothing to do does nothing.
func (s *labStack) idle(t *testing.T) {
	t.Helper()
	// The garbage and the timers of what went before may take their time.
	err := eventually(patience, func() error {
		const window = 250 * time.Millisecond
		before, start := usage(t), time.Now()
		<-time.After(window)
		used, d := usage(t)-before, time.Since(start)
		if share := used.Seconds() / d.Seconds(); share > idleShare {
			return fmt.Errorf("an idle stack uses %.0f%% of a CPU", 100*share)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func usage(t *testing.T) time.Duration {
	t.Helper()
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// caughtUp waits until the stack has heard of all that was done to the link, and
// wants it to be up. A link that comes and goes fast is up for the stack more than
// once before the last time, so that this alone tells nothing. But it hears of
// changes in their order: a change of the MTU is the mark behind all others.
func (s *labStack) caughtUp(t *testing.T) {
	t.Helper()
	mtu := s.Device().MTU()
	for _, mark := range []int{mtu - 100, mtu} {
		if err := s.lab.SetMTU(mark); err != nil {
			t.Fatal(err)
		}
		err := eventually(patience, func() error {
			if got := s.Device().MTU(); got != mark {
				return fmt.Errorf("the stack has an MTU of %d, the link %d", got, mark)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Device().LinkErr(); err != nil {
		t.Fatal(err)
	}
}

// works checks that the stack carries new connections, both ways, and datagrams.
func (s *labStack) works(t *testing.T) {
	t.Helper()
	s.caughtUp(t)
	for _, f := range families(s.lab) {
		for _, dial := range []bool{false, true} {
			kernel, ours, err := s.pair(f, dial)
			if errors.Is(err, syscall.EHOSTUNREACH) { // see eventuallyReach; now it asks anew
				kernel, ours, err = s.pair(f, dial)
			}
			if err != nil {
				t.Errorf("%s, dial %v: %v", f.name, dial, err)
				continue
			}
			deadline(t, kernel, ours)
			if err := together(
				func() error { return traffic.Transfer(kernel, ours, 1, 1<<20) },
				func() error { return traffic.Transfer(ours, kernel, 2, 1<<20) },
			); err != nil {
				t.Errorf("%s, dial %v: %v", f.name, dial, err)
			}
			kernel.Close()
			ours.Close()
		}
		p := openPing(t, s.lab.Peer, f.stack.Is6())
		if err := p.echo(f.stack.AsSlice(), randomBytes(8000)); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestLabLinkConnection has a connection that outlives a short outage.
func TestLabLinkConnection(t *testing.T) {
	s := openLab(t, lab.Config{}, stack.Config{Profile: stack.ProfileLAN})
	serveEcho(t, s.Stack, 7)
	kernel, ours := s.mustPair(t, families(s.lab)[0], true)
	deadline(t, kernel, ours)
	if err := traffic.Transfer(ours, kernel, 1, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := s.lab.SetDown(); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, syscall.ENETDOWN) {
		t.Errorf("Read while the link is down: %v", err)
	}
	if err := s.lab.SetUp(); err != nil {
		t.Fatal(err)
	}
	s.caughtUp(t)
	if err := together(
		func() error { return traffic.Transfer(kernel, ours, 2, 1<<20) },
		func() error { return traffic.Transfer(ours, kernel, 3, 1<<20) },
	); err != nil {
		t.Error(err)
	}
	s.finish(t, kernel, ours)
}

// TestLabCarrier has a connection and a listener that do not notice a carrier which is
// lost for a while, as the kernel's do not.
func TestLabCarrier(t *testing.T) {
	s := openLab(t, lab.Config{}, stack.Config{Profile: stack.ProfileLAN})
	f := families(s.lab)[0]
	kernel, ours := s.mustPair(t, f, true)
	deadline(t, kernel, ours)
	serveEcho(t, s.Stack, 80) // ends with an error
	u, err := s.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := s.lab.SetCarrier(false); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, "the stack's word that there is no carrier", func() bool { // the kernel may put it off by a second
		return errors.Is(s.Device().LinkErr(), netdev.ErrNoCarrier)
	})
	reading := make(chan error, 1)
	go func() { reading <- traffic.Transfer(kernel, ours, 1, 100_000) }()
	if _, err := u.WriteTo([]byte("lost"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.peer, 9))); err != nil {
		t.Errorf("a datagram: %v", err)
	}
	s.idle(t)
	if err := s.lab.SetCarrier(true); err != nil {
		t.Fatal(err)
	}
	if err := together(
		func() error { return <-reading },
		func() error { return traffic.Transfer(ours, kernel, 2, 100_000) },
	); err != nil {
		t.Error(err)
	}
	eventuallyReach(t, s.lab.Peer, hostPort(f.stack, 80))
	s.works(t)
}

// TestLabMAC gives the interface another Ethernet address under a connection. The peer
// hears of it.
func TestLabMAC(t *testing.T) {
	s := openLab(t, lab.Config{}, stack.Config{Profile: stack.ProfileLAN})
	kernel, ours := s.mustPair(t, families(s.lab)[0], true)
	six, ours6 := s.mustPair(t, families(s.lab)[1], true) // now the peer knows both addresses
	deadline(t, kernel, ours, six, ours6)
	mac := net.HardwareAddr{2, 0, 0, 0, 0xaf, 0x99}
	if err := s.lab.SetMAC(mac); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, "the announcements", func() bool {
		for _, f := range families(s.lab) {
			if got, err := s.lab.Peer.Neighbor(f.stack); err != nil || !slices.Equal(got, mac) {
				return false
			}
		}
		return true
	})
	if err := together(
		func() error { return traffic.Transfer(kernel, ours, 1, 100_000) },
		func() error { return traffic.Transfer(ours, kernel, 2, 100_000) },
	); err != nil {
		t.Error(err)
	}
	if got := s.Device().MAC(); !slices.Equal(got, mac) {
		t.Errorf("the device's address is %v, want %v", got, mac)
	}
	s.works(t)
}

// TestLabIdle has stacks that do nothing from the start, and after traffic.
func TestLabIdle(t *testing.T) {
	s := openLab(t, lab.Config{Queues: 2}, stack.Config{})
	serveEcho(t, s.Stack, 7)
	s.idle(t)
	for _, f := range families(s.lab) {
		for _, network := range []string{"tcp", "udp"} {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			c, err := s.lab.Peer.Dial(ctx, network, hostPort(f.stack, 7))
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for range 100 {
				if err := traffic.Exchange(c, randomBytes(100), patience); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	s.idle(t)
	st, err := s.Device().Stats()
	if err != nil {
		t.Fatal(err)
	}
	// The connections are open and have nothing to say.
	<-time.After(300 * time.Millisecond)
	after, err := s.Device().Stats()
	if err != nil {
		t.Fatal(err)
	}
	for i, q := range after.Queues {
		if n := q.Sleeps - st.Queues[i].Sleeps; n > 20 {
			t.Errorf("queue %d went to sleep %d times in 300 ms without traffic", i, n)
		}
	}
}
