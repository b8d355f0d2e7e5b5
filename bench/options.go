package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/plan"
	"github.com/afxnet/afxnet/bench/internal/role"
)

type options struct {
	workloads, peers []string
	match            *regexp.Regexp // what cases have to be described by; nil for all
	rounds           int
	duration, idle   time.Duration
	quick            bool
	spread           bool // a quick run chooses its duration
	mtu, queues      int
	gomaxprocs       int
	pin              [2][]int // CPUs of the server and of the client
	json, html       string

	iface   string
	addr    netip.Prefix
	peer    string
	peerDev string
	agent   string
	tune    bool // the agent's machine

	begun    time.Time
	deadline time.Time // when processes are killed that have not ended; zero is never
}

// process is how a process at one end of the link runs: 0 is the server's, where the
// backend is too, 1 the client's.
func (o options) process(end int, inside func(func() error) error) role.Options {
	return role.Options{Inside: inside, GOMAXPROCS: o.gomaxprocs, CPUs: o.pin[end], Deadline: o.deadline}
}

// quickLimit is when a quick run stops where it is; it plans to be done earlier.
// A minute is what a reader waits for; the build takes some of it. quickKill is when
// processes are killed that hang and would take seconds more, one after the other.
const (
	quickLimit  = 47 * time.Second
	quickKill   = quickLimit + 1500*time.Millisecond
	quickRounds = 3
)

// agentPort is where an agent listens if nobody says otherwise.
const agentPort = "7100"

var errQuickOver = errors.New("the time of a quick run is over")

// quickPeers are the peers of a quick run that names none.
var quickPeers = []string{peers.Kernel, peers.Floor, peers.Raw, "afxnet", "inline", "inline-block"}

