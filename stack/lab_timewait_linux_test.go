package stack_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/soak/traffic"
	"github.com/afxnet/afxnet/stack"
)

// TestLabComeback has a kernel upload a lot from one port again and again. The
// stack closes first each time: the next connection finds the last one in
// TIME-WAIT, with a higher sequence number than its own.
func TestLabComeback(t *testing.T) {
	s := openLab(t, lab.Config{}, stack.Config{})
	for _, f := range families(s.lab) {
		ln, err := s.Listen("tcp", hostPort(f.stack, 0))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			var kernel net.Conn
			// The kernel has the port in use until its FIN is acknowledged.
			for busy := true; busy; busy = errors.Is(err, unix.EADDRNOTAVAIL) {
				kernel, err = dialFrom(s.lab.Peer, netip.AddrPortFrom(f.peer, 40000), ln.Addr().String())
			}
			if err != nil {
				t.Fatalf("%s, connection %d: %v", f.name, i, err)
			}
			ours, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			deadline(t, kernel, ours)
			if err := traffic.Transfer(kernel, ours, uint64(i), 64<<20); err != nil {
				t.Fatal(err)
			}
			if err := ours.Close(); err != nil {
				t.Fatal(err)
			}
			// The end of the stack's direction: from here on it is up to the peer.
			if n, err := kernel.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Fatalf("after Close the peer reads %d bytes, %v", n, err)
			}
			if err := kernel.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// dialFrom connects a kernel socket with a port of its own choice.
func dialFrom(n *lab.Namespace, from netip.AddrPort, to string) (conn net.Conn, err error) {
	d := net.Dialer{
		Timeout:   patience,
		LocalAddr: net.TCPAddrFromAddrPort(from),
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			if cerr := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			}); cerr != nil {
				return cerr
			}
			return err
		},
	}
	d.SetMultipathTCP(false)
	err = n.Do(func() error {
		conn, err = d.DialContext(context.Background(), "tcp", to)
		return err
	})
	return conn, err
}
