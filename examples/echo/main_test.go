package main

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/examples/internal/demotest"
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
