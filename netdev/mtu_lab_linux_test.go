package netdev

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"github.com/afxnet/afxnet/internal/lab"
)

// TestLabMTUShrinks makes the MTU of both ends smaller while a connection is there:
// it goes on.
func TestLabMTUShrinks(t *testing.T) {
	const size, mtu = 1 << 20, 1280
	l := lab.New(t, lab.Config{})
	d, s := labStack(t, l, Config{})
	ln, err := gonet.ListenTCP(s, tcpip.FullAddress{Port: 7}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	data := pattern(1, size)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
			c.Write(data)
		}
	}()
	c, err := l.Peer.Dial(context.Background(), "tcp", net.JoinHostPort(l.StackV4.Addr().String(), "7"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	end := time.Now().Add(20 * time.Second)
	if err := c.SetDeadline(end); err != nil {
		t.Fatal(err)
	}
	if err := l.SetMTU(mtu); err != nil {
		t.Fatal(err)
	}
	for d.MTU() != mtu {
		if time.Now().After(end) {
			t.Fatalf("the device has an MTU of %d, its interface %d", d.MTU(), mtu)
		}
		runtime.Gosched()
	}
	if _, err := c.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size)
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, or others: %v", n, size, err)
	}
}
