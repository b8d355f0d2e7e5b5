package xsk

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestProgramConfig(t *testing.T) {
	got, err := ProgramConfig{Interface: "eth0"}.withDefaults()
	if err != nil || got.Queues != defaultProgramQueues || got.MaxAddresses != defaultProgramAddresses || got.Mode != AttachAuto {
		t.Errorf("defaults = %+v, %v", got, err)
	}
	for _, tc := range []struct {
		name string
		cfg  ProgramConfig
		want string // part of the error
	}{
		{"no interface", ProgramConfig{}, "Interface"},
		{"short MAC", ProgramConfig{Interface: "e", MAC: net.HardwareAddr{2, 0, 0}}, "MAC"},
		{"EUI-64", ProgramConfig{Interface: "e", MAC: make(net.HardwareAddr, 8)}, "MAC"},
		{"group MAC", ProgramConfig{Interface: "e", MAC: steerBcast}, "MAC"},
		{"negative queues", ProgramConfig{Interface: "e", Queues: -1}, "Queues"},
		{"many queues", ProgramConfig{Interface: "e", Queues: maxProgramQueues + 1}, "Queues"},
		{"negative addresses", ProgramConfig{Interface: "e", MaxAddresses: -1}, "MaxAddresses"},
		{"many addresses", ProgramConfig{Interface: "e", MaxAddresses: maxProgramAddresses + 1}, "MaxAddresses"},
		{"mode", ProgramConfig{Interface: "e", Mode: AttachJoin + 1}, "Mode"},
	} {
		if _, err := tc.cfg.withDefaults(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one about %s", tc.name, err, tc.want)
		}
	}
}

func TestOwnAddress(t *testing.T) {
	for s, want := range map[string]string{ // "" is refused
		"192.0.2.1":        "192.0.2.1",
		"::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8::1":      "2001:db8::1",
		"fe80::1":          "fe80::1",
		"fe80::1%eth0":     "",
		"0.0.0.0":          "",
		"::":               "",
		"::ffff:0.0.0.0":   "",
		"127.0.0.1":        "",
		"::1":              "",
		"224.0.0.1":        "",
		"ff02::1":          "",
		"255.255.255.255":  "",
	} {
		got, err := ownAddress(netip.MustParseAddr(s))
		if want == "" && err == nil || want != "" && (err != nil || got.String() != want) {
			t.Errorf("ownAddress(%s) = %v, %v, want %q", s, got, err, want)
		}
	}
	if _, err := ownAddress(netip.Addr{}); err == nil {
		t.Error("the zero address is accepted")
	}
}

func TestCountersAll(t *testing.T) {
	var c Counters
	for v := range numVerdicts {
		*c.at(v) = uint64(v) + 1
	}
	var next Verdict
	for v, n := range c.All() {
		if v != next || n != uint64(v)+1 {
			t.Errorf("%v = %d, want %v = %d", v, n, next, next+1)
		}
		next++
	}
	if next != numVerdicts {
		t.Errorf("All has %d counters, want %d", next, numVerdicts)
	}
	if want := (Counters{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}); c != want {
		t.Errorf("fields are %+v, want the order of the verdicts", c)
	}
	next = 0
	for range c.All() { // the caller may stop
		next++
		break
	}
	if next != 1 {
		t.Errorf("%d counters before a break, want 1", next)
	}
}
