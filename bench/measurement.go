package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/afxnet/afxnet/bench/internal/load"
	"github.com/afxnet/afxnet/bench/internal/measure"
	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/plan"
	"github.com/afxnet/afxnet/bench/internal/role"
	"github.com/afxnet/afxnet/bench/internal/summary"
	"github.com/afxnet/afxnet/bench/internal/syscount"
)

// measurement measures the cases of one turn.
type measurement struct {
	c       *conductor
	server  *role.Process
	entry   peers.Entry
	round   int
	session string             // that the client has prepared; "" for none
	memory  map[string]float64 // of the session's connections
}

// readings is everything that is read before a run and after it.
type readings struct {
	server, client, backend measure.Usage
	machine                 measure.Machine
}

func (c *conductor) backendAddr() (a netip.Addr) {
	if c.backend != nil {
		a = role.BackendAddr
	}
	return a
}

// measure runs a case once.
func (m *measurement) measure(ctx context.Context, cs plan.Case) (summary.Sample, error) {
	s := summary.Sample{Workload: cs.Workload, Params: cs.Params, Peer: m.entry.Name, Round: m.round}
	spec := cs.Spec
	spec.Address = net.JoinHostPort(m.c.bed.v4.Addr().String(), strconv.Itoa(cs.Port))
	if err := m.prepare(ctx, cs, spec); err != nil {
		return s, err
	}
	before, err := m.read(ctx, cs)
	if err != nil {
		return s, err
	}
	// Between the readings, so that the calls which they take are not counted.
	var counter *syscount.Counter
	if m.round == 0 {
		counter = m.counter()
		defer counter.Close()
	}
	var r load.Result
	if err := m.c.bed.client.Call(ctx, "run", spec, &r); err != nil {
		return s, errors.Join(m.alive(ctx, cs), err)
	}
	if counter != nil {
		all, err := counter.Count()
		if err != nil {
			return s, err
		}
		s.Counts = m.counts(all, cs, r)
	}
	after, err := m.read(ctx, cs)
	if err != nil {
		return s, err
	}
	if r.Ops == 0 || r.Elapsed <= 0 {
		return s, errors.New("no operation was completed")
	}
	s.Metrics = metrics(cs, r, before, after)
	for name, v := range m.memory {
		s.Metrics[name] = v
	}
	h, err := r.Histogram()
	if err != nil {
		return s, err
	}
	summary.Latency(s.Metrics, h)
	s.Latencies = r.Latencies
	return s, nil
}

// prepare sees to it that the client has the session that a case needs.
func (m *measurement) prepare(ctx context.Context, cs plan.Case, spec load.Spec) error {
	if m.session == cs.Session() {
		return m.c.bed.client.Call(ctx, "ready", nil, nil)
	}
	m.drop(ctx)
	if err := m.alive(ctx, cs); err != nil {
		return err
	}
	idle := cs.Spec.Kind == load.Idle
	var server measure.Usage
	var available uint64
	if idle {
		if err := m.server.CallWithin(ctx, patience, "usage", role.UsageRequest{Shrink: true}, &server); err != nil {
			return err
		}
		available = measure.Available()
	}
	if err := m.c.bed.client.Call(ctx, "prepare", spec, nil); err != nil {
		return errors.Join(m.alive(ctx, cs), err)
	}
	m.session = cs.Session()
	if !idle || cs.Spec.Conns == 0 {
		return nil
	}
	var now measure.Usage
	if err := m.server.CallWithin(ctx, patience, "usage", role.UsageRequest{Shrink: true}, &now); err != nil {
		return err
	}
	conns := float64(cs.Spec.Conns)
	m.memory = map[string]float64{"memory_bytes_per_conn": float64(now.Sub(server).Resident) / conns}
	if left := measure.Available(); left < available {
		m.memory["machine_memory_bytes_per_conn"] = float64(available-left) / conns
	}
	return nil
}

// alive is an error that names the server, or the backend, if it has ended. The client
// knows nothing of that, and would dial for seconds.
func (m *measurement) alive(ctx context.Context, cs plan.Case) error {
	err := m.server.CallWithin(ctx, patience, "usage", role.UsageRequest{}, nil)
	if cs.Proxied {
		err = errors.Join(err, m.c.backend.CallWithin(ctx, patience, "usage", role.UsageRequest{}, nil))
	}
	return err
}

// drop ends the client's session.
func (m *measurement) drop(ctx context.Context) {
	if m.session == "" {
		return
	}
	m.session, m.memory = "", nil
	// If the client is gone, what comes next fails and says so.
	_ = m.c.bed.client.Call(ctx, "finish", nil, nil)
}

func (m *measurement) read(ctx context.Context, cs plan.Case) (r readings, err error) {
	err = errors.Join(
		m.server.CallWithin(ctx, patience, "usage", role.UsageRequest{}, &r.server),
		m.c.bed.client.Call(ctx, "usage", role.UsageRequest{}, &r.client),
	)
	if cs.Proxied {
		err = errors.Join(err, m.c.backend.Call(ctx, "usage", role.UsageRequest{}, &r.backend))
	}
	if err == nil {
		r.machine, err = measure.ReadMachine()
	}
	return r, err
}

