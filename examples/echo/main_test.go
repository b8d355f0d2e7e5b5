package main

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/examples/internal/demotest"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/stack"
)

// TestInterrupt ends the service while a client is connected that does not hang up.
func TestInterrupt(t *testing.T) {
	pair := demotest.Wire(t, stack.Config{}, wire.Faults{})
	s, ok := pair.Server.(*stack.Stack)
	if !ok {
		t.Fatalf("the server is a %T", pair.Server)
	}
	e, err := serve(s, ":7")
	if err != nil {
		t.Fatal(err)
	}
	c, err := pair.Client.DialContext(t.Context(), "tcp", net.JoinHostPort(pair.Addr.String(), "7"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Write([]byte("hello"))
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 5))
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- demo.End(s, e.close) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the service waits for its client")
	}
}

// downListener and downPacketConn are of an interface that is down, once.
type downListener struct {
	net.Listener
	calls int
}

func (l *downListener) Accept() (net.Conn, error) {
	if l.calls++; l.calls == 1 {
		return nil, syscall.ENETDOWN
	}
	return l.Listener.Accept()
}

type downPacketConn struct {
	net.PacketConn
	calls int
}

func (c *downPacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	if c.calls++; c.calls == 1 {
		return 0, nil, syscall.ENETDOWN
	}
	return c.PacketConn.ReadFrom(b)
}

// TestDown has the service go on when its interface was set down and is up again.
func TestDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{tcp: &downListener{Listener: l}, udp: &downPacketConn{PacketConn: p}}
	e.wg.Go(e.serveTCP)
	e.wg.Go(e.serveUDP)
	for _, addr := range []net.Addr{l.Addr(), p.LocalAddr()} {
		c, err := net.Dial(addr.Network(), addr.String())
		if err != nil {
			t.Fatal(err)
		}
		err = c.SetDeadline(time.Now().Add(patience))
		if err == nil {
			_, err = c.Write([]byte("hello"))
		}
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 5))
		}
		if err != nil {
			t.Errorf("%s: %v", addr.Network(), err)
		}
		c.Close()
	}
	if err := e.close(); err != nil {
		t.Error(err)
	}
}

// TestGone ends the service when its interface is deleted, and says why.
func TestGone(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // or it would go on for good
	defer cancel()
	deleted := make(chan error, 1)
	go func() {
		for ctx.Err() == nil { // until it serves
			c, err := l.Peer.Dial(ctx, "tcp", net.JoinHostPort(l.StackV4.Addr().String(), "7"))
			if err == nil {
				c.Close()
				break
			}
		}
		deleted <- l.Delete()
	}()
	err := l.Host.Do(func() error {
		return runInterface(ctx, options{iface: lab.HostDevice, addrs: l.StackV4.String(), listen: ":7"})
	})
	if !errors.Is(err, syscall.ENODEV) {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := <-deleted; err != nil {
		t.Error(err)
	}
}
