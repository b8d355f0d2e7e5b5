package stack_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/soak/traffic"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/handover"
)

// handoverEnv is the path of the helper's socket, in the environment of the process
// that runs TestHandoverChild.
const handoverEnv = "AFXNET_STACK_TEST_HANDOVER"

// TestLabHandover has a process that can do nothing by privilege run a stack, over
// sockets of a helper: TCP both ways, connections of its own and of the peer, and UDP to
// multicast groups, over IPv4 and IPv6, byte for byte. When the helper ends, its link goes down for good.
func TestLabHandover(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{Queues: 2})
	dir, err := os.MkdirTemp("", "afxnet-handover") // that of t is out of nobody's reach
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "afx0.sock")
	ul, err := handover.Listen(path, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	helper := make(chan error, 1)
	go func() {
		helper <- l.Host.Do(func() error {
			return handover.Serve(ctx, ul, handover.ServerConfig{
				Interface: lab.HostDevice, Users: []uint32{lab.Nobody},
				Addresses: []netip.Prefix{l.StackV4.Masked(), l.StackV6.Masked()},
				Groups: []netip.Prefix{
					netip.MustParsePrefix("239.77.0.0/16"), netip.MustParsePrefix("ff05::/16"),
					netip.MustParsePrefix("224.0.0.0/24"), netip.MustParsePrefix("ff02::/16"), // to no avail
				},
			})
		})
	}()

	cmd := exec.Command(os.Args[0], "-test.run=^TestHandoverChild$")
	cmd.Env = append(os.Environ(), handoverEnv+"="+path)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = l.Host.Do(cmd.Start)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()         //nolint:errcheck // it was killed, or has ended
	defer cmd.Process.Kill() //nolint:errcheck // it may have ended
	lines := bufio.NewReader(out)
	expect := func(prefix string) {
		t.Helper()
		if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, prefix) {
			t.Fatalf("the process says %q, %v; want %q", line, err, prefix)
		}
	}
	// It dials this echo server, which is the peer's kernel's, and sees to it
	// itself that all comes back.
	for _, f := range families(l) {
		ln, err := l.Peer.Listen("tcp", hostPort(f.peer, 7))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go echoOnce(ln)
	}
	expect("listening")
	for i, f := range families(l) {
		group := kernelSender(t, l.Peer, f, f.peer)
		all := randomDatagrams(1452)
		sendTo(t, group, groupAt(labGroups[i].ours), all...)
		wantRead(t, f.name+" by multicast", group, all...)
		dialCtx, stop := context.WithTimeout(t.Context(), patience)
		c, err := l.Peer.Dial(dialCtx, "tcp", hostPort(f.stack, 7))
		stop()
		if err == nil {
			err = thereAndBack(c)
		}
		if err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
	}
	cancel()
	if err := <-helper; err != nil {
		t.Error(err)
	}
	expect("down")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestHandoverChild is the process.
func TestHandoverChild(t *testing.T) {
	path := os.Getenv(handoverEnv)
	if path == "" {
		return // TestLabHandover runs it
	}
	err := func() error {
		if os.Getuid() == 0 {
			return lab.ExecUnprivileged(os.Args, os.Environ())
		}
		return beUnprivileged(path)
	}()
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func beUnprivileged(path string) (err error) {
	addrs := []netip.Prefix{netip.MustParsePrefix("10.77.0.1/24"), netip.MustParsePrefix("fd77::1/64")}
	down := make(chan error, 1)
	_, err = netdev.Open(netdev.Config{Interface: lab.HostDevice, Handover: path, Attach: xsk.AttachGeneric})
	if err == nil || !strings.Contains(err.Error(), "Config.Attach") {
		return fmt.Errorf("the helper attaches in native mode, netdev asks for generic: %w", err)
	}
	s, err := stack.Open(stack.WithFlag(stack.Config{
		Interface: lab.HostDevice, Addresses: addrs,
		Device: netdev.Config{Handover: path, OnLink: func(err error) {
			if err != nil {
				down <- err
			}
		}},
	}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if info := s.Device().Info(); len(info.Queues) != 2 || info.Driver != "veth" {
		return fmt.Errorf("%+v", info)
	}
	for _, a := range addrs {
		ln, err := s.Listen("tcp", hostPort(a.Addr(), 7))
		if err != nil {
			return err
		}
		go echoOnce(ln)
		c, err := s.Dial("tcp", hostPort(a.Addr().Next(), 7))
		if err == nil {
			err = thereAndBack(c)
		}
		if err != nil {
			return err
		}
	}
	for i, g := range labGroups {
		// A socket of both families hears what is sent to the IPv4 group, too.
		c, err := s.ListenMulticastUDP([...]string{"udp4", "udp6"}[i], nil, groupAt(g.ours))
		if err != nil {
			return err
		}
		go traffic.EchoUDP(c)
		if _, err := s.ListenMulticastUDP("udp", nil, groupAt(g.link)); !errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("%s, a group of the link's: %w", g.link, err)
		}
	}
	if _, err := s.ListenMulticastUDP("udp", nil, groupAt("239.78.0.1")); !errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("a group that the helper does not give: %w", err)
	}
	server, err := s.Listen("tcp", ":8")
	if err != nil {
		return err
	}
	defer server.Close()
	fmt.Println("listening")
	if err := <-down; !errors.Is(err, syscall.ENETDOWN) || !errors.Is(err, syscall.ENODEV) || !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("the helper has gone: %w", err)
	}
	// A server that is told to try again does so for ever.
	_, err = server.Accept()
	if e, ok := err.(interface{ Temporary() bool }); !ok || e.Temporary() {
		return fmt.Errorf("Accept without a helper: %w", err)
	}
	if st, err := s.Device().Stats(); err == nil || st.Queues[0].Socket.RXFrames+st.Queues[1].Socket.RXFrames == 0 {
		return fmt.Errorf("%+v, %w", st, err)
	}
	fmt.Println("down")
	return nil
}

func echoOnce(ln net.Listener) {
	c, err := ln.Accept()
	if err != nil {
		return // the other side's test fails
	}
	io.Copy(c, c) //nolint:errcheck // the other side's test fails
	c.Close()
}

// thereAndBack sends 2 MiB to an echo server and wants the same.
func thereAndBack(c net.Conn) error {
	defer c.Close()
	sent := make([]byte, 2<<20)
	rand.NewChaCha8([32]byte{7}).Read(sent) //nolint:errcheck // never fails
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		wrote <- err
	}()
	got := make([]byte, len(sent))
	n, err := io.ReadFull(c, got)
	if err != nil || !bytes.Equal(got, sent) {
		return fmt.Errorf("%d of %d bytes came back, the same %v: %w", n, len(sent), bytes.Equal(got, sent), errors.Join(err, <-wrote))
	}
	return <-wrote
}
