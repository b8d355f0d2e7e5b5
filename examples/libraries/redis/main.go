// Command redis is a client of a Redis server, go-redis's, on sockets that
// bypass the kernel:
//
//	go -C examples/libraries run ./redis -i eth0 -addr 192.0.2.10/24 -gw 192.0.2.1 -to 192.0.2.20:6379
//
// With -lab it makes a private network and starts redis-server, which Debian has
// in the package of that name, on the kernel's side of it:
//
//	go -C examples/libraries run ./redis -lab
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/afxnet/afxnet/examples/internal/demo"
)

var program = demo.Program{Name: "redis", Port: 6379, Serve: serve, KernelServer: true, Use: use}

func main() { demo.Main(program) }

// serve starts a Redis server on the kernel's side of the lab. It keeps nothing
// on disk.
func serve(h demo.Host, address string) (stop func() error, err error) {
	kernel, ok := h.(demo.Kernel)
	if !ok {
		return nil, errors.New("a Redis server has the kernel's sockets")
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return start(kernel.Do, "--port", port)
}

// start starts a Redis server, in do, and waits until it is ready.
func start(do func(func() error) error, args ...string) (stop func() error, err error) {
	args = append(args, "--protected-mode", "no", "--save", "", "--daemonize", "no")
	cmd := exec.Command("redis-server", args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := do(cmd.Start); err != nil {
		return nil, err
	}
	stop = func() error {
		err := cmd.Process.Kill()
		cmd.Wait() //nolint:errcheck // it was killed
		return err
	}
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); fmt.Fprintln(&said, lines.Text()) {
		if strings.Contains(lines.Text(), "eady to accept connections") {
			return stop, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("redis-server does not start:\n%s", said.String()), stop())
}

// connect is an ordinary Redis client, but for what it dials with.
func connect(h demo.Host, address string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:   address,
		Dialer: h.DialContext, // instead of net.Dialer's
	})
}

const (
	workers = 8
	keys    = 50        // per worker
	length  = 256 << 10 // bytes of the longest value
)

// use writes values and reads them, with several goroutines on a pool of
// connections.
func use(ctx context.Context, h demo.Host, address string) (did string, err error) {
	c := connect(h, address)
	defer func() { err = errors.Join(err, c.Close()) }()
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for i := range workers {
		wg.Go(func() { errs[i] = exchange(ctx, c, i) })
	}
	wg.Wait()
	return fmt.Sprintf("%d values of up to %d bytes, intact", workers*keys, length), errors.Join(errs...)
}

func exchange(ctx context.Context, c *redis.Client, worker int) error {
	text := demo.Bytes(byte(worker), length)
	for i := range keys {
		key, value := fmt.Sprintf("%d:%d", worker, i), text[:length*i*i/(keys-1)/(keys-1)]
		if err := c.Set(ctx, key, value, 0).Err(); err != nil {
			return err
		}
		got, err := c.Get(ctx, key).Bytes()
		if err != nil {
			return err
		}
		if !bytes.Equal(got, value) {
			return fmt.Errorf("the value of %s, of %d bytes, came back changed", key, len(value))
		}
	}
	return nil
}
