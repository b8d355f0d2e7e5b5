// Command httpserver serves HTTP with package net/http on sockets that bypass
// the kernel:
//
//	go run ./examples/httpserver -i eth0 -addr 192.0.2.10/24 -gw 192.0.2.1 -root .
//
// With -lab it makes a private network, and fetches a file of 100 MB and sends
// it back: with an HTTP client on the kernel's sockets from the other side, with
// one on its own sockets from a server there, and from itself:
//
//	go run ./examples/httpserver -lab
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/afxnet/afxnet/examples/internal/demo"
)

var (
	root = flag.String("root", ".", "directory to serve below /files/")
	size = flag.Int64("size", 100<<20, "bytes to fetch, and to send back")
)

var program = demo.Program{Name: "httpserver", Port: 80, Serve: serve, Use: use}

func main() { demo.Main(program) }

// serve is an ordinary HTTP server, but for where its listener comes from: h is
// the stack (or, in the lab, the kernel on the other side).
func serve(h demo.Host, address string) (stop func() error, err error) {
	l, err := h.Listen("tcp", address) // instead of net.Listen
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /files/", http.StripPrefix("/files/", http.FileServer(http.Dir(*root))))
	mux.HandleFunc("GET /content", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("size"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		io.Copy(w, demo.Content(1, n)) //nolint:errcheck // the client is gone
	})
	mux.HandleFunc("PUT /content", func(w http.ResponseWriter, r *http.Request) {
		if err := demo.Check(r.Body, 1, r.ContentLength); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l) //nolint:errcheck // http.ErrServerClosed after Close
	return srv.Close, nil
}

// client is an ordinary HTTP client, but for what it dials with.
func client(h demo.Host) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: h.DialContext, // instead of net.Dialer's
	}}
}

// use fetches the content and sends it back.
func use(ctx context.Context, h demo.Host, address string) (string, error) {
	c := client(h)
	defer c.CloseIdleConnections()
	url := fmt.Sprintf("http://%s/content?size=%d", address, *size)
	get := func(body io.Reader) error { return demo.Check(body, 1, *size) }
	if err := request(ctx, c, http.MethodGet, url, nil, get); err != nil {
		return "", err
	}
	put := func(body io.Reader) error { return demo.Check(body, 1, 0) }
	if err := request(ctx, c, http.MethodPut, url, demo.Content(1, *size), put); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d bytes there and back, intact", *size), nil
}

// request makes one request with a body of *size bytes, or none, and hands over
// the body of the response.
func request(ctx context.Context, c *http.Client, method, url string, body io.Reader, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	if body != nil {
		req.ContentLength = *size
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return errors.Join(fmt.Errorf("%s: %s: %s", method, resp.Status, text), err)
	}
	return read(resp.Body)
}
