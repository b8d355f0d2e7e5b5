package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/plan"
)

func TestParseDefaults(t *testing.T) {
	o, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(o.workloads) != fmt.Sprint(plan.Names()) || fmt.Sprint(o.peers) != fmt.Sprint(peers.Usual()) {
		t.Errorf("by default %v with %v, want everything", o.workloads, o.peers)
	}
	if o.rounds < 10 || o.quick || o.mtu != 1500 || o.queues != 1 {
		t.Errorf("got %+v", o)
	}
}

func TestParseQuick(t *testing.T) {
	o, err := parse([]string{"-quick", "-peers", "kernel, afxnet,kernel", "-d", "20ms"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(o.workloads) != fmt.Sprint(plan.Quick) || fmt.Sprint(o.peers) != "[kernel afxnet]" {
		t.Errorf("got %v with %v", o.workloads, o.peers)
	}
	if o.rounds != quickRounds || o.spread || o.duration != 20*time.Millisecond {
		t.Errorf("got %+v", o)
	}
}

func TestParseMatch(t *testing.T) {
	o, err := parse([]string{"-match", "tcp 64 B$"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c := &conductor{o: o}
	for workload, want := range map[string]int{"rr": 1, "crr": 1, "idle": 0} {
		if cases, err := c.cases(workload); err != nil || len(cases) != want {
			t.Errorf("%s: %d cases, %v, want %d", workload, len(cases), err, want)
		}
	}
}

func TestParsePin(t *testing.T) {
	o, err := parse([]string{"-pin", "0,1/2"}, io.Discard)
	if err != nil || fmt.Sprint(o.pin) != "[[0 1] [2]]" {
		t.Errorf("got %v, %v", o.pin, err)
	}
}

func TestParseReal(t *testing.T) {
	o, err := parse([]string{"-i", "eth0", "-addr", "192.0.2.10/24", "-peer", "192.0.2.20:7100"}, io.Discard)
	if err != nil || o.iface != "eth0" || o.addr.String() != "192.0.2.10/24" {
		t.Errorf("got %+v, %v", o, err)
	}
	for given, want := range map[string]string{"host": "host:7100", "host:1": "host:1", "fd00::1": "[fd00::1]:7100", "[fd00::1]": "[fd00::1]:7100"} {
		o, err := parse([]string{"-i", "eth0", "-addr", "192.0.2.10/24", "-peer", given}, io.Discard)
		if err != nil || o.peer != want {
			t.Errorf("-peer %s: got %q, %v, want %q", given, o.peer, err, want)
		}
	}
}

func TestParseAgent(t *testing.T) {
	for _, tune := range []bool{false, true} {
		o, err := parse([]string{"-agent", ":7100", fmt.Sprintf("-tune=%v", tune)}, io.Discard)
		if err != nil || o.agent != ":7100" || o.tune != tune {
			t.Errorf("got %+v, %v", o, err)
		}
	}
}

// TestParseErrors checks that each mistake is named with its flag.
func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"-workloads nothing", `-workloads: no "nothing"; there are rr, `},
		{"-peers rr", `-peers: no "rr"; there are kernel, `},
		{"-rounds 0", "-rounds is 0"},
		{"-d 1us", "-d and -idle"},
		{"-idle -1s", "-d and -idle"},
		{"-queues 0", "-queues is 0"},
		{"-json no/such/folder/out.json", "-json: "},
		{"-gomaxprocs -1", "-gomaxprocs is -1"},
		{"-pin 0", `-pin is "0"`},
		{"-pin 0/x", `-pin is "0/x"`},
		{"-addr 192.0.2.1/24", "go with -i"},
		{"-i eth0", `-addr is ""`},
		{"-i eth0 -addr fd00::1/64", "-addr is"},
		{"-i eth0 -addr 192.0.2.1/24", `-peer is ""`},
		{"-i eth0 -addr 192.0.2.1/24 -peer host -mtu 9000", "-mtu is that of the private network"},
		{"-match [", "-match: "},
		{"-agent :7100 -quick", "-agent takes no other flags"},
		{"-agent :7100 -tune -quick", "-agent takes no other flags"},
		{"-tune", "-tune goes with -agent"},
		{"rr", `unexpected argument "rr"`},
		{"-unknown", "not defined"},
	} {
		_, err := parse(strings.Fields(tc.args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.args, err, tc.want)
		}
	}
}
