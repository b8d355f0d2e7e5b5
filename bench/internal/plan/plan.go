// Package plan lists the workloads and their cases: what the client does, against
// which port, and which peers can take part.
package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/afxnet/afxnet/bench/internal/inmemory"
	"github.com/afxnet/afxnet/bench/internal/load"
	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/bench/internal/peers"
)

// Params tell the cases of a workload apart.
type Params map[string]any

// order is how the parameters are shown.
var order = []string{"network", "load", "loop", "direction", "size", "conns", "rate"}

// String returns the parameters in a fixed order, without names where the value
// says enough.
func (p Params) String() string {
	var parts []string
	for _, name := range order {
		v, ok := p[name]
		if !ok {
			continue
		}
		switch name {
		case "size":
			parts = append(parts, fmt.Sprintf("%v B", v))
		case "conns":
			parts = append(parts, fmt.Sprintf("%v conns", v))
		case "rate":
			parts = append(parts, fmt.Sprintf("%v/s", v))
		default:
			parts = append(parts, fmt.Sprint(v))
		}
	}
	return strings.Join(parts, " ")
}

// A Case is measured once per round and peer.
type Case struct {
	Workload string
	Params   Params
	Port     int
	Spec     load.Spec // without the address

	// Solo is what a case does that has no client: a load of package inmemory
	// for wire, a loop of package raw for raw. Everything else but Frame is
	// empty then.
	Solo  string
	Frame int // of raw, bytes with the Ethernet header; may be more than the MTU carries

	// Bulk counts in MiB and has no latencies.
	Bulk bool
	// Canned is the peer without sockets that can serve it; empty for none.
	Canned string
	// Proxied counts the backend too.
	Proxied bool
}

// Session tells cases apart that need connections of their own. Those that share
// one follow each other.
func (c Case) Session() string {
	return fmt.Sprint(c.Spec.Network, c.Port, c.Spec.Size, c.Spec.Conns, c.Bulk, c.Spec.Kind == load.CRR, c.Spec.Kind == load.Idle)
}

// Takes tells whether a peer can take part.
func (c Case) Takes(e peers.Entry) bool { return e.Open != nil || c.Canned == e.Name }

// Options are what the cases depend on.
type Options struct {
	Quick    bool
	Duration time.Duration // of a run
	Idle     time.Duration // of a run of idle
	MTU      int           // bytes; longer datagrams are fragmented
}

// headers is the room that IPv4 and UDP need in a datagram, in bytes.
const headers = 28

// A workload makes its cases.
type workload struct {
	name, about string
	cases       func(Options) []Case
}

var workloads = []workload{
	{"rr", "one request and its response at a time, on one connection", rr},
	{"crr", "connect, one exchange of 64 B, close", crr},
	{"stream", "bulk, client to server", bulk("stream", peer.SinkPort, load.Stream)},
	{"source", "bulk, server to client", bulk("source", peer.SourcePort, load.Source)},
	{"many", "64 B exchanges on 1,000 and 10,000 connections, closed loop and at fixed rates", many},
	{"proxy", "kernel client, server under test, kernel server", proxy},
	{"idle", "nothing to do, without and with 10,000 connections", idle},
	{Raw, "AF_XDP without a stack: receive and drop, transmit, forward; beside a C program; jumbo frames, for which the MTU is raised", rawLoops},
	{Wire, "the stacks themselves, joined in memory, no kernel", wire},
}

// Workloads without a client.
const (
	Raw  = "raw"
	Wire = "wire"
)

// Names returns the names of all workloads.
func Names() []string {
	var names []string
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return names
}

// About returns a line on each workload, for the help text.
func About() string {
	var b strings.Builder
	for _, w := range workloads {
		fmt.Fprintf(&b, "  %-8s %s\n", w.name, w.about)
	}
	return b.String()
}

// Quick are the workloads of a quick run that names none.
var Quick = []string{"rr", "crr", "stream", "source"}

// Cases returns the cases of a workload.
func Cases(name string, o Options) ([]Case, error) {
	i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })
	if i < 0 {
		return nil, fmt.Errorf("no workload %q; there are %s", name, strings.Join(Names(), ", "))
	}
	return workloads[i].cases(o), nil
}

func rr(o Options) (cases []Case) {
	sizes := []int{1, 64, 1024, 16384}
	if o.Quick {
		sizes = []int{64}
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, size := range sizes {
			canned := peers.Floor
			if network == "udp" && size+headers > o.MTU {
				canned = ""
			}
			cases = append(cases, Case{
				Workload: "rr", Port: peer.EchoPort,
				Params: Params{"network": network, "size": size},
				Canned: canned,
				Spec:   load.Spec{Kind: load.RR, Network: network, Size: size, Conns: 1, Duration: o.Duration},
			})
		}
	}
	return cases
}

