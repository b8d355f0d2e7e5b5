package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/examples/internal/demotest"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/raced"
)

// TestKeepAlive makes requests one after the other on one connection, and many
// at a time on as many, all of which are kept.
func TestKeepAlive(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		const many = 16
		arrived, release := make(chan struct{}), make(chan struct{})
		s := start(t, pair, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/together" {
				arrived <- struct{}{}
				<-release
			}
			echo(w, r)
		}), false)
		givenUp := s.watchDials()
		post := func(i int, path string) error {
			resp, err := s.do(ctx, http.MethodPost, path, demo.Content(byte(i), 5000))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			return demo.Check(resp.Body, byte(i), 5000)
		}
		for i := range 50 {
			if err := post(i, "/"); err != nil {
				t.Fatal(err)
			}
		}
		kept := func(least int32, what string) {
			t.Helper()
			lab.Eventually(t, patience, what, func() bool {
				n := s.connections.Load()
				return least <= n && n <= least+givenUp.Load()
			})
		}
		kept(1, "one connection for one request after the other")
		for range 3 {
			go func() {
				for range many {
					<-arrived
				}
				for range many {
					release <- struct{}{}
				}
			}()
			if err := together(many, func(i int) error { return post(i, "/together") }); err != nil {
				t.Fatal(err)
			}
		}
		kept(many, "as many connections as requests at a time")
		before := s.connections.Load()
		// The server closes them all, and the client finds out by itself.
		s.SetKeepAlivesEnabled(false)
		err := together(many, func(int) error {
			resp, err := s.do(ctx, http.MethodGet, "/", nil)
			if err == nil {
				err = resp.Body.Close()
			}
			return err
		})
		if n := s.connections.Load(); err != nil || n != before+many {
			t.Errorf("%d connections in the end, %d before, %v", n, before, err)
		}
	})
}

// patience is for what takes milliseconds.
const patience = 20 * time.Second

// watchDials counts the client's connections that it closes of its own, without an
// error: package net/http does so if 50 ms after an answer it has yet to hear that its
// request was written (wroteRequest in net/http/transport.go, Go 1.26), as may be on a
// busy machine.
func (s *server) watchDials() (givenUp *atomic.Int32) {
	givenUp = new(atomic.Int32)
	transport := s.client.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &watchedConn{Conn: c, givenUp: givenUp}, nil
	}
	return givenUp
}

type watchedConn struct {
	net.Conn
	ended   atomic.Bool // with an error, or by Close
	givenUp *atomic.Int32
}

func (c *watchedConn) Read(b []byte) (int, error) { return c.note(c.Conn.Read(b)) }

func (c *watchedConn) Write(b []byte) (int, error) { return c.note(c.Conn.Write(b)) }

func (c *watchedConn) note(n int, err error) (int, error) {
	if err != nil {
		c.ended.Store(true)
	}
	return n, err
}

func (c *watchedConn) Close() error {
	if !c.ended.Swap(true) {
		c.givenUp.Add(1)
	}
	return c.Conn.Close()
}

// TestHTTP2 has many streams on one connection, with bodies in both directions
// at the same time.
func TestHTTP2(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		s := start(t, pair, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).Flush() //nolint:errcheck // then the copy fails too
			io.Copy(w, r.Body)                    //nolint:errcheck // the client is gone
		}), true)
		post := func(i int, length int64) error {
			resp, err := s.do(ctx, http.MethodPost, "/", demo.Content(byte(i), length))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.ProtoMajor != 2 {
				return fmt.Errorf("%s", resp.Proto)
			}
			return demo.Check(resp.Body, byte(i), length)
		}
		if err := post(0, 1); err != nil {
			t.Fatal(err)
		}
		if err := together(50, func(i int) error { return post(i, 64<<10) }); err != nil {
			t.Fatal(err)
		}
		if err := post(1, int64(raced.Few(8<<20, 1<<20))); err != nil {
			t.Fatal(err)
		}
		if n := s.connections.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// TestHijack takes the connection from the server, and has bytes both ways on
// it until one side ends them.
func TestHijack(t *testing.T) {
	const length = 1 << 20
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		ended := make(chan error, 1)
		s := start(t, pair, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				ended <- err
				return
			}
			ended <- upgraded(conn, rw, length)
		}), false)
		resp := s.must(ctx, t, http.StatusSwitchingProtocols, http.MethodGet, "/", nil, "Connection", "Upgrade", "Upgrade", "echo")
		body, ok := resp.Body.(io.ReadWriteCloser)
		if !ok {
			t.Fatalf("the body is a %T", resp.Body)
		}
		sent := make(chan error, 1)
		go func() {
			_, err := io.Copy(body, demo.Content(1, length))
			sent <- err
		}()
		if err := errors.Join(demo.Check(body, 1, length), <-sent, body.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
}

