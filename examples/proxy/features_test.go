package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/examples/internal/demotest"
)

// between starts the proxy on the one host of a pair, and a backend on the other
// one. It returns what to ask on the other.
func between(t *testing.T, pair demo.Pair, backend http.HandlerFunc) (url string, client *http.Transport) {
	t.Helper()
	stop, err := serve(pair.Server, ":80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	if backend != nil {
		l, err := pair.Client.Listen("tcp", ":8080")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: backend}
		t.Cleanup(func() { srv.Close() })
		go srv.Serve(l) //nolint:errcheck // http.ErrServerClosed after Close
	}
	client = &http.Transport{DialContext: pair.Client.DialContext}
	t.Cleanup(client.CloseIdleConnections)
	return "http://" + netip.AddrPortFrom(pair.Addr, 80).String() + "/", client
}

func get(ctx context.Context, c *http.Transport, url string, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return c.RoundTrip(req)
}

// TestUpgrade has client and backend talk through the proxy after a change of
// protocol, as with WebSockets, where neither is to wait for the other.
func TestUpgrade(t *testing.T) {
	const length = 1 << 20
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		ended := make(chan error, 1)
		url, client := between(t, pair, func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				ended <- err
				return
			}
			defer conn.Close()
			ended <- speak(conn, rw, length)
		})
		resp, err := get(ctx, client, url, "Connection", "Upgrade", "Upgrade", "content")
		if err != nil {
			t.Fatal(err)
		}
		body, ok := resp.Body.(io.ReadWriteCloser)
		if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s, and the body is a %T", resp.Status, resp.Body)
		}
		sent := make(chan error, 1)
		go func() {
			_, err := io.Copy(body, demo.Content(1, length))
			sent <- err
		}()
		if err := errors.Join(demo.Check(io.LimitReader(body, length), 2, length), <-sent, <-ended, body.Close()); err != nil {
			t.Error(err)
		}
	})
}

// speak sends content and reads other content at the same time.
func speak(conn net.Conn, rw *bufio.ReadWriter, length int64) error {
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: content\r\n\r\n")
		if err == nil {
			_, err = io.Copy(conn, demo.Content(2, length))
		}
		sent <- err
	}()
	return errors.Join(demo.Check(io.LimitReader(rw, length), 1, length), <-sent)
}

// TestFlush passes what the backend has said on before it says more.
func TestFlush(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		more := make(chan struct{})
		url, client := between(t, pair, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := 0; ; i++ {
				fmt.Fprintf(w, "data: %d\n\n", i)
				http.NewResponseController(w).Flush() //nolint:errcheck // more says so
				if _, ok := <-more; !ok {
					return
				}
			}
		})
		resp, err := get(ctx, client, url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		for i := range 100 {
			line, err := r.ReadString('\n')
			if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
				t.Fatalf("%q, %v, want %q", line, err, want)
			}
			if _, err := r.Discard(1); err != nil {
				t.Fatal(err)
			}
			more <- struct{}{}
		}
		close(more)
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
	})
}

// TestCancel ends a request at the backend when the client has lost interest.
func TestCancel(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		arrived, gone := make(chan struct{}), make(chan struct{})
		url, client := between(t, pair, func(_ http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-r.Context().Done()
			close(gone)
		})
		canceled, cancel := context.WithCancel(ctx)
		go func() {
			<-arrived
			cancel()
		}()
		if _, err := get(canceled, client, url); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		<-gone
	})
}

// TestFlag has a backend refused that is none, instead of asking whoever asks.
func TestFlag(t *testing.T) {
	defer func() { *backend = "" }()
	for _, given := range []string{"192.0.2.20:8080", "localhost:8080", "/path"} {
		*backend = given
		if stop, err := serve(nil, ":80"); err == nil || stop != nil || !strings.Contains(err.Error(), "-backend") {
			t.Errorf("%s: %v", given, err)
		}
	}
}

// TestNoBackend answers for a backend that does not.
func TestNoBackend(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		url, client := between(t, pair, nil)
		resp, err := get(ctx, client, url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusBadGateway {
			t.Error(resp.Status)
		}
	})
}
