package demotest

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/stack"
)

// Outage returns two stacks over a wire in memory, and a function that sets the server's
// device down, waits until as many calls of its sockets have been told, and sets it up
// again. Sockets are those made by Listen and ListenPacket.
func Outage(t *testing.T) (pair demo.Pair, outage func(ctx context.Context, calls int)) {
	t.Helper()
	pair = Wire(t, stack.Config{}, wire.Faults{})
	dev := pair.Server.(*stack.Stack).Device()
	told := make(chan error, 16)
	pair.Server = tellingHost{pair.Server, told}
	return pair, func(ctx context.Context, calls int) {
		t.Helper()
		dev.SetLink(fmt.Errorf("the server's device is down: %w", syscall.ENETDOWN))
		for range calls {
			select {
			case err := <-told:
				t.Log(err)
			case <-ctx.Done():
				t.Fatal("a call has not been told of the outage")
			}
		}
		dev.SetLink(nil)
	}
}

// A tellingHost has sockets that tell of errors.
type tellingHost struct {
	demo.Host
	told chan error
}

func (h tellingHost) Listen(network, address string) (net.Listener, error) {
	l, err := h.Host.Listen(network, address)
	if err != nil {
		return nil, err
	}
	return tellingListener{l, h.told}, nil
}

func (h tellingHost) ListenPacket(network, address string) (net.PacketConn, error) {
	p, err := h.Host.ListenPacket(network, address)
	if err != nil {
		return nil, err
	}
	return tellingPacketConn{p, h.told}, nil
}

type tellingListener struct {
	net.Listener
	told chan error
}

func (l tellingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	tell(l.told, err)
	return c, err
}

type tellingPacketConn struct {
	net.PacketConn
	told chan error
}

func (p tellingPacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := p.PacketConn.ReadFrom(b)
	tell(p.told, err)
	return n, from, err
}

func tell(told chan error, err error) {
	if err != nil {
		select {
		case told <- err:
		default: // nobody asks so many
		}
	}
}
