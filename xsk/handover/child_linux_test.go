package handover

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// childEnv tells this program, started by itself, what to be: a helper, or a process
// without privileges. orderEnv has the details.
const (
	childEnv = "AFXNET_HANDOVER_TEST_CHILD"
	orderEnv = "AFXNET_HANDOVER_TEST_ORDER"
)

const patience = 20 * time.Second

// order is what a child is to do.
type order struct {
	Path   string
	Users  []uint32
	Allow  []netip.Prefix
	Groups []netip.Prefix
	Memory int64
	Huge   umem.HugePages
	HugeOK bool     // to the helper
	Queues []uint32 // of both
	Claim  []netip.Addr
}

// child is a process of a test's.
type child struct {
	*exec.Cmd
	t     *testing.T
	out   *bufio.Reader
	stdin io.Closer
}

// start runs this program as a child in the lab's host namespace.
func start(t *testing.T, l *lab.Lab, what string, o order) *child {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{Cmd: exec.Command(os.Args[0], "-test.run=^TestChild$"), t: t}
	c.Env = append(os.Environ(), childEnv+"="+what, orderEnv+"="+string(text))
	c.Stderr = t.Output()
	if c.stdin, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err == nil {
		err = l.Host.Do(c.Start)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	t.Cleanup(func() {
		c.Process.Kill() //nolint:errcheck // it may have ended
		c.Wait()         //nolint:errcheck // it was killed
	})
	return c
}

// expect reads the child's next line, which has to begin so.
func (c *child) expect(prefix string) string {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	if line = strings.TrimSpace(line); err != nil || !strings.HasPrefix(line, prefix) {
		c.t.Fatalf("the child says %q, %v; want %q", line, err, prefix)
	}
	return line
}

// stop lets the child end by itself, and wants it to succeed.
func (c *child) stop() {
	c.t.Helper()
	c.stdin.Close()
	c.expect("closed")
	if err := c.Wait(); err != nil {
		c.t.Error(err)
	}
}

func (c *child) kill() {
	c.t.Helper()
	if err := c.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	c.Wait() //nolint:errcheck // it was killed
}

// publicDir is a directory that nobody can get at, but not write to.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "afxnet-handover")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// startHelper starts a helper for user nobody, and returns the order for his
// processes.
func startHelper(t *testing.T, l *lab.Lab, o order) (*child, order) {
	t.Helper()
	o.Path = filepath.Join(publicDir(t), "afx0.sock")
	if o.Users == nil {
		o.Users = []uint32{lab.Nobody}
	}
	if o.Allow == nil {
		o.Allow = []netip.Prefix{netip.PrefixFrom(l.StackV4.Addr(), 32), netip.PrefixFrom(l.StackV6.Addr(), 128)}
	}
	if o.Claim == nil {
		o.Claim = []netip.Addr{l.StackV4.Addr(), l.StackV6.Addr()}
	}
	helper := start(t, l, "helper", o)
	helper.expect("serving")
	return helper, o
}

// TestChild is the children.
func TestChild(t *testing.T) {
	what := os.Getenv(childEnv)
	if what == "" {
		return // its parents are the other tests
	}
	var o order
	err := json.Unmarshal([]byte(os.Getenv(orderEnv)), &o)
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() { // until the parent wants the end, or has ended
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // the end is what matters
		cancel()
	}()
	switch {
	case err != nil:
	case what == "helper":
		// All that it needs: Serve does what takes them on its own thread.
		lab.KeepCapabilities(t, unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_IPC_LOCK)
		err = beHelper(ctx, o)
	case what == "root":
		err = beProcess(ctx, o)
	case os.Getuid() == 0: // "nobody"
		err = lab.ExecUnprivileged(os.Args, os.Environ())
	default:
		if err = checkUnprivileged(); err == nil {
			err = beProcess(ctx, o)
		}
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("closed")
	os.Exit(0)
}

func beHelper(ctx context.Context, o order) error {
	l, err := Listen(o.Path, 0o666)
	if err != nil {
		return err
	}
	fmt.Println("serving")
	return Serve(ctx, l, ServerConfig{
		Interface: lab.HostDevice, Users: o.Users, Addresses: o.Allow, Groups: o.Groups, MaxMemory: o.Memory, HugePages: o.HugeOK,
		Log: func(line string) { fmt.Fprintln(os.Stderr, "helper:", line) },
	})
}

// checkUnprivileged wants the process to have nothing.
func checkUnprivileged() error {
	text, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return err
	}
	for _, want := range []string{"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Uid:\t65534\t65534\t65534\t65534"} {
		if !bytes.Contains(text, []byte(want+"\n")) {
			return fmt.Errorf("not %q in %s", want, text)
		}
	}
	if fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0); err != unix.EPERM {
		return fmt.Errorf("socket: %d, %v", fd, err)
	}
	return nil
}

// beProcess opens what the helper gives, and echoes UDP over IPv4 until ctx ends or
// the helper does.
func beProcess(ctx context.Context, o order) (err error) {
	set, err := Open(Config{Path: o.Path, Queues: o.Queues, Socket: xsk.Config{
		Rings: xsk.RingSizes{RX: 256, TX: 256}, UMEM: umem.Config{HugePages: o.Huge}, BusyTimeout: patience,
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	for _, a := range o.Claim {
		if err := set.AddAddress(a); err != nil {
			return err
		}
	}
	fmt.Println("open", len(set.Sockets()), set.Mode())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error)
	for _, s := range set.Sockets() {
		go func() { errs <- echo(ctx, s) }()
	}
	select {
	case <-set.Done():
		fmt.Println("the helper has gone:", set.Err())
		cancel()
	case <-ctx.Done():
	}
	for range set.Sockets() {
		err = errors.Join(err, <-errs)
	}
	c, countErr := set.Counters()
	if countErr == nil {
		fmt.Println("redirected", c.RedirectIPv4)
	}
	return err
}

func echo(ctx context.Context, s *xsk.Socket) error {
	defer context.AfterFunc(ctx, s.Interrupt)()
	rx, tx, batch := s.RX(), s.TX(), make([]umem.Desc, 64)
	for ctx.Err() == nil {
		n := rx.Receive(batch)
		for _, d := range batch[:n] {
			b := s.Region().Bytes(d)
			if !reflect(b) || !tx.Queue(d.Addr, len(b)) {
				rx.Recycle([]umem.Desc{d})
			}
		}
		tx.Flush()
		tx.Reclaim()
		rx.Refill()
		if n == 0 {
			if err := errors.Join(rx.Err(), tx.Err(), s.Wait(false, 100*time.Millisecond)); err != nil {
				return err
			}
		}
	}
	return nil
}

// reflect turns a datagram into its echo, which leaves every checksum as it is. The
// lab's peer needs no ARP.
func reflect(b []byte) bool {
	if len(b) < 42 || binary.BigEndian.Uint16(b[12:]) != 0x0800 || b[14] != 0x45 || b[23] != 17 {
		return false
	}
	swap := func(i, j, n int) {
		var t [6]byte
		copy(t[:n], b[i:])
		copy(b[i:i+n], b[j:j+n])
		copy(b[j:], t[:n])
	}
	swap(0, 6, 6)
	swap(26, 30, 4)
	swap(34, 36, 2)
	return true
}
