// Command proxy is an HTTP reverse proxy, net/http/httputil's, between sockets
// that bypass the kernel, on both of its sides:
//
//	go run ./examples/proxy -i eth0 -addr 192.0.2.10/24 -gw 192.0.2.1 -backend http://192.0.2.20:8080
//
// With -lab it makes a private network in which client and backend are on the
// kernel's side of the proxy, and the other way round:
//
//	go run ./examples/proxy -lab
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"github.com/afxnet/afxnet/examples/internal/demo"
)

var backend = flag.String("backend", "", "URL of the backend; empty: port 8080 of whoever asks")

var program = demo.Program{Name: "proxy", Port: 80, Serve: serve, Use: use}

func main() { demo.Main(program) }

// serve runs the proxy. Its listener, and the connections to the backend, come
// from h.
func serve(h demo.Host, address string) (stop func() error, err error) {
	to, err := url.Parse(*backend)
	if err != nil || *backend != "" && to.Host == "" {
		return nil, fmt.Errorf("-backend is %q, want a URL such as http://192.0.2.20:8080", *backend)
	}
	l, err := h.Listen("tcp", address) // instead of net.Listen
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: h.DialContext} // instead of net.Dialer's
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target(to, r.In))
			r.SetXForwarded()
		},
	}
	srv := &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l) //nolint:errcheck // http.ErrServerClosed after Close
	return func() error {
		transport.CloseIdleConnections()
		return srv.Close()
	}, nil
}

// target is where a request goes: to the backend if there is one.
func target(backend *url.URL, r *http.Request) *url.URL {
	if backend.Host != "" {
		return backend
	}
	client, _, _ := net.SplitHostPort(r.RemoteAddr) // the server wrote it
	return &url.URL{Scheme: "http", Host: net.JoinHostPort(client, "8080")}
}

const (
	requests = 200
	workers  = 8
	body     = 64 << 10 // bytes
)

// use is client and backend: it echoes what it has sent by way of the proxy.
func use(ctx context.Context, h demo.Host, address string) (string, error) {
	l, err := h.Listen("tcp", ":8080")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: http.HandlerFunc(echo), ReadHeaderTimeout: 10 * time.Second}
	defer srv.Close()
	go srv.Serve(l) //nolint:errcheck // http.ErrServerClosed after Close

	transport := &http.Transport{DialContext: h.DialContext, MaxIdleConnsPerHost: workers}
	defer transport.CloseIdleConnections()
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for i := range workers {
		wg.Go(func() {
			for range requests / workers {
				if errs[i] = exchange(ctx, transport, "http://"+address+"/", byte(i)); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return fmt.Sprintf("%d requests of %d bytes by way of the proxy, intact", requests, body), errors.Join(errs...)
}

// echo is the backend. It reads all of a request before it answers, as HTTP/1
// wants it.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Forwarded-For") == "" {
		http.Error(w, "no proxy has been here", http.StatusBadRequest)
		return
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Write(text) //nolint:errcheck // the proxy is gone
}

func exchange(ctx context.Context, t *http.Transport, url string, seed byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, demo.Content(seed, body))
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return demo.Check(resp.Body, seed, body)
}
