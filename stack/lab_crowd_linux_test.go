package stack_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/stack"
)

const (
	idlePort  = 80
	idleRoom  = 8 << 10 // bytes of heap for each connection
	idleHosts = 160     // addresses of each process: netstack's neighbour cache has room for 512
)

// TestLabCrowd has processes on kernel sockets, one of them over IPv6, connect to a
// stack at the same moment, on a listener with the default backlog. The
// connections stay, idle; then some carry data, and all end, each process's in
// another way.
func TestLabCrowd(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	const processes = 4
	each := 2500
	if testing.Short() || raced.Enabled {
		each = 250
	}
	n := processes * each
	l := lab.New(t, lab.Config{})
	cfg := stack.Config{
		Addresses:        []netip.Prefix{netip.PrefixFrom(l.StackV4.Addr(), 16), l.StackV6},
		NoDuplicateCheck: true, // no kernel has them
	}
	peer, err := l.Peer.Interface()
	check(t, err)
	for p := range processes {
		for i := range idleHosts {
			a := idleHost(p, i)
			check(t, l.Peer.AddAddress(a))
			cfg.Neighbors = append(cfg.Neighbors, stack.Neighbor{Addr: a.Addr(), HardwareAddr: peer.MAC})
		}
	}
	s := openIn(t, l, cfg)
	ln, err := s.Listen("tcp", fmt.Sprint(":", idlePort))
	check(t, err)
	defer ln.Close()

	var clients []*crowdClients
	for p := range processes {
		clients = append(clients, startCrowd(t, l, p, each))
	}
	var conns [processes][]*stack.TCPConn
	accept := func(n int) {
		t.Helper()
		for range n {
			conn, err := ln.Accept()
			check(t, err)
			c := conn.(*stack.TCPConn)
			p := processOf(c.RemoteAddr())
			conns[p] = append(conns[p], c)
		}
	}
	// The first makes the tables.
	clients[0].tell(t, "first")
	accept(1)
	clients[0].expect(t, "connected")
	heap, goroutines := heapInUse(), runtime.NumGoroutine()

	for _, c := range clients {
		c.tell(t, "all")
	}
	accept(n - 1)
	for _, c := range clients {
		c.expect(t, "connected")
	}
	per := (int64(heapInUse()) - int64(heap)) / int64(n)
	t.Logf("%d connections of %d hosts: %d bytes each", n, processes*idleHosts, per)
	if per > idleRoom {
		t.Errorf("an idle connection takes %d bytes, want %d at most", per, idleRoom)
	}
	if err := eventually(patience, func() error {
		if is := runtime.NumGoroutine(); is > goroutines+n/1000 {
			return fmt.Errorf("%d goroutines with %d connections, %d without", is, n, goroutines)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}

	// In a long run each is probed twice meanwhile.
	<-time.After(longOr(40*time.Second, 0))
	for p := range conns {
		for range 25 {
			c := conns[p][mrand.IntN(each)]
			if err := echoed(c, 10_000); err != nil {
				t.Errorf("%v: %v", c.RemoteAddr(), err)
			}
		}
	}

	clients[0].kill(t)     // the kernel ends them
	clients[1].tell(t, "") // it ends them
	clients[2].tell(t, "") // it ends them
	for p := range conns {
		for _, c := range conns[p] {
			if p == 3 {
				check(t, c.SetLinger(0)) // we end them
			} else if m, err := c.Read(make([]byte, 1)); err == nil {
				t.Fatalf("%v: read %d bytes", c.RemoteAddr(), m)
			}
			check(t, c.Close())
		}
		conns[p] = nil
	}
	for _, c := range clients[1:] {
		c.wait(t)
	}
	// The last acknowledgements may be under way.
	if err := eventually(patience, func() error {
		if is := runtime.NumGoroutine(); is > goroutines {
			return fmt.Errorf("%d goroutines are left, %d were there before", is, goroutines)
		}
		if left := int64(heapInUse()) - int64(heap); left > int64(n)*400 {
			return fmt.Errorf("%d bytes are left of each connection", left/int64(n))
		}
		if is := len(s.Netstack().RegisteredEndpoints()); is > 2 {
			return fmt.Errorf("%d endpoints are left beside those that listen, one for each family", is-2)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	s.conserved(t)
}

// idleHost returns an address of a process.
func idleHost(process, i int) netip.Prefix {
	if process == 0 {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 14: 100, 15: byte(i)}), 64)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(100 + process), byte(1 + i)}), 16)
}

