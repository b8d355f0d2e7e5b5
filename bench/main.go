// Command bench compares TCP and UDP implementations on one link: the kernel's,
// this project's, gVisor's own, and a responder without a stack that shows what
// the client allows.
//
//	go run ./bench            # as root, in a private network that it makes
//	go run ./bench -quick     # under a minute; figures not for quoting
//	go run ./bench -i eth0 -addr 192.0.2.10/24 -peer 192.0.2.20:7100
//	go run ./bench -agent :7100 -tune   # on the other machine of a real link, as root
//
// # Method
//
// The server under test and the client are processes of their own, in a network
// namespace each (or on a machine each). The client is package net, the same
// binary with the same settings for every peer. One server process runs at a
// time: it opens its peer, serves all cases of one workload, and ends. Rounds go
// round the peers in an order drawn anew each time, so that what drifts hits
// all alike. Connections are opened, and one exchange made, before the measuring
// starts. This project's stack has stack.ProfileLAN, which is not its default; in
// memory it has the default, as gVisor's has everywhere.
//
// On a real link the agent's machine keeps its settings, but with -tune has two of the
// private network's until the agent ends, also by a signal that is no SIGKILL:
// net.ipv4.tcp_max_tw_buckets is 256, or crr, whose client closes first, runs out of
// ports, and net.ipv4.tcp_no_metrics_save is 1, or what the client's kernel has learned
// of the way with one peer is used with the next.
//
// On a machine with few CPUs the scheduler puts the kernel's server and its client
// on one CPU or on two, by chance when they start, and takes some 200 ms to settle:
// rounds (-d) shorter than that measure where they started, with two values of p50
// that differ by a factor of two. More rounds make an interval narrower, longer
// ones do not. To compare peers of ours with each other, shorter rounds are fine.
//
// The first round is discarded. In it a BPF program counts system calls, which
// would slow the others down. Of the rest, figures are medians over rounds, and
// ratios to the kernel medians of the ratios within each round; the 95% intervals
// are those of a median of six rounds at least (package stat). p99.9 comes from all
// rounds together and needs 100,000 samples. Open loops count from the time at which
// a request was due, those that stay unanswered too, as long as they were waited for.
//
// Two workloads have no client. raw is AF_XDP without a stack, beside the same in
// C where there is a compiler: what a link can carry. For its jumbo frames the private
// network has an MTU of 9000 while they are measured. wire joins two stacks in
// memory: what a stack costs. Their ratios are to the C program and to gVisor, with
// the channel endpoint as it is and with GRO driven by the reader of the channel.
//
// Two peers have no stack and say what a client allows: floor answers requests, raw
// sends and receives in bulk, both over TCP with the client's kernel at the other
// end. Beside the ratio to the kernel, tables and JSON have throughput as a share of
// raw's, and how much of the gap from the kernel's latency, and rate, to floor's a
// peer closes: 0 is the kernel, 1 the floor, below 0 is worse than the kernel. With
// -ablation they have the ratio of ours less one mechanism to ours with all.
//
// CPU time per operation is the whole machine's, soft interrupts included, so
// nothing else should run on it; the server's and the client's own are given
// too. Frames are those of the server's interface; with segmentation offload one
// can carry 64 KB.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/afxnet/afxnet/bench/internal/role"
)

// again is how long after a first signal a second one ends the bench at once, with
// nothing to show: timeout(1) sends one twice.
const again = time.Second

func main() {
	if role.Main() {
		return
	}
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // by nohup(1)
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	context.AfterFunc(ctx, func() { time.AfterFunc(again, stop) })
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// run does what the options ask for.
func run(ctx context.Context, o options) error {
	if o.agent != "" {
		return agent(ctx, o)
	}
	if o.quick {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, o.begun.Add(quickLimit), errQuickOver)
		defer cancel()
		o.deadline = o.begun.Add(quickKill)
	}
	c, err := newConductor(ctx, o, os.Stderr)
	if err != nil {
		return err
	}
	runErr := c.run(ctx)
	if errors.Is(runErr, errQuickOver) {
		fmt.Fprintln(os.Stderr, "bench: the time of a quick run was over before all rounds were")
		runErr = nil
	}
	return errors.Join(runErr, c.close(), c.output(os.Stdout))
}
