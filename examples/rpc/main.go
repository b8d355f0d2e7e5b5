// Command rpc serves and calls net/rpc on sockets that bypass the kernel:
//
//	go run ./examples/rpc -i eth0 -addr 192.0.2.10/24 -gw 192.0.2.1
//
// is a server; another one with -to is its client. With -lab it makes a private
// network, and is both there, against the kernel's sockets:
//
//	go run ./examples/rpc -lab
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"slices"
	"sync"

	"github.com/afxnet/afxnet/examples/internal/demo"
)

var program = demo.Program{Name: "rpc", Port: 1234, Serve: serve, Use: use}

func main() { demo.Main(program) }

// Bytes is the service: it has one method, Reverse.
type Bytes struct{}

// Reverse answers with the bytes in reverse order.
func (Bytes) Reverse(in []byte, out *[]byte) error {
	if len(in) == 0 {
		return errors.New("nothing to reverse")
	}
	*out = slices.Clone(in)
	slices.Reverse(*out)
	return nil
}

// serve is an ordinary RPC server, but for where its listener comes from.
func serve(h demo.Host, address string) (stop func() error, err error) {
	l, err := h.Listen("tcp", address) // instead of net.Listen
	if err != nil {
		return nil, err
	}
	srv := rpc.NewServer()
	if err := srv.Register(Bytes{}); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if demo.Away(err) {
				continue
			}
			if err != nil {
				return // closed
			}
			wg.Go(func() { srv.ServeConn(c) })
		}
	})
	return func() error {
		defer wg.Wait() // for clients to hang up
		return l.Close()
	}, nil
}

const calls = 2000

// use makes calls on one connection, many at a time, with 1 byte to 16 KB each.
func use(ctx context.Context, h demo.Host, address string) (string, error) {
	conn, err := h.DialContext(ctx, "tcp", address) // instead of net.Dial
	if err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return fmt.Sprintf("%d calls, intact", calls), call(conn)
}

func call(conn net.Conn) error {
	c := rpc.NewClient(conn)
	defer c.Close()
	if err := c.Call("Bytes.Reverse", []byte{}, new([]byte)); err != rpc.ServerError("nothing to reverse") {
		return fmt.Errorf("a call that has to fail: %w", err)
	}
	text := demo.Bytes(1, 16<<10)
	done := make(chan *rpc.Call, calls)
	for i := range calls {
		c.Go("Bytes.Reverse", text[:1+i*i%len(text)], new([]byte), done)
	}
	for range calls {
		r := <-done
		if r.Error != nil {
			return r.Error
		}
		back := *r.Reply.(*[]byte)
		slices.Reverse(back)
		if !bytes.Equal(back, r.Args.([]byte)) {
			return errors.New("an answer is not the bytes in reverse order")
		}
	}
	return nil
}