// processOf returns whose address it is.
func processOf(a net.Addr) int {
	ip := a.(*net.TCPAddr).AddrPort().Addr()
	if ip.Is6() {
		return 0
	}
	return int(ip.As4()[2]) - 100
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools give up what they keep in the second one
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// echoed sends n bytes and wants them back.
func echoed(c net.Conn, n int) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	sent, got := make([]byte, n), make([]byte, n)
	rand.Read(sent) //nolint:errcheck // it never fails
	if _, err := c.Write(sent); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != string(sent) {
		return errors.New("other bytes have come back")
	}
	return nil
}

// crowdClients is a process that connects and sends back what it gets.
type crowdClients struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startCrowd(t *testing.T, l *lab.Lab, process, n int) *crowdClients {
	t.Helper()
	c := &crowdClients{cmd: exec.Command(os.Args[0], "-test.run=^TestLabCrowdClients$", mechanism.Argument())}
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=idle %d %d", childEnv, process, n))
	c.cmd.Stderr = os.Stderr
	var err error
	c.in, err = c.cmd.StdinPipe()
	check(t, err)
	out, err := c.cmd.StdoutPipe()
	check(t, err)
	check(t, l.Peer.Do(c.cmd.Start))
	t.Cleanup(func() {
		c.cmd.Process.Kill() //nolint:errcheck // it may have ended
		c.cmd.Wait()         //nolint:errcheck // if nobody has
	})
	c.out = bufio.NewScanner(out)
	c.expect(t, "ready")
	return c
}

// tell gives the process an order; the empty one is the end of orders.
func (c *crowdClients) tell(t *testing.T, order string) {
	t.Helper()
	if order == "" {
		check(t, c.in.Close())
		return
	}
	_, err := fmt.Fprintln(c.in, order)
	check(t, err)
}

func (c *crowdClients) expect(t *testing.T, answer string) {
	t.Helper()
	if !c.out.Scan() || c.out.Text() != answer {
		t.Fatalf("a process of clients says %q, not %q: %v", c.out.Text(), answer, c.out.Err())
	}
}

func (c *crowdClients) kill(t *testing.T) {
	t.Helper()
	check(t, c.cmd.Process.Kill())
	c.cmd.Wait() //nolint:errcheck // it was killed
}

func (c *crowdClients) wait(t *testing.T) {
	t.Helper()
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("a process of clients: %v", err)
	}
}

// TestLabCrowdClients is the process.
func TestLabCrowdClients(t *testing.T) {
	args := strings.Fields(child())
	if len(args) != 3 || args[0] != "idle" {
		return // the child of TestLabCrowd runs it in earnest
	}
	// Output goes past the testing package, which would keep it.
	fail := func(err error) {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	process, err1 := strconv.Atoi(args[1])
	n, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2); err != nil {
		fail(err)
	}
	to := hostPort(netip.MustParseAddr("10.77.0.1"), idlePort)
	if process == 0 {
		to = hostPort(netip.MustParseAddr("fd77::1"), idlePort)
	}
	conns := make([]net.Conn, n)
	var open, use sync.WaitGroup
	connect := func(i int) {
		open.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: idleHost(process, i%idleHosts).Addr().AsSlice()}}
			ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
			defer cancel()
			c, err := d.DialContext(ctx, "tcp", to)
			if err != nil {
				fail(err)
			}
			conns[i] = c
			use.Go(func() {
				if err := sendBack(c); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, net.ErrClosed) {
					fail(err)
				}
			})
		})
	}
	fmt.Println("ready")
	next := 0
	for in := bufio.NewScanner(os.Stdin); next < n && in.Scan(); {
		until := n
		if in.Text() == "first" {
			until = 1
		}
		for ; next < until; next++ {
			connect(next)
		}
		open.Wait()
		fmt.Println("connected")
	}
	ended := make(chan struct{})
	go func() { use.Wait(); close(ended) }()
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // until the end of orders
		for _, c := range conns {
			c.Close()
		}
	}()
	<-ended
}

// sendBack returns what comes until the end. io.Copy would have a pipe and some
// files for each.
func sendBack(c net.Conn) error {
	defer c.Close()
	for b := make([]byte, 1024); ; {
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
	}
}
