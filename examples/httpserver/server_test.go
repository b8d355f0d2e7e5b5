package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/afxnet/afxnet/examples/internal/demo"
)

// A server is package net/http's, on one host of a pair, with a client on the
// other.
type server struct {
	*http.Server
	url         string
	client      *http.Client
	dial        func(ctx context.Context) (net.Conn, error)
	connections atomic.Int32 // that the server has had
	served      chan error   // what Serve has returned
}

// start serves over HTTP/1, or over TLS and with HTTP/2 if that is wanted.
func start(t *testing.T, pair demo.Pair, h http.Handler, secure bool) *server {
	t.Helper()
	return startServer(t, pair, &http.Server{Handler: h}, secure)
}

func startServer(t *testing.T, pair demo.Pair, srv *http.Server, secure bool) *server {
	t.Helper()
	l, err := pair.Server.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort(pair.Addr.String(), port)
	transport := &http.Transport{DialContext: pair.Client.DialContext, MaxIdleConnsPerHost: 64}
	s := &server{
		Server: srv,
		url:    "http://" + address,
		client: &http.Client{Transport: transport},
		dial:   func(ctx context.Context) (net.Conn, error) { return pair.Client.DialContext(ctx, "tcp", address) },
		served: make(chan error, 1),
	}
	s.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	serve := func() error { return s.Serve(l) }
	if secure {
		s.url = "https://" + address
		if s.TLSConfig, transport.TLSClientConfig, err = demo.TLS("h2", "http/1.1"); err != nil {
			t.Fatal(err)
		}
		transport.ForceAttemptHTTP2 = true
		serve = func() error { return s.ServeTLS(l, "", "") }
	}
	go func() { s.served <- serve() }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returns %v", err)
		}
	})
	return s
}

// do makes a request.
func (s *server) do(ctx context.Context, method, path string, body io.Reader, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return s.client.Do(req)
}

// must makes a request that succeeds with a status.
func (s *server) must(ctx context.Context, t *testing.T, status int, method, path string, body io.Reader, header ...string) *http.Response {
	t.Helper()
	resp, err := s.do(ctx, method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != status {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return resp
}

// together runs n calls at the same time.
func together(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// echo answers with what it is given, once it has all of it.
func echo(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Write(text) //nolint:errcheck // the client is gone
}