// upgraded answers, and then echoes bytes on a connection that was an HTTP
// server's.
func upgraded(conn net.Conn, rw *bufio.ReadWriter, length int64) error {
	defer conn.Close()
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if err := rw.Flush(); err != nil {
		return err
	}
	if _, err := io.CopyN(conn, rw, length); err != nil {
		return err
	}
	// What the server's own code asks a connection for.
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("a %T has no CloseWrite", conn)
	}
	if err := half.CloseWrite(); err != nil {
		return err
	}
	// The client closes when it has read to the end.
	_, err := rw.ReadByte()
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the end: %w", err)
	}
	return nil
}

// TestCancel has the server learn that the client has lost interest, or patience.
func TestCancel(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		// Room for both requests: the second may come when nobody waits for it.
		arrived, gone := make(chan struct{}, 2), make(chan struct{}, 2)
		s := start(t, pair, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			<-r.Context().Done()
			gone <- struct{}{}
		}), false)
		canceled, cancel := context.WithCancel(ctx)
		go func() {
			<-arrived
			cancel()
		}()
		if _, err := s.do(canceled, http.MethodGet, "/", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
		<-gone

		s.client.Timeout = 50 * time.Millisecond
		answered := make(chan error, 1)
		go func() {
			_, err := s.do(ctx, http.MethodGet, "/", nil)
			answered <- err
		}()
		var err error
		select {
		case <-arrived:
			<-gone
			err = <-answered
		case err = <-answered: // a slow machine: the request came to nothing
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("too late: %v", err)
		}
	})
}

// TestShutdown lets a request finish and closes the connections that wait for
// one.
func TestShutdown(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		arrived, finish := make(chan struct{}), make(chan struct{})
		s := start(t, pair, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			<-finish
			echo(w, r)
		}), false)
		idle, err := s.dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Close()
		answered := make(chan error, 1)
		go func() {
			resp, err := s.do(ctx, http.MethodPost, "/", demo.Content(1, 1<<20))
			if err == nil {
				err = errors.Join(demo.Check(resp.Body, 1, 1<<20), resp.Body.Close())
			}
			answered <- err
		}()
		<-arrived
		down := make(chan error, 1)
		s.RegisterOnShutdown(func() { close(finish) })
		go func() { down <- s.Shutdown(ctx) }()
		// Never used, so the server waits some seconds for its first request.
		idle.Close()
		if err := errors.Join(<-answered, <-down); err != nil {
			t.Error(err)
		}
		if _, err := s.dial(ctx); err == nil {
			t.Error("a server that was shut down takes connections")
		}
	})
}

// TestReadTimeout has a client that says half a request and no more.
func TestReadTimeout(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		for timeout := 250 * time.Millisecond; ; timeout *= 2 {
			text, err := sayHalf(ctx, t, pair, timeout)
			// What comes after the end is answered by a reset: on a busy machine the half
			// takes a while.
			if errors.Is(err, syscall.ECONNRESET) && timeout < 5*time.Second {
				continue
			}
			if err != nil || len(text) != 0 {
				t.Errorf("%q, %v", text, err)
			}
			return
		}
	})
}

// sayHalf says half a request to a server that waits so long for the rest, and returns
// what it hears.
func sayHalf(ctx context.Context, t *testing.T, pair demo.Pair, timeout time.Duration) ([]byte, error) {
	t.Helper()
	// The server's time begins when the client has said its half.
	said := make(chan struct{})
	saidHalf := sync.OnceFunc(func() { close(said) })
	defer saidHalf()
	s := startServer(t, pair, &http.Server{
		Handler:           http.HandlerFunc(echo),
		ReadHeaderTimeout: timeout,
		ConnContext:       func(ctx context.Context, _ net.Conn) context.Context { <-said; return ctx },
	}, false)
	conn, err := s.dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "); err != nil {
		t.Fatal(err)
	}
	saidHalf()
	return io.ReadAll(conn)
}

// TestContinue sends a body only after the server has asked for it.
func TestContinue(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		s := start(t, pair, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/refuse" {
				w.WriteHeader(http.StatusExpectationFailed)
				return
			}
			echo(w, r)
		}), false)
		s.client.Transport.(*http.Transport).ExpectContinueTimeout = time.Hour
		asked := 0
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got100Continue: func() { asked++ }})
		resp := s.must(traced, t, http.StatusOK, http.MethodPut, "/", demo.Content(1, 100000), "Expect", "100-continue")
		if err := demo.Check(resp.Body, 1, 100000); err != nil {
			t.Error(err)
		}
		if asked != 1 {
			t.Errorf("asked %d times for the body", asked)
		}
		unread := demo.Content(1, 100000).(*io.LimitedReader)
		s.must(traced, t, http.StatusExpectationFailed, http.MethodPut, "/refuse", unread, "Expect", "100-continue")
		if unread.N != 100000 || asked != 1 {
			t.Errorf("asked %d times, %d bytes are left of a body that was refused", asked, unread.N)
		}
	})
}
