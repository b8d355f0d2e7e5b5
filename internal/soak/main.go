// Command soak runs a stack in a private network under a mixed load for a long
// time, and fails if anything grows that should not, a byte is wrong, or a frame
// is lost from sight:
//
//	go run ./internal/soak -d 10m
//
// The load is bulk data both ways, requests and responses, connections that
// come and go in both directions, datagrams, and connections that do nothing,
// over IPv4 and IPv6, between kernel sockets in one namespace and the stack in
// the other. Every ten seconds it prints a line. At the end it compares memory,
// goroutines and descriptors of the first minute, after a warm-up, with those of
// the last. It needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/afxnet/afxnet/internal/frames"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/stack"
)

type options struct {
	duration time.Duration
	queues   int
	mtu      int
	idle     int
}

func main() {
	var o options
	flag.DurationVar(&o.duration, "d", 10*time.Minute, "how long to run, at least 30s")
	flag.IntVar(&o.queues, "queues", 2, "hardware queues of the interface")
	flag.IntVar(&o.mtu, "mtu", 1500, "MTU of the interface in bytes")
	flag.IntVar(&o.idle, "idle", 200, "connections that do nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(1)
	}
	fmt.Println("soak: nothing grew, every byte was right, every frame is accounted for")
}

func run(ctx context.Context, o options) (err error) {
	if flag.NArg() != 0 || o.duration < 30*time.Second || o.idle < 0 {
		return errors.New("-d is at least 30s, -idle at least 0, and there are no arguments")
	}
	l, err := lab.Open(lab.Config{Queues: o.queues, MTU: o.mtu})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var s *stack.Stack
	err = l.Host.Do(func() (err error) {
		s, err = stack.Open(stack.Config{
			Interface: lab.HostDevice,
			Addresses: []netip.Prefix{l.StackV4, l.StackV6},
		})
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	before, err := frames.Before(l)
	if err != nil {
		return err
	}

	// The load runs until the time is over or one part of it fails.
	work, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	load, err := newLoad(l, s, o.idle)
	if err != nil {
		return err
	}
	// Not a deadline: what is dialed under one fails a moment before it is over.
	end := time.AfterFunc(o.duration, func() { fail(errTimeOver) })
	defer end.Stop()
	var wg sync.WaitGroup
	for _, w := range load.workers() {
		wg.Go(func() {
			if err := w.run(work); err != nil && work.Err() == nil {
				fail(fmt.Errorf("%s: %w", w.name, err))
			}
		})
	}
	samples := watch(work, load)
	wg.Wait()
	if cause := context.Cause(work); cause != errTimeOver {
		return errors.Join(cause, load.close())
	}
	err = errors.Join(load.checkIdle(), load.close())

	// Retransmissions of what was cut off may go on for a while.
	a, accountErr := frames.Settle(l, s.Device(), before, time.Minute)
	fmt.Println(a)
	if accountErr == nil && a.Missing != 0 {
		accountErr = fmt.Errorf("%d frames are unaccounted for", a.Missing)
	}
	return errors.Join(err, accountErr, growth(samples, o.duration))
}

// errTimeOver ends a run that went well.
var errTimeOver = errors.New("the time is over")
