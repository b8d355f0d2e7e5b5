package stack_test

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/frames"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/soak/traffic"
	"github.com/afxnet/afxnet/stack"
)

// long asks for the sizes and counts that the releases are tested with.
var long = flag.Bool("afxnet.long", false, "run the tests in the lab with 1 GiB and 100 kills instead of 64 MiB and 10")

// longOr returns the count of the long run or the one of the default run.
func longOr[T any](inLong, otherwise T) T {
	if *long {
		return inLong
	}
	return otherwise
}

// patience is for what should take a moment: far more than a lost segment, sent
// again, costs.
const patience = 20 * time.Second

// labStack is a stack on the AF_XDP side of a lab.
type labStack struct {
	*stack.Stack
	lab    *lab.Lab
	before uint64 // frames.Before
}

// openLab makes a lab with a stack in it. cfg may leave out what the lab knows.
func openLab(t testing.TB, lc lab.Config, cfg stack.Config) *labStack {
	t.Helper()
	lab.Require(t, lab.NetNS, lab.XDP)
	return openIn(t, lab.New(t, lc), cfg)
}

// openIn starts a stack in a lab.
func openIn(t testing.TB, l *lab.Lab, cfg stack.Config) *labStack {
	t.Helper()
	s, err := tryOpen(l, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close stack: %v", err)
		}
	})
	before, err := frames.Before(l)
	if err != nil {
		t.Fatal(err)
	}
	return &labStack{Stack: s, lab: l, before: before}
}

func tryOpen(l *lab.Lab, cfg stack.Config) (s *stack.Stack, err error) {
	if cfg.Interface == "" {
		cfg.Interface = lab.HostDevice
	}
	if cfg.Addresses == nil {
		cfg.Addresses = []netip.Prefix{l.StackV4, l.StackV6}
		cfg.NoDuplicateCheck = true // no kernel has them
	}
	cfg = stack.WithFlag(cfg)
	err = l.Host.Do(func() error {
		s, err = stack.Open(cfg)
		return err
	})
	return s, err
}

// family is one of the two kinds of addresses in a lab.
type family struct {
	name              string
	stack, peer, host netip.Addr
}

func families(l *lab.Lab) []family {
	return []family{
		{"IPv4", l.StackV4.Addr(), l.Peer.V4.Addr(), l.Host.V4.Addr()},
		{"IPv6", l.StackV6.Addr(), l.Peer.V6.Addr(), l.Host.V6.Addr()},
	}
}

func hostPort(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }

// conserved checks that no frame is missing: each is in a counter, and, when
// the stack is closed, with the pool or the kernel's fill ring.
func (s *labStack) conserved(t testing.TB) {
	t.Helper()
	a, err := frames.Settle(s.lab, s.Device(), s.before, patience)
	if err != nil {
		t.Error(err)
	} else if a.Missing != 0 {
		t.Errorf("frames are missing:\n%v", a)
	}
	for i, q := range s.Device().Audit() {
		if q.Held != 0 || q.TX != 0 || q.Free+q.Fill != q.Chunks() || q.Chunks() == 0 {
			t.Errorf("queue %d: %+v: frames are held with no traffic", i, q)
		}
	}
	if t.Failed() {
		t.Logf("account:\n%v", a)
	}
}

// eventually waits until ok returns nil, and returns its last error if that
// takes longer than patience.
func eventually(patience time.Duration, ok func() error) error {
	for deadline := time.Now().Add(patience); ; <-time.After(time.Millisecond) {
		err := ok()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// unhurried is time.After for what must not take long: however long this machine
// does something else, of each such moment no more than a tick counts.
func unhurried(ctx context.Context, d time.Duration) <-chan struct{} {
	const tick = 10 * time.Millisecond
	over := make(chan struct{})
	go func() {
		for range d / tick {
			select {
			case <-time.After(tick):
			case <-ctx.Done():
				return
			}
		}
		close(over)
	}()
	return over
}

// pair connects a kernel socket of the peer with a socket of the stack; dial
// says that the stack dials.
func (s *labStack) pair(f family, dial bool) (kernel, ours net.Conn, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var ln net.Listener
	if dial {
		ln, err = s.lab.Peer.Listen("tcp", hostPort(f.peer, 0))
	} else {
		ln, err = s.Listen("tcp", hostPort(f.stack, 0))
	}
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	type accepted struct {
		c   net.Conn
		err error
	}
	acc := make(chan accepted, 1)
	go func() {
		c, err := ln.Accept()
		acc <- accepted{c, err}
	}()
	var dialed net.Conn
	if dial {
		dialed, err = s.DialContext(ctx, "tcp", ln.Addr().String())
	} else {
		dialed, err = s.lab.Peer.Dial(ctx, "tcp", ln.Addr().String())
	}
	if err != nil {
		ln.Close()
		if a := <-acc; a.c != nil {
			a.c.Close()
		}
		return nil, nil, err
	}
	a := <-acc
	if a.err != nil {
		dialed.Close()
		return nil, nil, a.err
	}
	if dial {
		return a.c, dialed, nil
	}
	return dialed, a.c, nil
}

// mustPair is pair for a test, which closes both ends when it ends.
func (s *labStack) mustPair(t testing.TB, f family, dial bool) (kernel, ours net.Conn) {
	t.Helper()
	kernel, ours, err := s.pair(f, dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kernel.Close(); ours.Close() })
	return kernel, ours
}

// together runs functions at once and returns their joined errors.
func together(fs ...func() error) error {
	errs := make([]error, len(fs))
	var wg sync.WaitGroup
	for i, f := range fs {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// serveEcho serves TCP and UDP echo on a port of the stack, until it is closed.
func serveEcho(t testing.TB, s *stack.Stack, port int) {
	t.Helper()
	address := ":" + strconv.Itoa(port)
	ln, err := s.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close(); p.Close() })
	go traffic.EchoTCP(ln)
	go traffic.EchoUDP(p)
}

// reach makes one exchange with an echo service from a namespace.
func reach(n *lab.Namespace, network, address string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	c, err := n.Dial(ctx, network, address)
	if err != nil {
		return err
	}
	defer c.Close()
	return traffic.Exchange(c, []byte("are you there?"), within)
}

// kernelEcho serves TCP and UDP echo on kernel sockets of a namespace.
func kernelEcho(t testing.TB, n *lab.Namespace, port int) {
	t.Helper()
	for _, a := range []netip.Addr{n.V4.Addr(), n.V6.Addr()} {
		ln, err := n.Listen("tcp", hostPort(a, port))
		if err != nil {
			t.Fatal(err)
		}
		p, err := n.ListenPacket("udp", hostPort(a, port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close(); p.Close() })
		go traffic.EchoTCP(ln)
		go traffic.EchoUDP(p)
	}
}

// childEnv tells a child process, which runs this binary again, what it is for.
const childEnv = "AFXNET_STACK_TEST_CHILD"

func child() string { return os.Getenv(childEnv) }
