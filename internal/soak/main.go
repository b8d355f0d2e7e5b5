// Command soak runs a stack in a private network under a mixed load for a long
// time, and fails if anything grows that should not, a byte is wrong, or a frame
// is lost from sight:
//
//	go run ./internal/soak -d 10m
//
// The load is bulk data both ways, requests and responses, connections that
// come and go in both directions, datagrams, and connections that do nothing,
// over IPv4 and IPv6, between kernel sockets in one namespace and the stack in
// the other. Every ten seconds it prints a line.
//
//	go run ./internal/soak -d 30m -wire -load 0.8
//
// With -wire two stacks talk to each other over a wire in memory that loses,
// repeats, reorders and corrupts frames, from a seed. With -load each part of
// the load goes at that share of the pace it had in the warm-up, which is as
// fast as it can. Connections come and go at less than a third of it in any case.
//
// What is compared is the stack at rest: after a short warm-up, and again after
// the run, the load stops, and once the last connection has left TIME-WAIT the
// memory, goroutines, descriptors and endpoints that remain are counted. Under
// load they follow the load, and a leak hides in that. The two rests take a
// minute each. Without -wire it needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/afxnet/afxnet/internal/without"
	"github.com/afxnet/afxnet/stack"
	_ "github.com/afxnet/afxnet/stack/inline" // unless -off says otherwise
)

type options struct {
	duration time.Duration
	queues   int
	mtu      int
	idle     int
	profile  string
	off      string
	wire     bool
	seed     uint64
	load     float64
}

func main() {
	var o options
	flag.DurationVar(&o.duration, "d", 10*time.Minute, "how long the load runs, at least 30s; rests come on top")
	flag.IntVar(&o.queues, "queues", 2, "hardware queues of the interface")
	flag.IntVar(&o.mtu, "mtu", 1500, "MTU of the interface in bytes")
	flag.IntVar(&o.idle, "idle", 200, "connections that do nothing")
	flag.StringVar(&o.profile, "profile", "", "write heap profiles of both rests to this prefix and .1, .2")
	flag.StringVar(&o.off, "off", "", "mechanisms not to use, of "+strings.Join(without.Names(), ","))
	flag.BoolVar(&o.wire, "wire", false, "two stacks over a faulty wire in memory, instead of a kernel and a stack")
	flag.Uint64Var(&o.seed, "seed", 0, "seed of the wire's faults; 0 takes a random one")
	flag.Float64Var(&o.load, "load", 1, "share of the load that could be borne, over 0 and at most 1")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(1)
	}
	fmt.Println("soak: nothing grew, every byte was right, every frame is accounted for")
}

func run(ctx context.Context, o options) (err error) {
	if flag.NArg() != 0 || o.duration < 30*time.Second || o.idle < 0 || o.load <= 0 || o.load > 1 {
		return errors.New("-d is at least 30s, -idle at least 0, -load over 0 and at most 1, and there are no arguments")
	}
	open := newLab
	if o.wire {
		open = newWire
	}
	g, err := open(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if info := g.stack.Info(); info.InlineErr != nil {
		return info.InlineErr
	}
	load, err := newLoad(g, o.idle)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.close()) }()
	var rests [2]sample
	for i, d := range []time.Duration{warmUp, o.duration} {
		if err := load.run(ctx, d); err != nil {
			return err
		}
		if i == 0 {
			load.slow(o.load, d)
		}
		if rests[i], err = load.rest(ctx); err != nil {
			return err
		}
		fmt.Printf("at rest after %v: %v\n", d, rests[i])
		if o.profile != "" {
			if err := writeProfile(fmt.Sprintf("%s.%d", o.profile, i+1)); err != nil {
				return err
			}
		}
	}
	err = errors.Join(load.checkIdle(), load.close())

	// Retransmissions of what was cut off may go on for a while.
	a, accountErr := g.account(time.Minute)
	fmt.Println(a)
	return errors.Join(err, accountErr, growth(rests[0], rests[1]))
}

// without switches off what the flag names.
func (o options) without(cfg *stack.Config) error {
	if o.off == "" {
		return nil
	}
	if err := without.Apply(cfg, strings.Split(o.off, ",")...); err != nil {
		return fmt.Errorf("-off: %w", err)
	}
	return nil
}

// writeProfile writes a profile of the live heap.
func writeProfile(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(pprof.WriteHeapProfile(f), f.Close())
}