// parse reads the command line. Errors name the flag and what it takes.
func parse(args []string, out io.Writer) (o options, err error) {
	o.begun = time.Now()
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	var workloads, peerNames, match, pin, addr string
	var ablation bool
	f.StringVar(&workloads, "workloads", "", "workloads to run, separated by commas; all if empty")
	f.StringVar(&peerNames, "peers", "", "peers to compare, separated by commas; all if empty, but for those of -ablation and those for NICs")
	f.StringVar(&match, "match", "", "run only the cases whose parameters match this regular expression, such as 'tcp 64 B'")
	f.BoolVar(&ablation, "ablation", false, "compare ours with ours less one mechanism each: what each is worth")
	f.IntVar(&o.rounds, "rounds", 10, "rounds that count; one more, discarded, goes before them")
	f.DurationVar(&o.duration, "d", 500*time.Millisecond, "how long each case runs in each round")
	f.DurationVar(&o.idle, "idle", 5*time.Second, "how long each case of the idle workload runs")
	f.BoolVar(&o.quick, "quick", false, "end within 50 seconds; the figures are not for quoting")
	f.IntVar(&o.mtu, "mtu", 1500, "MTU of the private network in bytes; that of a real link (-i) stays as it is")
	f.IntVar(&o.queues, "queues", 1, "queues of the interface that XDP peers use")
	f.IntVar(&o.gomaxprocs, "gomaxprocs", 0, "GOMAXPROCS of server and client, of an agent not; 0 leaves it to the runtime")
	f.StringVar(&pin, "pin", "", "CPUs of the server, with the backend of proxy, and of the client, of an agent not, such as 0/1 or 0,1/2,3; not bound if empty")
	f.StringVar(&o.json, "json", "", "file to write the results to, as JSON lines")
	f.StringVar(&o.html, "html", "", "file to write a page with plots to")
	f.StringVar(&o.iface, "i", "", "interface of a real link, instead of the private network")
	f.StringVar(&addr, "addr", "", "with -i: address with prefix length to serve at; nobody on the link may have it")
	f.StringVar(&o.peer, "peer", "", "with -i: host, or host:port, of the agent on the other machine, reached by another address than -addr")
	f.StringVar(&o.peerDev, "peer-i", "", "with -i: device at the agent's end whose offloads may be changed, as XDP needs over veth and virtio")
	f.StringVar(&o.agent, "agent", "", "be the client for a bench on another machine; listen at this host:port")
	f.BoolVar(&o.tune, "tune", false, "with -agent, as root: until it ends this machine keeps 256 connections in TIME_WAIT, or crr runs out of ports, and no metrics of TCP")
	f.Usage = func() {
		fmt.Fprintf(out, "usage: go run ./bench [flags]\n\nworkloads:\n%s\npeers:\n", plan.About())
		for _, e := range peers.All {
			fmt.Fprintf(out, "  %-17s %s\n", e.Name, e.About)
		}
		fmt.Fprintf(out, "\nflags:\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() != 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	given := make(map[string]bool)
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.agent != "" {
		if delete(given, "tune"); len(given) != 1 {
			return o, errors.New("-agent takes no other flags but -tune: the bench that drives it has them")
		}
		return o, nil
	}
	if o.tune {
		return o, errors.New("-tune goes with -agent")
	}
	if o.workloads, err = choose("-workloads", workloads, plan.Names()); err != nil {
		return o, err
	}
	switch {
	case ablation && peerNames != "":
		return o, errors.New("-ablation chooses the peers: -peers does not go with it")
	case ablation:
		o.peers = peers.Ablation()
	case peerNames == "":
		o.peers = peers.Usual()
	default:
		if o.peers, err = choose("-peers", peerNames, peers.Names()); err != nil {
			return o, err
		}
	}
	if given["mtu"] && o.iface != "" {
		return o, fmt.Errorf("-mtu is that of the private network: set that of %s yourself, at both ends of the link", o.iface)
	}
	if match != "" {
		if o.match, err = regexp.Compile(match); err != nil {
			return o, fmt.Errorf("-match: %w", err)
		}
	}
	if o.pin, err = parsePin(pin); err != nil {
		return o, err
	}
	if o.quick {
		o.quicken(given)
	}
	err = o.check(addr)
	return o, err
}

// quicken leaves out what a quick run has no time for.
func (o *options) quicken(given map[string]bool) {
	if !given["workloads"] {
		o.workloads = plan.Quick
	}
	if !given["peers"] && !given["ablation"] {
		o.peers = quickPeers
	}
	if !given["rounds"] {
		o.rounds = quickRounds
	}
	o.spread = !given["d"]
	if !given["idle"] {
		o.idle = time.Second
	}
}

func (o *options) check(addr string) error {
	for _, f := range [][2]string{{"-json", o.json}, {"-html", o.html}} {
		if _, err := os.Stat(filepath.Dir(f[1])); err != nil {
			return fmt.Errorf("%s: %w", f[0], err) // now, and not after hours
		}
	}
	switch {
	case o.rounds < 1:
		return fmt.Errorf("-rounds is %d, at least 1", o.rounds)
	case o.duration < 10*time.Millisecond || o.idle < 10*time.Millisecond:
		return fmt.Errorf("-d and -idle are %v and %v, at least 10ms", o.duration, o.idle)
	case o.gomaxprocs < 0:
		return fmt.Errorf("-gomaxprocs is %d, at least 0", o.gomaxprocs)
	case o.queues < 1:
		return fmt.Errorf("-queues is %d, at least 1", o.queues)
	}
	if o.iface == "" {
		if addr != "" || o.peer != "" || o.peerDev != "" {
			return errors.New("-addr, -peer and -peer-i go with -i")
		}
		return nil
	}
	var err error
	if o.addr, err = netip.ParsePrefix(addr); err != nil || !o.addr.Addr().Is4() {
		return fmt.Errorf("-addr is %q, want an IPv4 address with prefix length, such as 192.0.2.10/24", addr)
	}
	if o.peer == "" {
		return errors.New(`-peer is "", want the host of a bench with -agent`)
	}
	if _, _, err := net.SplitHostPort(o.peer); err != nil {
		o.peer = net.JoinHostPort(strings.Trim(o.peer, "[]"), agentPort)
	}
	return nil
}

// choose splits a list of names that must be among all; empty means all.
func choose(name, list string, all []string) ([]string, error) {
	if list == "" {
		return all, nil
	}
	var chosen []string
	for _, n := range strings.Split(list, ",") {
		n = strings.TrimSpace(n)
		if !slices.Contains(all, n) {
			return nil, fmt.Errorf("%s: no %q; there are %s", name, n, strings.Join(all, ", "))
		}
		if !slices.Contains(chosen, n) {
			chosen = append(chosen, n)
		}
	}
	return chosen, nil
}

// parsePin reads two lists of CPUs, such as 0,1/2.
func parsePin(s string) (pin [2][]int, err error) {
	if s == "" {
		return pin, nil
	}
	server, client, ok := strings.Cut(s, "/")
	for i, list := range []string{server, client} {
		for _, n := range strings.Split(list, ",") {
			cpu, err := strconv.Atoi(n)
			if err != nil || cpu < 0 || !ok {
				return pin, fmt.Errorf("-pin is %q, want CPUs of the server, a slash, and CPUs of the client, such as 0/1", s)
			}
			pin[i] = append(pin[i], cpu)
		}
	}
	return pin, nil
}