func crr(o Options) []Case {
	return []Case{{
		Workload: "crr", Port: peer.EchoPort, Canned: peers.Floor,
		Params: Params{"network": "tcp", "size": 64},
		Spec:   load.Spec{Kind: load.CRR, Network: "tcp", Size: 64, Conns: 1, Duration: o.Duration},
	}}
}

func bulk(name string, port int, kind load.Kind) func(Options) []Case {
	return func(o Options) []Case {
		return []Case{{
			Workload: name, Port: port, Bulk: true, Canned: peers.Raw,
			Params: Params{"network": "tcp", "conns": 1},
			Spec:   load.Spec{Kind: kind, Network: "tcp", Conns: 1, Duration: o.Duration},
		}}
	}
}

// rates are those of the open loop in requests a second: an easy one, and one
// near what the kernel can do on a small machine.
var rates = []int{2000, 10000, 20000}

func many(o Options) (cases []Case) {
	counts := []int{1000, 10000}
	rates := rates
	if o.Quick {
		counts, rates = counts[:1], nil
	}
	for _, conns := range counts {
		c := Case{
			Workload: "many", Port: peer.EchoPort, Canned: peers.Floor,
			Params: Params{"network": "tcp", "size": 64, "conns": conns, "loop": "closed"},
			Spec:   load.Spec{Kind: load.RR, Network: "tcp", Size: 64, Conns: conns, Duration: o.Duration},
		}
		cases = append(cases, c)
		for _, rate := range rates {
			c.Params = Params{"network": "tcp", "size": 64, "conns": conns, "loop": "open", "rate": rate}
			c.Spec.Kind, c.Spec.Rate = load.Open, float64(rate)
			cases = append(cases, c)
		}
	}
	return cases
}

func proxy(o Options) (cases []Case) {
	type shape struct{ size, conns int }
	shapes := []shape{{64, 1}, {64, 64}, {1024, 1}, {1024, 64}}
	if o.Quick {
		shapes = shapes[:2]
	}
	for _, s := range shapes {
		cases = append(cases, Case{
			Workload: "proxy", Port: peer.ProxyPort, Proxied: true,
			Params: Params{"network": "tcp", "size": s.size, "conns": s.conns},
			Spec:   load.Spec{Kind: load.RR, Network: "tcp", Size: s.size, Conns: s.conns, Duration: o.Duration},
		})
	}
	return append(cases, Case{
		Workload: "proxy", Port: peer.ProxySinkPort, Proxied: true, Bulk: true, Canned: peers.Raw, // as a sink, with nothing behind it
		Params: Params{"network": "tcp", "direction": "bulk", "conns": 1},
		Spec:   load.Spec{Kind: load.Stream, Network: "tcp", Conns: 1, Duration: o.Duration},
	})
}

func idle(o Options) (cases []Case) {
	counts := []int{0, 10000}
	if o.Quick {
		counts = counts[:1]
	}
	for _, conns := range counts {
		cases = append(cases, Case{
			Workload: "idle", Port: peer.EchoPort,
			Params: Params{"conns": conns},
			Spec:   load.Spec{Kind: load.Idle, Network: "tcp", Size: 1, Conns: conns, Duration: o.Idle},
		})
	}
	return cases
}

// EthernetHeader is the length of a frame beside the MTU, and jumbo the MTU that the
// largest frames of raw need at least, in bytes.
const (
	EthernetHeader = 14
	jumbo          = 9000
)

func rawLoops(o Options) (cases []Case) {
	sizes := []int{64, 1500 + EthernetHeader, max(o.MTU, jumbo) + EthernetHeader}
	switch {
	case o.Quick:
		sizes = sizes[:1]
	case o.MTU < 1500:
		sizes = slices.Delete(sizes, 1, 2)
	}
	for _, loop := range []string{"rx", "tx", "forward"} {
		for _, size := range sizes {
			cases = append(cases, Case{
				Workload: Raw, Solo: loop, Frame: size,
				Params: Params{"loop": loop, "size": size},
				Spec:   load.Spec{Duration: o.Duration},
			})
		}
	}
	return cases
}

func wire(o Options) (cases []Case) {
	for _, l := range inmemory.Loads {
		cases = append(cases, Case{
			Workload: Wire, Solo: l, Params: Params{"load": l}, Spec: load.Spec{Duration: o.Duration},
		})
	}
	return cases
}