// metrics computes the figures of one run.
func metrics(cs plan.Case, r load.Result, before, after readings) map[string]float64 {
	server, client := after.server.Sub(before.server), after.client.Sub(before.client)
	backend, machine := after.backend.Sub(before.backend), after.machine.Sub(before.machine)
	seconds, ops := r.Elapsed.Seconds(), float64(r.Ops)
	if cs.Bulk {
		ops = float64(r.Bytes) / load.MiB
	}
	micro := func(ns int64) float64 { return float64(ns) / 1e3 }
	v := map[string]float64{
		"voluntary_switches_s":   float64(server.Voluntary) / seconds,
		"involuntary_switches_s": float64(server.Involuntary) / seconds,
	}
	if all := machine.Busy + machine.Stolen; all > 0 {
		v["stolen_share"] = float64(machine.Stolen) / float64(all)
	}
	if cs.Spec.Kind == load.Idle {
		v["cpu_ms_s"] = float64(machine.Busy.Microseconds()) / 1e3 / seconds
		v["server_cpu_ms_s"] = float64(server.CPU.Microseconds()) / 1e3 / seconds
		v["rx_frames_s"], v["tx_frames_s"] = float64(server.Link.RXFrames)/seconds, float64(server.Link.TXFrames)/seconds
		v["allocs_s"] = float64(server.Mallocs) / seconds
		for name, n := range server.Counters { // each wakeup and sleep is a system call of the data path
			v["peer_"+identifier(name)+"_s"] = float64(n) / seconds
		}
		return v
	}
	if cs.Bulk {
		v["gbit_s"] = float64(r.Bytes) * 8 / seconds / 1e9
	} else {
		v["ops_s"] = ops / seconds
		v["lost"] = float64(r.Lost)
	}
	v["cpu_us_per_op"] = micro(machine.Busy.Nanoseconds()) / ops
	v["softirq_us_per_op"] = micro(machine.SoftIRQ.Nanoseconds()) / ops
	v["server_cpu_us_per_op"] = micro(server.CPU.Nanoseconds()) / ops
	v["client_cpu_us_per_op"] = micro(client.CPU.Nanoseconds()) / ops
	if cs.Proxied {
		v["backend_cpu_us_per_op"] = micro(backend.CPU.Nanoseconds()) / ops
	}
	v["rx_frames_per_op"] = float64(server.Link.RXFrames) / ops
	v["tx_frames_per_op"] = float64(server.Link.TXFrames) / ops
	v["rx_bytes_per_op"] = float64(server.Link.RXBytes) / ops
	v["tx_bytes_per_op"] = float64(server.Link.TXBytes) / ops
	v["allocs_per_op"] = float64(server.Mallocs) / ops
	v["alloc_bytes_per_op"] = float64(server.AllocBytes) / ops
	for name, n := range server.Counters {
		v["peer_"+identifier(name)+"_per_op"] = float64(n) / ops
	}
	return v
}

// identifier makes a counter's name fit for a metric's.
func identifier(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	return strings.Join(words, "_")
}

// counter starts counting the system calls of the processes on this machine. It
// is nil, once with a word about it, where they cannot be counted.
func (m *measurement) counter() *syscount.Counter {
	c := m.c
	if c.uncounted {
		return nil
	}
	processes := []int{os.Getpid(), m.server.PID}
	if c.bed.clientPID != 0 {
		processes = append(processes, c.bed.clientPID)
	}
	if c.backend != nil {
		processes = append(processes, c.backend.PID)
	}
	counter, err := syscount.Open(processes...)
	if err != nil {
		c.uncounted = true
		fmt.Fprintf(c.log, "bench: system calls are not counted: %v\n", err)
		return nil
	}
	return counter
}

// leastCalls is the rate from which a kind of system call is worth a line of its
// own.
const leastCalls = 0.01

// counts are the system calls of the run, of all that were counted.
func (m *measurement) counts(all map[int]map[int]uint64, cs plan.Case, r load.Result) map[string]float64 {
	if len(all[os.Getpid()]) == 0 {
		// This process has made some, to have the run made.
		m.c.uncounted = true
		fmt.Fprintln(m.c.log, "bench: system calls are not counted: in this PID namespace processes have other numbers than for the kernel")
		return nil
	}
	if r.Elapsed <= 0 || r.Ops == 0 {
		return nil // nothing to divide by: the run has failed
	}
	per, suffix := float64(r.Ops), "_per_op"
	if cs.Bulk {
		per = float64(r.Bytes) / load.MiB
	}
	if cs.Spec.Kind == load.Idle {
		per, suffix = r.Elapsed.Seconds(), "_s"
	}
	v := map[string]float64{"syscalls" + suffix: float64(sum(all[m.server.PID])) / per}
	for number, n := range all[m.server.PID] {
		if name := "syscalls_" + syscount.Name(number) + suffix; float64(n)/per >= leastCalls {
			v[name] += float64(n) / per
		}
	}
	if pid := m.c.bed.clientPID; pid != 0 && suffix == "_per_op" {
		v["client_syscalls_per_op"] = float64(sum(all[pid])) / per
	}
	if cs.Proxied {
		v["backend_syscalls_per_op"] = float64(sum(all[m.c.backend.PID])) / per
	}
	return v
}

// sum is how many calls of all kinds there were.
func sum(calls map[int]uint64) (n uint64) {
	for _, k := range calls {
		n += k
	}
	return n
}
