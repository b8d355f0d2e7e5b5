// Command tls serves and dials TLS, package crypto/tls's, on sockets that bypass
// the kernel. Every connection after the first resumes its session:
//
//	go run ./examples/tls -i eth0 -addr 192.0.2.10/24 -gw 192.0.2.1
//
// is a server; another one with -to is its client. With -lab it makes a private
// network, and is both there, against the kernel's sockets:
//
//	go run ./examples/tls -lab
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/afxnet/afxnet/examples/internal/demo"
)

var program = demo.Program{Name: "tls", Port: 7443, Serve: serve, Use: use}

func main() { demo.Main(program) }

// serve is an echo service over TLS.
func serve(h demo.Host, address string) (stop func() error, err error) {
	config, _, err := demo.TLS()
	if err != nil {
		return nil, err
	}
	inner, err := h.Listen("tcp", address) // instead of net.Listen
	if err != nil {
		return nil, err
	}
	l := tls.NewListener(inner, config)
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
			wg.Go(func() {
				defer c.Close()
				io.Copy(c, c) //nolint:errcheck // the client is gone
			})
		}
	})
	return func() error {
		defer wg.Wait() // for clients to hang up
		return l.Close()
	}, nil
}

const (
	connections = 20
	message     = 256 << 10 // bytes
)

// use connects again and again, and sends a message each time.
func use(ctx context.Context, h demo.Host, address string) (string, error) {
	_, config, err := demo.TLS()
	if err != nil {
		return "", err
	}
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range connections {
		resumed, err := exchange(ctx, h, address, config, byte(i))
		if err != nil {
			return "", err
		}
		if want := i > 0; resumed != want {
			return "", fmt.Errorf("connection %d: resumed %v, want %v", i, resumed, want)
		}
	}
	return fmt.Sprintf("%d connections, %d resumed, %d bytes each, intact", connections, connections-1, message), nil
}

// exchange sends a message and reads it back. It tells whether the connection
// resumed the session of an earlier one.
func exchange(ctx context.Context, h demo.Host, address string, config *tls.Config, seed byte) (resumed bool, err error) {
	inner, err := h.DialContext(ctx, "tcp", address) // instead of net.Dial
	if err != nil {
		return false, err
	}
	c := tls.Client(inner, config)
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.HandshakeContext(ctx); err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { inner.Close() })()
	text := demo.Bytes(seed, message)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(text)
		sent <- err
	}()
	back := make([]byte, len(text))
	if _, err := io.ReadFull(c, back); err != nil {
		return false, err
	}
	if !bytes.Equal(back, text) {
		return false, errors.New("the message came back changed")
	}
	return c.ConnectionState().DidResume, <-sent
}
