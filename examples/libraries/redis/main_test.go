package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/examples/internal/demotest"
	"github.com/afxnet/afxnet/internal/lab"
)

// each runs a test with a client of a Redis server in every role. Where the
// server's side is a stack, which redis-server knows nothing of, connections are
// relayed to it.
func each(t *testing.T, f func(ctx context.Context, t *testing.T, h demo.Host, address string)) {
	lab.Require(t, lab.Redis)
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		var stop func() error
		var err error
		if _, ok := pair.Server.(demo.Kernel); ok {
			stop, err = serve(pair.Server, ":6379")
		} else {
			stop, err = relay(pair.Server, ":6379")
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
		f(ctx, t, pair.Client, net.JoinHostPort(pair.Addr.String(), "6379"))
	})
}

// relay passes connections on to a Redis server at a Unix socket, whose name has
// to be short.
func relay(h demo.Host, address string) (stop func() error, err error) {
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		return nil, err
	}
	unix := filepath.Join(dir, "socket")
	kill, err := start(func(f func() error) error { return f() }, "--port", "0", "--unixsocket", unix)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	l, err := h.Listen("tcp", address)
	if err != nil {
		return nil, errors.Join(err, kill(), os.RemoveAll(dir))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			wg.Go(func() { join(c, unix) })
		}
	})
	return func() error {
		err := errors.Join(l.Close(), kill())
		wg.Wait()
		return errors.Join(err, os.RemoveAll(dir))
	}, nil
}

func join(c net.Conn, unix string) {
	defer c.Close()
	r, err := net.Dial("unix", unix)
	if err != nil {
		return
	}
	defer r.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(r, c) //nolint:errcheck // the client is gone
		r.Close()
	})
	io.Copy(c, r) //nolint:errcheck // the server is gone
	c.Close()
	wg.Wait()
}

// client is the example's, with more time than the library gives all commands of a
// pipeline, 3 s: a slow machine may need it, and a pipeline that is sent once more
// would do everything twice.
func client(t *testing.T, h demo.Host, address string) *redis.Client {
	t.Helper()
	example := connect(h, address)
	o := *example.Options()
	o.ReadTimeout, o.WriteTimeout = time.Minute, time.Minute
	c := redis.NewClient(&o)
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), example.Close()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestExample(t *testing.T) {
	each(t, func(ctx context.Context, t *testing.T, h demo.Host, address string) {
		did, err := use(ctx, h, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(did)
	})
}

// TestPipeline sends commands without waiting for answers.
func TestPipeline(t *testing.T) {
	const commands = 10000
	each(t, func(ctx context.Context, t *testing.T, h demo.Host, address string) {
		c := client(t, h, address)
		cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range commands {
				p.Append(ctx, "list", fmt.Sprintf("%05d", i))
			}
			return nil
		})
		if err != nil || len(cmds) != commands {
			t.Fatalf("%d commands, %v", len(cmds), err)
		}
		got, err := c.Get(ctx, "list").Result()
		if err != nil || len(got) != 5*commands {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		for i := range commands {
			if want := fmt.Sprintf("%05d", i); got[5*i:][:5] != want {
				t.Fatalf("command %d: %s", i, got[5*i:][:5])
			}
		}
	})
}

// TestTransactions has several clients count, none of whom loses a number.
func TestTransactions(t *testing.T) {
	const clients, times = 8, 25
	each(t, func(ctx context.Context, t *testing.T, h demo.Host, address string) {
		c := client(t, h, address)
		var wg sync.WaitGroup
		errs := make([]error, clients)
		for i := range clients {
			wg.Go(func() {
				for range times {
					if errs[i] = count(ctx, c); errs[i] != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		if n, err := c.Get(ctx, "n").Int(); n != clients*times {
			t.Errorf("counted to %d: %v", n, errors.Join(append(errs, err)...))
		}
	})
}

// count adds 1 in a transaction, again and again until no other client has come
// between.
func count(ctx context.Context, c *redis.Client) error {
	for {
		err := c.Watch(ctx, func(tx *redis.Tx) error {
			n, err := tx.Get(ctx, "n").Int()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "n", n+1, 0)
				return nil
			})
			return err
		}, "n")
		if !errors.Is(err, redis.TxFailedErr) {
			return err
		}
	}
}

// TestSubscribe has messages come on a connection that asks for none.
func TestSubscribe(t *testing.T) {
	each(t, func(ctx context.Context, t *testing.T, h demo.Host, address string) {
		c := client(t, h, address)
		sub := c.Subscribe(ctx, "news")
		defer sub.Close()
		if _, err := sub.Receive(ctx); err != nil { // the confirmation
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() {
			for i := range 1000 {
				if err := c.Publish(ctx, "news", fmt.Sprint(i)).Err(); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		for i := range 1000 {
			m, err := sub.ReceiveMessage(ctx)
			if err != nil || m.Payload != fmt.Sprint(i) {
				t.Fatalf("message %d: %v, %v", i, m, err)
			}
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

// TestBlock waits in the server for another client, gives up when the caller has
// no more time, and goes on after the server has hung up on everybody.
func TestBlock(t *testing.T) {
	each(t, func(ctx context.Context, t *testing.T, h demo.Host, address string) {
		c := client(t, h, address)
		popped := make(chan error, 1)
		go func() {
			got, err := c.BLPop(ctx, 0, "queue").Result()
			if err == nil && got[1] != "item" {
				err = fmt.Errorf("%q", got)
			}
			popped <- err
		}()
		if err := errors.Join(c.RPush(ctx, "queue", "item").Err(), <-popped); err != nil {
			t.Error(err)
		}
		// The library minds contexts in a call only if told to.
		o := *c.Options()
		o.ContextTimeoutEnabled = true
		minding := redis.NewClient(&o)
		defer minding.Close()
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		err := minding.BLPop(short, 0, "queue").Err()
		if timeout := net.Error(nil); !errors.Is(err, context.DeadlineExceeded) && (!errors.As(err, &timeout) || !timeout.Timeout()) {
			t.Errorf("no more time: %v", err)
		}
		if err := c.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "no").Err(); err != nil {
			t.Error(err)
		}
		if err := c.Ping(ctx).Err(); err != nil {
			t.Errorf("after the server has hung up: %v", err)
		}
	})
}
