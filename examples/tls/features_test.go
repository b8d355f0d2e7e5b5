package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/examples/internal/demotest"
)

// TestResumption resumes sessions of both versions that have a way of their own
// to do so.
func TestResumption(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		address := service(t, pair, serve)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			_, config, err := demo.TLS()
			if err != nil {
				t.Fatal(err)
			}
			config.MaxVersion = version
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for i := range 3 {
				if resumed, err := exchange(ctx, pair.Client, address, config, byte(i)); err != nil || resumed != (i > 0) {
					t.Errorf("%s, connection %d: resumed %v, %v", tls.VersionName(version), i, resumed, err)
				}
			}
		}
	})
}

// service runs the example's server, or one like it, and returns its address.
func service(t *testing.T, pair demo.Pair, serve func(demo.Host, string) (func() error, error)) string {
	t.Helper()
	stop, err := serve(pair.Server, ":7443")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return net.JoinHostPort(pair.Addr.String(), "7443")
}

// TestEnd tells the end of a stream, which is said under encryption, from the end
// of a connection in the middle of a record.
func TestEnd(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		for _, graceful := range []bool{true, false} {
			t.Run(fmt.Sprintf("graceful=%v", graceful), func(t *testing.T) {
				ended := make(chan error, 1)
				address := service(t, pair, func(h demo.Host, address string) (func() error, error) {
					return one(h, address, func(c *tls.Conn) {
						_, err := io.Copy(io.Discard, c)
						ended <- err
					})
				})
				_, config, err := demo.TLS()
				if err != nil {
					t.Fatal(err)
				}
				inner, err := pair.Client.DialContext(ctx, "tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer inner.Close()
				c := tls.Client(inner, config)
				if _, err := c.Write(demo.Bytes(1, 100000)); err != nil {
					t.Fatal(err)
				}
				var want error
				if graceful {
					err = c.CloseWrite()
				} else {
					// The head of a record of 256 bytes, and no more.
					want = io.ErrUnexpectedEOF
					_, werr := inner.Write([]byte{23, 3, 3, 1, 0})
					err = errors.Join(werr, inner.(interface{ CloseWrite() error }).CloseWrite())
				}
				if got := <-ended; err != nil || !errors.Is(got, want) {
					t.Errorf("%v, the server sees %v, want %v", err, got, want)
				}
			})
		}
	})
}

// one is a server for one connection.
func one(h demo.Host, address string, f func(*tls.Conn)) (stop func() error, err error) {
	config, _, err := demo.TLS()
	if err != nil {
		return nil, err
	}
	l, err := h.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			f(tls.Server(c, config))
		}
	}()
	return l.Close, nil
}

// TestSilence gives up on a server that does not say a word, and on one that
// says no more after the handshake.
func TestSilence(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		for _, handshake := range []bool{false, true} {
			t.Run(fmt.Sprintf("handshake=%v", handshake), func(t *testing.T) {
				over := make(chan struct{})
				defer close(over)
				address := service(t, pair, func(h demo.Host, address string) (func() error, error) {
					return one(h, address, func(c *tls.Conn) {
						if handshake {
							c.Handshake() //nolint:errcheck // the client says whether it worked
						}
						<-over
					})
				})
				if err := silence(ctx, pair.Client, address, handshake); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

func silence(ctx context.Context, h demo.Host, address string, handshake bool) error {
	_, config, err := demo.TLS()
	if err != nil {
		return err
	}
	inner, err := h.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer inner.Close()
	c := tls.Client(inner, config)
	if !handshake {
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if err := c.HandshakeContext(short); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("handshake: %w", err)
		}
		return nil
	}
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}
