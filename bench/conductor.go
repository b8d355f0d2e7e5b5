package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/afxnet/afxnet/bench/internal/load"
	"github.com/afxnet/afxnet/bench/internal/offload"
	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/plan"
	"github.com/afxnet/afxnet/bench/internal/report"
	"github.com/afxnet/afxnet/bench/internal/role"
	"github.com/afxnet/afxnet/bench/internal/summary"
)

// conductor drives the processes through the rounds and keeps what they measure.
type conductor struct {
	o       options
	log     io.Writer
	bed     *testbed
	peers   []peers.Entry
	plan    [][]plan.Case // by workload
	backend *role.Process // behind the proxy; nil if nothing is proxied

	env       report.Environment
	samples   []summary.Sample
	failures  []string
	uncounted bool // that system calls cannot be counted was said

	impossible map[string]bool // contestants that this machine cannot run, which was said
}

func newConductor(ctx context.Context, o options, log io.Writer) (_ *conductor, err error) {
	c := &conductor{o: o, log: log, impossible: make(map[string]bool)}
	for _, name := range o.peers {
		e, err := peers.Lookup(name)
		if err != nil {
			return nil, err
		}
		c.peers = append(c.peers, e)
	}
	if c.bed, err = openTestbed(ctx, o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if c.env, err = environment(o, c.bed); err != nil {
		return nil, err
	}
	if o.spread {
		c.o.duration = c.quickDuration()
	}
	c.env.Duration = c.o.duration.String()
	for _, name := range o.workloads {
		cases, err := c.cases(name)
		if err != nil {
			return nil, err
		}
		if len(cases) == 0 {
			continue
		}
		c.plan = append(c.plan, cases)
		if cases[0].Proxied && c.backend == nil {
			c.backend, err = role.Start(role.Backend, o.process(0, c.bed.host))
			if err != nil {
				return nil, err
			}
		}
	}
	if len(c.plan) == 0 {
		return nil, fmt.Errorf("-match: no case of %s matches %q", strings.Join(o.workloads, ", "), o.match)
	}
	return c, nil
}

// cases returns the cases of a workload that are asked for.
func (c *conductor) cases(workload string) ([]plan.Case, error) {
	cases, err := plan.Cases(workload, plan.Options{Quick: c.o.quick, Duration: c.o.duration, Idle: c.o.idle, MTU: c.env.MTU})
	if c.o.match != nil {
		cases = slices.DeleteFunc(cases, func(cs plan.Case) bool { return !c.o.match.MatchString(cs.Params.String()) })
	}
	return cases, err
}

// What a quick run plans with. Opening a peer takes a tenth of a second; the rest
// is room for a slow machine.
const (
	quickPlan    = 36 * time.Second
	turnCost     = 80 * time.Millisecond // a server's start and end
	caseCost     = 10 * time.Millisecond // connections, warming up, reading counters
	quickLeast   = 50 * time.Millisecond
	quickLongest = time.Second
)

// quickDuration spreads the time of a quick run over its cases, but for those of idle,
// which have a time of their own.
func (c *conductor) quickDuration() time.Duration {
	var turns, runs, idle int
	left := quickPlan
	for _, name := range c.o.workloads {
		cases, err := c.cases(name)
		if err != nil || len(cases) == 0 {
			continue // newConductor says so
		}
		if cases[0].Solo != "" {
			n := len(cases) * len(c.contestants(name)) * (c.o.rounds + 1)
			runs += n + n/4 // as long as the warm-up of wire at most
			left -= time.Duration(n) * soloCost[name]
			continue
		}
		for _, e := range c.peers {
			takes := 0
			for _, cs := range cases {
				if cs.Takes(e) {
					takes++
				}
			}
			if cases[0].Spec.Kind == load.Idle {
				idle += takes * (c.o.rounds + 1)
			} else {
				runs += takes * (c.o.rounds + 1)
			}
			turns += min(takes, 1) * (c.o.rounds + 1)
		}
	}
	left -= time.Duration(turns)*turnCost + time.Duration(runs)*caseCost + time.Duration(idle)*(caseCost+c.o.idle)
	each := left / time.Duration(max(runs, 1))
	return min(max(each, quickLeast), quickLongest).Round(time.Millisecond)
}

// run goes through all workloads. The error is that of ctx or of the bench
// itself; a peer that fails a case is noted, and the others go on.
func (c *conductor) run(ctx context.Context) error {
	fmt.Fprintf(c.log, "bench: %s; %d rounds and one that is discarded, %v each case\n",
		strings.Join(c.o.peers, ", "), c.o.rounds, c.o.duration)
	if c.o.quick {
		fmt.Fprintf(c.log, "bench: -quick: figures are not for quoting. Left out: %s\n", c.leftOut())
	}
	for _, cases := range c.plan {
		for round := range c.o.rounds + 1 {
			if cases[0].Solo != "" {
				if err := c.solo(ctx, cases, round); err != nil {
					return err
				}
				continue
			}
			for _, i := range rand.Perm(len(c.peers)) {
				if err := c.turn(ctx, c.peers[i], cases, round); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// leftOut says what a quick run does not do.
func (c *conductor) leftOut() string {
	var parts []string
	if m := missing(c.o.workloads, plan.Names()); len(m) > 0 {
		parts = append(parts, "workloads "+strings.Join(m, ", "))
	}
	if m := missing(c.o.peers, peers.Names()); len(m) > 0 {
		parts = append(parts, "peers "+strings.Join(m, ", "))
	}
	parts = append(parts, "all sizes but 64 B, 10,000 connections, open loops", fmt.Sprintf("all but %d rounds", c.o.rounds))
	return strings.Join(parts, "; ")
}

// missing returns which of all are not among have.
func missing(have, all []string) (m []string) {
	for _, a := range all {
		found := false
		for _, h := range have {
			found = found || h == a
		}
		if !found {
			m = append(m, a)
		}
	}
	return m
}

// patience is how long a process under test may take for what takes a second at most
// on a machine with nothing else to do: one that hangs must not hold up the others.
const patience = time.Minute

// turn starts a server with one peer, measures all cases of a workload, and ends
// it.
func (c *conductor) turn(ctx context.Context, e peers.Entry, cases []plan.Case, round int) (err error) {
	if c.impossible[e.Name] || !slices.ContainsFunc(cases, func(cs plan.Case) bool { return cs.Takes(e) }) {
		return nil
	}
	label := fmt.Sprintf("%s round %d/%d %s", cases[0].Workload, round, c.o.rounds, e.Name)
	undo, err := c.profile(e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, undo()) }()
	server, err := role.Start(role.Server, c.o.process(0, c.bed.host))
	if err != nil {
		return err
	}
	defer func() {
		// A server that does not end would disturb all that follow.
		if stopErr := server.Stop(); stopErr != nil && ctx.Err() == nil {
			c.fail(label, stopErr)
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	if err := c.bed.client.Call(ctx, "link", role.LinkRequest{Device: c.bed.clientEnd, Profile: e.Offloads}, nil); err != nil {
		return err
	}
	var opened role.OpenReply
	err = server.CallWithin(ctx, patience, "open", role.OpenRequest{Peer: e.Name, Backend: c.backendAddr(), Config: peer.Config{
		Interface: c.bed.device, V4: c.bed.v4, V6: c.bed.v6, MTU: c.env.MTU, Queues: c.o.queues,
	}}, &opened)
	if err != nil {
		if ctx.Err() == nil && !c.leaveOut(e.Name, err) {
			c.fail(label, err)
		}
		return nil
	}
	c.noteInfo(e.Name, opened)
	m := &measurement{c: c, server: server, entry: e, round: round}
	for _, cs := range cases {
		if !cs.Takes(e) {
			continue
		}
		s, err := m.measure(ctx, cs)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			c.fail(label+" "+cs.Params.String(), err)
			m.drop(ctx)
			continue
		}
		c.samples = append(c.samples, s)
		fmt.Fprintf(c.log, "%s: %s: %s\n", label, cs.Params, headline(s))
	}
	m.drop(ctx)
	return nil
}

// profile sets the server's end of a private network to what a peer runs with. The
// server does so too, on a real link for itself, since it outlives a conductor that is
// killed. One that crashes does not undo it, and the peers after it would be measured
// with it: here the conductor does.
func (c *conductor) profile(e peers.Entry) (undo func() error, err error) {
	undo = func() error { return nil }
	if c.bed.clientNS == nil {
		return undo, nil
	}
	err = c.bed.inside(func() (err error) {
		undo, err = offload.Apply(c.bed.device, e.Offloads)
		return err
	})
	return undo, err
}

// leaveOut tells whether this machine cannot run a contestant, and says so once.
func (c *conductor) leaveOut(name string, err error) bool {
	if !errors.Is(err, errors.ErrUnsupported) {
		return false
	}
	c.impossible[name] = true
	fmt.Fprintf(c.log, "bench: %s is left out: %v\n", name, err)
	return true
}

// fail notes what went wrong with one peer.
func (c *conductor) fail(label string, err error) {
	text := fmt.Sprintf("%s: %v", label, err)
	c.failures = append(c.failures, text)
	fmt.Fprintln(c.log, "bench: FAILED:", text)
}

// headline is what a sample says in a line of progress.
func headline(s summary.Sample) string {
	var parts []string
	for _, m := range []struct{ name, format string }{
		{"p50_us", "p50 %.1f us"}, {"p99_us", "p99 %.1f us"}, {"gbit_s", "%.2f Gbit/s"}, {"ops_s", "%.0f/s"},
		{"packets_s", "%.0f packets/s"},
		{"voluntary_switches_s", "%.0f switches/s"},
	} {
		if v, ok := s.Metrics[m.name]; ok && len(parts) < 3 {
			parts = append(parts, fmt.Sprintf(m.format, v))
		}
	}
	if s.Round == 0 {
		parts = append(parts, "(discarded)")
	}
	return strings.Join(parts, ", ")
}

// close ends all processes and takes the private network down.
func (c *conductor) close() error {
	var err error
	if c.backend != nil {
		err = c.backend.Stop()
	}
	return errors.Join(err, c.bed.close())
}
