package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/afxnet/afxnet/bench/internal/inmemory"
	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/plan"
	"github.com/afxnet/afxnet/bench/internal/raw"
	"github.com/afxnet/afxnet/bench/internal/role"
	"github.com/afxnet/afxnet/bench/internal/summary"
)

// soloCost is what a run without a client takes beside its duration and its warm-up:
// processes, and for raw a transmitter that leads and a compiler.
var soloCost = map[string]time.Duration{plan.Wire: turnCost, plan.Raw: 2*turnCost + rawLead + 200*time.Millisecond}

// bases are whom the contestants of a case without a client are compared with.
var bases = map[string][]string{plan.Raw: {"c"}, plan.Wire: {"gvisor", "gvisor-gro"}}

// solo runs one round of a workload without a client: all contestants of all
// cases, in an order drawn anew. Their figures have no ratio to the kernel; the
// ratio to another contestant within the round is a metric of its own.
func (c *conductor) solo(ctx context.Context, cases []plan.Case, round int) error {
	names := c.contestants(cases[0].Workload)
	run := func(ctx context.Context, cs plan.Case, kind string) (map[string]float64, error) {
		return c.wire(ctx, cs, kind, round == 0)
	}
	if cases[0].Workload == plan.Raw {
		if c.bed.clientPID == 0 {
			if round == 0 {
				fmt.Fprintln(c.log, "bench: raw needs both ends of the link and is left out on a real one")
			}
			return nil
		}
		run = c.raw
	}
	for _, cs := range cases {
		done := make(map[string]map[string]float64)
		for _, i := range rand.Perm(len(names)) {
			contestant := cs.Workload + " " + names[i] // not the peer of that name
			if c.raises(cs) {
				contestant += " " + cs.Params.String() // takes more than other cases: Linux 6.6
			}
			if c.impossible[contestant] || names[i] == "c" && (cs.Solo == "forward" || cs.Frame > raw.ReferenceFrame) {
				continue
			}
			label := fmt.Sprintf("%s round %d/%d %s %s", cs.Workload, round, c.o.rounds, names[i], cs.Params)
			v, err := run(ctx, cs, names[i])
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				if !c.leaveOut(contestant, err) {
					c.fail(label, err)
				}
				continue
			}
			done[names[i]] = v
		}
		for _, name := range names {
			v, ok := done[name]
			if !ok {
				continue
			}
			for _, base := range bases[cs.Workload] {
				withRatios(v, done[base], base)
			}
			s := summary.Sample{Workload: cs.Workload, Params: cs.Params, Peer: name, Round: round, Metrics: v}
			if round == 0 {
				s.Counts = callsOf(v)
			}
			c.samples = append(c.samples, s)
			fmt.Fprintf(c.log, "%s round %d/%d %s: %s: %s\n", cs.Workload, round, c.o.rounds, name, cs.Params, headline(s))
		}
	}
	return nil
}

// withRatios adds the ratios of all metrics to those of another contestant.
func withRatios(v, base map[string]float64, name string) {
	var metrics []string
	for m := range v {
		metrics = append(metrics, m)
	}
	for _, m := range metrics {
		if b := base[m]; b != 0 && !strings.Contains(m, "_ratio_to_") {
			v[m+"_ratio_to_"+name] = v[m] / b
		}
	}
}

// callsOf returns the figures of system calls that were counted in a round of their own.
func callsOf(v map[string]float64) map[string]float64 {
	calls := make(map[string]float64)
	for name, n := range v {
		if strings.HasPrefix(name, "syscalls_") {
			calls[name] = n
		}
	}
	return calls
}

