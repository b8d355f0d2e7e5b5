// Command quic serves and dials QUIC, with quic-go, on UDP sockets that bypass
// the kernel:
//
//	go -C examples/libraries run ./quic -i eth0 -addr 192.0.2.10/24 -gw 192.0.2.1
//
// is a server; another one with -to is its client. With -lab it makes a private
// network, and is both there, against the kernel's sockets:
//
//	go -C examples/libraries run ./quic -lab
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/afxnet/afxnet/examples/internal/demo"
)

var program = demo.Program{Name: "quic", Port: 4433, Serve: serve, Use: use}

func main() { demo.Main(program) }

// serve is an ordinary QUIC server, but for where its UDP socket comes from. It
// echoes every stream.
func serve(h demo.Host, address string) (stop func() error, err error) {
	config, _, err := demo.TLS("echo")
	if err != nil {
		return nil, err
	}
	p, err := h.ListenPacket("udp", address) // instead of net.ListenPacket
	if err != nil {
		return nil, err
	}
	l, err := quic.Listen(p, config, nil)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept(context.Background())
			if err != nil {
				return // closed
			}
			wg.Go(func() { echo(c) })
		}
	})
	return func() error {
		err := errors.Join(l.Close(), p.Close())
		wg.Wait()
		return err
	}, nil
}

func echo(c *quic.Conn) {
	for {
		s, err := c.AcceptStream(c.Context())
		if err != nil {
			return // the client is gone
		}
		go func() {
			defer s.Close()
			io.Copy(s, s) //nolint:errcheck // the client is gone
		}()
	}
}

const (
	streams = 8
	length  = 1 << 20 // bytes of each
)

// use sends on several streams of one connection at a time, and reads back.
func use(ctx context.Context, h demo.Host, address string) (did string, err error) {
	_, config, err := demo.TLS("echo")
	if err != nil {
		return "", err
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return "", err
	}
	p, err := h.ListenPacket("udp", ":0") // instead of net.ListenPacket
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	c, err := quic.Dial(ctx, p, net.UDPAddrFromAddrPort(to), config, nil)
	if err != nil {
		return "", err
	}
	defer c.CloseWithError(0, "done") //nolint:errcheck // the last word

	var wg sync.WaitGroup
	errs := make([]error, streams)
	for i := range streams {
		wg.Go(func() { errs[i] = exchange(ctx, c, byte(i)) })
	}
	wg.Wait()
	return fmt.Sprintf("%d streams of %d bytes, intact", streams, length), errors.Join(errs...)
}

func exchange(ctx context.Context, c *quic.Conn, seed byte) error {
	s, err := c.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(s, demo.Content(seed, length))
		sent <- errors.Join(err, s.Close())
	}()
	return errors.Join(demo.Check(s, seed, length), <-sent)
}
