package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/afxnet/afxnet/bench/internal/load"
	"github.com/afxnet/afxnet/bench/internal/peers"
)

var options = Options{Duration: time.Second, Idle: time.Second, MTU: 1500}

func TestCases(t *testing.T) {
	for _, quick := range []bool{false, true} {
		o := options
		o.Quick = quick
		for _, name := range Names() {
			cases, err := Cases(name, o)
			if err != nil || len(cases) == 0 {
				t.Errorf("%s: %d cases, %v", name, len(cases), err)
			}
			seen, sessions := make(map[string]bool), make(map[string]bool)
			last := ""
			for _, c := range cases {
				if label := c.Params.String(); seen[label] || label == "" {
					t.Errorf("%s: %q twice, or empty", name, label)
				} else {
					seen[label] = true
				}
				if s := c.Session(); s != last && sessions[s] {
					t.Errorf("%s %v: a session that ended before is used again", name, c.Params)
				}
				last = c.Session()
				sessions[last] = true
				if c.Solo != "" {
					continue
				}
				if c.Workload != name || c.Port == 0 || c.Spec.Duration <= 0 || c.Bulk != (c.Spec.Kind == load.Stream || c.Spec.Kind == load.Source) {
					t.Errorf("%s: %+v", name, c)
				}
			}
		}
	}
	if _, err := Cases("rest", options); err == nil || !strings.Contains(err.Error(), "there are rr, ") {
		t.Errorf("got %v", err)
	}
}

func TestAbout(t *testing.T) {
	for _, name := range Names() {
		if !strings.Contains(About(), "  "+name+" ") {
			t.Errorf("nothing about %s", name)
		}
	}
}

// TestJumbo has frames of several chunks in raw, whatever the MTU is.
func TestJumbo(t *testing.T) {
	for mtu, want := range map[int][]int{1300: {64, 9014}, 1500: {64, 1514, 9014}, 9000: {64, 1514, 9014}, 10000: {64, 1514, 10014}} {
		cases, err := Cases(Raw, Options{Duration: time.Second, MTU: mtu})
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, c := range cases {
			if c.Solo == "rx" {
				got = append(got, c.Frame)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("MTU %d: frames of %v bytes, want %v", mtu, got, want)
		}
	}
}

// TestTakes leaves out for the responder what needs sockets, or reassembly.
func TestTakes(t *testing.T) {
	floor, err := peers.Lookup(peers.Floor)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := peers.Lookup(peers.Raw)
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := peers.Lookup(peers.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	takes := make(map[string]bool)
	for _, name := range Names() {
		cases, err := Cases(name, options)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			takes[name+" "+c.Params.String()] = c.Takes(floor)
			if c.Takes(raw) != c.Bulk {
				t.Errorf("raw takes %s %v: %v", name, c.Params, !c.Bulk)
			}
			if c.Solo == "" && !c.Takes(kernel) {
				t.Errorf("the kernel does not take %s %v", name, c.Params)
			}
		}
	}
	for name, want := range map[string]bool{
		"rr tcp 16384 B": true, "rr udp 1024 B": true, "rr udp 16384 B": false, "crr tcp 64 B": true,
		"many tcp closed 64 B 1000 conns": true,
		"stream tcp 1 conns":              false, "idle 0 conns": false, "proxy tcp 64 B 1 conns": false,
	} {
		if got, ok := takes[name]; !ok || got != want {
			t.Errorf("%s: %v (%v), want %v", name, got, ok, want)
		}
	}
}