// contestants are this project's loops and those in C for raw; for wire gVisor's kinds,
// and those of this project's peers that take part.
func (c *conductor) contestants(workload string) (kinds []string) {
	if workload == plan.Raw {
		return []string{"xsk", "c"}
	}
	for _, k := range inmemory.Kinds {
		if !slices.Contains(peers.Names(), k) || slices.Contains(c.o.peers, k) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// wire runs two stacks joined in memory, in a process of their own, and may count its
// system calls.
func (c *conductor) wire(ctx context.Context, cs plan.Case, kind string, count bool) (v map[string]float64, err error) {
	p, err := role.Start(role.Wire, c.o.process(0, nil))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	var r role.WireReply
	q := role.WireRequest{Kind: kind, Load: cs.Solo, Duration: cs.Spec.Duration, Count: count && !c.uncounted}
	// Twice the duration is with the warm-up.
	if err := p.CallWithin(ctx, 2*cs.Spec.Duration+patience, "run", q, &r); err != nil {
		return nil, err
	}
	if r.Uncounted != "" {
		c.uncounted = true
		fmt.Fprintf(c.log, "bench: system calls are not counted: %s\n", r.Uncounted)
	}
	v = make(map[string]float64)
	for _, m := range r.Metrics() {
		v[m.Name] = m.Value
	}
	if len(v) == 0 {
		return nil, errors.New("nothing arrived")
	}
	return v, nil
}

// rawLead is how much longer a raw transmitter sends than the receiver counts, and
// rawLongest how much at most: one that is over before the receiver is ready is
// started again, for longer.
const (
	rawLead    = 300 * time.Millisecond
	rawLongest = 5 * time.Second
)

// raises tells whether the frames of a case need a larger MTU than the link's.
func (c *conductor) raises(cs plan.Case) bool { return cs.Frame > c.env.MTU+plan.EthernetHeader }

// raw runs a loop on the host's device. To receive and to forward, the other end
// transmits.
func (c *conductor) raw(ctx context.Context, cs plan.Case, name string) (v map[string]float64, err error) {
	if c.raises(cs) {
		undo, raiseErr := c.bed.raiseMTU(cs.Frame - plan.EthernetHeader)
		if raiseErr != nil {
			return nil, raiseErr
		}
		defer func() { err = errors.Join(err, undo()) }() // when the process below has ended
	}
	p, err := role.Start(role.Raw, c.o.process(0, c.bed.host))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	mine, err := c.bed.look()
	if err != nil {
		return nil, err
	}
	other, err := c.bed.clientNS.Interface()
	if err != nil {
		return nil, err
	}
	req := role.RawRequest{Loop: cs.Solo, Compiled: name == "c", Job: raw.Job{Duration: cs.Spec.Duration}, Config: raw.Config{Interface: c.bed.device}}
	if req.Compiled {
		if err := p.Call(ctx, "compile", nil, nil); err != nil {
			return nil, err
		}
	}
	transmits := cs.Solo == "tx"
	if transmits {
		// The cheapest drop at the other end: a MAC address that it has not.
		q := role.RawFrameRequest{From: mine.MAC, To: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Size: cs.Frame}
		q.Src, q.Dst = netip.AddrPortFrom(c.bed.v4.Addr(), 9), netip.AddrPortFrom(c.bed.clientNS.V4.Addr(), 9)
		if err := p.Call(ctx, "frame", q, &req.Job.Frame); err != nil {
			return nil, err
		}
	} else {
		req.Config.Addr = c.bed.v4.Addr()
	}
	var r role.RawReply
	for lead := rawLead; r.Packets == 0 || r.Elapsed <= 0; lead *= 4 {
		if lead > rawLongest {
			return nil, errors.New("no packet was counted")
		}
		partner := func() error { return nil }
		if !transmits {
			if partner, err = c.transmitter(ctx, cs, lead, other.MAC, mine.MAC); err != nil {
				return nil, err
			}
		}
		if err := errors.Join(p.Call(ctx, "run", req, &r), partner()); err != nil {
			return nil, err
		}
	}
	if !req.Compiled {
		c.noteInfo(name, r.OpenReply)
	}
	n := float64(r.Packets)
	v = map[string]float64{
		"packets_s": r.PacketsPerSecond(), "gbit_s": r.GbitPerSecond(),
		"cpu_ns_per_packet": float64(r.CPU.Nanoseconds()) / n, "calls_per_packet": float64(r.Calls) / n, "lost": float64(r.Lost),
	}
	if !req.Compiled { // C has no heap objects
		v["allocs_per_packet"] = float64(r.Mallocs) / n
	}
	return v, nil
}

// transmitter starts a raw transmitter at the client's end, for so much longer than
// the case takes. The result waits for its end.
func (c *conductor) transmitter(ctx context.Context, cs plan.Case, lead time.Duration, from, to net.HardwareAddr) (wait func() error, err error) {
	p, err := role.Start(role.Raw, c.o.process(1, c.bed.clientNS.Do))
	if err != nil {
		return nil, err
	}
	q := role.RawFrameRequest{From: from, To: to, Size: cs.Frame}
	q.Src, q.Dst = netip.AddrPortFrom(c.bed.clientNS.V4.Addr(), 9), netip.AddrPortFrom(c.bed.v4.Addr(), 9)
	req := role.RawRequest{Loop: "tx", Job: raw.Job{Duration: cs.Spec.Duration + lead}, Config: raw.Config{Interface: c.bed.clientEnd}}
	if err := p.Call(ctx, "frame", q, &req.Job.Frame); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	done := make(chan error, 1)
	go func() {
		var r raw.Result
		done <- errors.Join(p.Call(ctx, "run", req, &r), p.Stop())
	}()
	return func() error { return <-done }, nil
}
