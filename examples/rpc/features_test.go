package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"net/rpc"
	"net/rpc/jsonrpc"
	"testing"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/examples/internal/demotest"
)

// TestJSON calls with another coding.
func TestJSON(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		l, err := pair.Server.Listen("tcp", ":1234")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		srv := rpc.NewServer()
		if err := srv.Register(Bytes{}); err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				srv.ServeCodec(jsonrpc.NewServerCodec(c))
			}
		}()
		conn, err := pair.Client.DialContext(ctx, "tcp", netip.AddrPortFrom(pair.Addr, 1234).String())
		if err != nil {
			t.Fatal(err)
		}
		c := jsonrpc.NewClient(conn)
		defer c.Close()
		var back []byte
		if err := c.Call("Bytes.Reverse", []byte("abc"), &back); err != nil || !bytes.Equal(back, []byte("cba")) {
			t.Errorf("%q, %v", back, err)
		}
	})
}

// TestLost ends the calls that are under way when the connection is lost.
func TestLost(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		l, err := pair.Server.Listen("tcp", ":1234")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				io.ReadFull(c, make([]byte, 1)) //nolint:errcheck // it is closed in any case
				c.Close()
			}
		}()
		conn, err := pair.Client.DialContext(ctx, "tcp", netip.AddrPortFrom(pair.Addr, 1234).String())
		if err != nil {
			t.Fatal(err)
		}
		c := rpc.NewClient(conn)
		defer c.Close()
		if err := c.Call("Bytes.Reverse", demo.Bytes(1, 1000), new([]byte)); err == nil {
			t.Error("a call succeeds without a server")
		}
		if err := c.Call("Bytes.Reverse", demo.Bytes(1, 1000), new([]byte)); !errors.Is(err, rpc.ErrShutdown) {
			t.Errorf("and the next one: %v", err)
		}
	})
}
