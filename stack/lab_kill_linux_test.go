package stack_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/soak/traffic"
	"github.com/afxnet/afxnet/stack"
)

// Ports of the child's services.
const (
	sourcePort = 9  // sends for ever
	sinkPort   = 10 // reads for ever
)

// killedWithin is how soon after the end of a killed process the kernel has the
// interface back.
const killedWithin = time.Second

// TestLabKill kills a process with a stack under load in both directions, at
// random moments of its start and its life: within a second the kernel has the
// interface for itself, and the next process can start.
func TestLabKill(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{Queues: 2})
	kernelEcho(t, l.Host, 7)
	var slowest time.Duration
	kills, ready := longOr(100, 10), 0
	for i := range kills {
		c := startVictim(t, l)
		// Two of three die at work, the others on the way there.
		if i%3 != 0 {
			if err := c.ready(); err != nil {
				t.Fatal(err)
			}
			ready++
		}
		delay := time.Duration(rand.Int64N(int64(150 * time.Millisecond)))
		<-time.After(delay)
		d := c.kill(t)
		slowest = max(slowest, d)
		if t.Failed() {
			t.Fatalf("kill %d, %v after the start of the load", i, delay)
		}
	}
	t.Logf("%d kills, %d of them under load; the kernel had the interface back after %v at most", kills, ready, slowest)

	// An address that the host's kernel gets now is its own.
	s := openIn(t, l, stack.Config{})
	serveEcho(t, s.Stack, 7)
	for _, f := range families(l) {
		eventuallyReach(t, l.Peer, hostPort(f.stack, 7))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestLabKillAddress gives the address of a stack that was killed to the kernel,
// which then answers for it.
func TestLabKillAddress(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	kernelEcho(t, l.Host, 7)
	c := startVictim(t, l)
	if err := c.ready(); err != nil {
		t.Fatal(err)
	}
	c.kill(t)
	restoreSettings(t, l)
	for _, p := range []netip.Prefix{l.StackV4, l.StackV6} {
		if err := l.Host.AddAddress(p); err != nil {
			t.Fatal(err)
		}
		ln, err := l.Host.Listen("tcp", hostPort(p.Addr(), 11))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go traffic.EchoTCP(ln)
		eventuallyReach(t, l.Peer, hostPort(p.Addr(), 11))
	}
}

// restoreSettings is for a process that was killed and has no next one, whose record
// would stay.
func restoreSettings(t *testing.T, l *lab.Lab) {
	t.Helper()
	if err := l.Host.Do(hostif.RestoreSettings); err != nil {
		t.Error(err)
	}
}

// eventuallyReach tries again while the peer still believes that nobody has the
// address: it asked while that was so, and gives up only after three seconds,
// taking connections begun in the meantime with it.
func eventuallyReach(t *testing.T, from *lab.Namespace, address string) {
	t.Helper()
	lab.Eventually(t, patience, "an answer from "+address, func() bool {
		return reach(from, "tcp", address, patience) == nil
	})
}

// A victim is a child process that runs a stack, and the load on it.
type victim struct {
	lab  *lab.Lab
	cmd  *exec.Cmd
	out  *bufio.Scanner
	stop context.CancelFunc
	load sync.WaitGroup
	// flood adds datagrams to the load, as fast as a kernel makes them.
	flood func()
	// The grandchild lives until this is closed.
	grandchild *os.File
}

func startVictim(t *testing.T, l *lab.Lab) *victim {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{lab: l, grandchild: w}
	v.cmd = exec.Command(os.Args[0], "-test.run=^TestLabVictim$", mechanism.Argument())
	v.cmd.Env = append(os.Environ(), childEnv+"=victim")
	v.cmd.ExtraFiles = []*os.File{r}
	v.cmd.Stderr = os.Stderr
	out, err := v.cmd.StdoutPipe()
	if err == nil {
		// A process starts in the namespace of the thread that starts it.
		err = l.Host.Do(v.cmd.Start)
	}
	r.Close()
	if err != nil {
		w.Close()
		t.Fatal(err)
	}
	v.out = bufio.NewScanner(out)
	var ctx context.Context
	ctx, v.stop = context.WithCancel(context.Background())
	v.load.Go(func() { v.run(ctx, "tcp", sourcePort, drain) })
	v.load.Go(func() { v.run(ctx, "tcp", sinkPort, flood) })
	v.flood = func() { v.load.Go(func() { v.run(ctx, "udp", sinkPort, flood) }) }
	return v
}

func drain(c net.Conn) { io.Copy(io.Discard, c) } //nolint:errcheck // it ends with the child

func flood(c net.Conn) {
	for b := make([]byte, 1400); ; {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// run loads a service of the child until ctx ends. Before the child is there,
// and when it is gone, nobody answers.
func (v *victim) run(ctx context.Context, network string, port int, use func(net.Conn)) {
	for n := 0; ctx.Err() == nil; n++ {
		to := v.lab.StackV4
		if n%2 == 1 {
			to = v.lab.StackV6
		}
		// A SYN that nobody has answered is sent again a second later: do not
		// wait for that.
		dial, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		c, err := v.lab.Peer.Dial(dial, network, hostPort(to.Addr(), port))
		cancel()
		if err != nil {
			continue
		}
		end := context.AfterFunc(ctx, func() { c.Close() })
		use(c)
		end()
		c.Close()
	}
}

// ready waits for the child's load to be under way. Only then come the datagrams:
// four of five may find the RX ring full, and so would the handshakes.
func (v *victim) ready() error {
	for v.out.Scan() {
		if v.out.Text() == "under load" {
			v.flood()
			return nil
		}
		if strings.HasPrefix(v.out.Text(), "error") {
			break
		}
	}
	return fmt.Errorf("the child is not ready: %q, %v", v.out.Text(), v.out.Err())
}

// kill kills the child and checks what is left: nothing, though a process that
// it has started lives on. It returns how long that took to be so.
func (v *victim) kill(t *testing.T) time.Duration {
	t.Helper()
	defer v.load.Wait()
	defer v.stop()
	defer v.grandchild.Close()
	start := time.Now()
	if err := v.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	// How long the kernel takes to end it is the kernel's affair. Then all that it
	// had open is closed, but for what a process that it was starting then still has.
	var exit *exec.ExitError
	if err := v.cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the child ended by itself: %v", err)
	}
	late := unhurried(t.Context(), killedWithin)
	// The load goes on: it must not keep anything alive either. It may cost a SYN,
	// which is sent again only when the second is over.
	within := killedWithin / 20
	free := func() error {
		ifc, err := v.lab.Host.Interface()
		if err != nil {
			return err
		}
		if ifc.XDP != (hostif.XDP{}) {
			return fmt.Errorf("XDP program %d is still attached", ifc.XDP.ID)
		}
		for _, f := range families(v.lab) {
			for _, network := range []string{"tcp", "udp"} {
				if err := reach(v.lab.Peer, network, hostPort(f.host, 7), within); err != nil {
					within *= 2
					return err
				}
			}
		}
		return nil
	}
	for {
		err := free()
		if err == nil {
			return time.Since(start)
		}
		select {
		case <-late:
			t.Errorf("a second after the end: %v", err)
			return time.Since(start)
		case <-time.After(time.Millisecond):
		}
	}
}

// TestLabVictim is the child: a stack with services, and a process started by
// it, which inherits a pipe and nothing else.
func TestLabVictim(t *testing.T) {
	switch child() {
	case "victim":
	case "grandchild":
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // until the end
		return
	default:
		return // the child of TestLabKill runs it in earnest
	}
	// Output goes past the testing package, which would keep it.
	fail := func(err error) {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	gc := exec.Command(os.Args[0], "-test.run=^TestLabVictim$")
	gc.Env = append(os.Environ(), childEnv+"=grandchild")
	gc.Stdin = os.NewFile(3, "pipe")
	start := func() {
		if err := gc.Start(); err != nil {
			fail(err)
		}
	}
	s, err := stack.Open(stack.WithFlag(stack.Config{
		Interface:        lab.HostDevice,
		Addresses:        []netip.Prefix{netip.MustParsePrefix("10.77.0.1/24"), netip.MustParsePrefix("fd77::1/64")},
		NoDuplicateCheck: true,
	}))
	if err != nil {
		fail(err)
	}
	start() // now that there is something to inherit
	source, err := s.Listen("tcp", fmt.Sprintf(":%d", sourcePort))
	if err != nil {
		fail(err)
	}
	sink, err := s.Listen("tcp", fmt.Sprintf(":%d", sinkPort))
	if err != nil {
		fail(err)
	}
	datagrams, err := s.ListenPacket("udp", fmt.Sprintf(":%d", sinkPort))
	if err != nil {
		fail(err)
	}
	var both sync.WaitGroup
	both.Add(2)
	go serveEach(source, &both, flood)
	go serveEach(sink, &both, drain)
	go func() {
		for b := make([]byte, 2048); ; {
			if _, _, err := datagrams.ReadFrom(b); err != nil {
				fail(err)
			}
		}
	}()
	both.Wait()
	fmt.Println("under load")
	select {} // until the kill
}

// serveEach serves connections, and tells of the first.
func serveEach(ln net.Listener, first *sync.WaitGroup, use func(net.Conn)) {
	for n := 0; ; n++ {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		if n == 0 {
			first.Done()
		}
		go func() {
			defer c.Close()
			use(c)
		}()
	}
}
