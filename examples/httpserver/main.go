// Command httpserver serves HTTP with package net/http on sockets that bypass
// the kernel:
//
//	go run ./examples/httpserver -i eth0 -addr 192.0.2.10/24 -gw 192.0.2.1 -listen :80 -root .
//
// With -lab it makes a private network, and fetches a file of -size bytes from
// itself with the kernel's net/http from the other side, and with an HTTP client
// on a stack of its own that shares the server's:
//
//	go run ./examples/httpserver -lab
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/stack"
)

func main() {
	useLab := flag.Bool("lab", false, "make a private network and fetch from it")
	size := flag.Int64("size", 100<<20, "with -lab, bytes of the file")
	iface := flag.String("i", "", "interface to serve on")
	addr := flag.String("addr", "", "address with prefix length; the host must not have it")
	gw := flag.String("gw", "", "gateway")
	listen := flag.String("listen", ":80", "address to listen on")
	root := flag.String("root", ".", "directory to serve")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *useLab {
		err = runLab(ctx, *size)
	} else {
		err = run(ctx, *iface, *addr, *gw, *listen, http.FileServer(http.Dir(*root)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "httpserver:", err)
		os.Exit(1)
	}
}

// serve is an ordinary HTTP server, but for where its listener comes from.
func serve(s *stack.Stack, address string, h http.Handler) (*http.Server, error) {
	l, err := s.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l) //nolint:errcheck // http.ErrServerClosed after Close
	return srv, nil
}

func run(ctx context.Context, iface, addr, gw, listen string, h http.Handler) error {
	prefix, err := netip.ParsePrefix(addr)
	if err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	cfg := stack.Config{Interface: iface, Addresses: []netip.Prefix{prefix}}
	if gw != "" {
		a, err := netip.ParseAddr(gw)
		if err != nil {
			return fmt.Errorf("-gw: %w", err)
		}
		cfg.Gateways = append(cfg.Gateways, a)
	}
	s, err := stack.Open(cfg)
	if err != nil {
		return err
	}
	srv, err := serve(s, listen, h)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	fmt.Printf("serving http://%s%s on %s\n", prefix.Addr(), listen, iface)
	<-ctx.Done()
	return errors.Join(srv.Close(), s.Close())
}

// content is a file of pseudo-random bytes: not to be compressed, and different
// everywhere.
type content struct{ size int64 }

func (c content) reader() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{7}), c.size) }

func (c content) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", strconv.FormatInt(c.size, 10))
	io.Copy(w, c.reader()) //nolint:errcheck // the client is gone
}

func runLab(ctx context.Context, size int64) error {
	l, err := lab.Open(lab.Config{})
	if err != nil {
		return err
	}
	defer l.Close()
	var s *stack.Stack
	err = l.Host.Do(func() (err error) {
		s, err = stack.Open(stack.Config{Interface: lab.HostDevice, Addresses: []netip.Prefix{l.StackV4, l.StackV6}})
		return err
	})
	if err != nil {
		return err
	}
	defer s.Close()
	file := content{size}
	srv, err := serve(s, ":80", file)
	if err != nil {
		return err
	}
	defer srv.Close()
	peer := &http.Server{Handler: file}
	pl, err := l.Peer.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	go peer.Serve(pl) //nolint:errcheck // http.ErrServerClosed after Close
	defer peer.Close()

	for _, f := range []struct {
		what string
		addr netip.Addr
		dial func(ctx context.Context, network, address string) (net.Conn, error)
	}{
		{"kernel client, IPv4", l.StackV4.Addr(), l.Peer.Dial},
		{"kernel client, IPv6", l.StackV6.Addr(), l.Peer.Dial},
		{"own client, own server", l.StackV4.Addr(), s.DialContext},
		{"own client, kernel server", l.Peer.V4.Addr(), s.DialContext},
	} {
		if err := fetch(ctx, f.what, f.addr, file, f.dial); err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
	}
	return nil
}

// fetch gets the file and compares it with what it should be.
func fetch(ctx context.Context, what string, addr netip.Addr, file content, dial func(context.Context, string, string) (net.Conn, error)) error {
	transport := &http.Transport{DialContext: dial}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+netip.AddrPortFrom(addr, 80).String()+"/", nil)
	if err != nil {
		return err
	}
	start := time.Now()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, want := sha256.New(), sha256.New()
	n, err := io.Copy(got, resp.Body)
	if err != nil {
		return err
	}
	took := time.Since(start)
	if _, err := io.Copy(want, file.reader()); err != nil {
		return err
	}
	if [32]byte(got.Sum(nil)) != [32]byte(want.Sum(nil)) {
		return errors.New("the file came back changed")
	}
	fmt.Printf("%-26s %d bytes in %v, intact\n", what+":", n, took.Round(time.Millisecond))
	return nil
}
