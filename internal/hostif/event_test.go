package hostif

import "testing"

func TestStateChange(t *testing.T) {
	running := State{Present: true, Up: true, Running: true, MTU: 1500}
	down := State{Present: true, MTU: 1500}
	noCarrier := State{Present: true, Up: true, MTU: 1500}
	large := running
	large.MTU = 9000
	other := running
	other.MAC = "\x02\x00\x00\x00\x00\x01"
	for _, tc := range []struct {
		name     string
		old, new State
		want     string
	}{
		{"first", State{}, running, "first+up+running+mtu+mac"},
		{"first, down", State{}, down, "first+down+not running+mtu+mac"},
		{"first, gone", State{}, State{}, "gone"},
		{"none", running, running, ""},
		{"down", running, down, "down+not running"},
		{"up", noCarrier, running, "running"},
		{"carrier lost", running, noCarrier, "not running"},
		{"mtu", running, large, "mtu"},
		{"mac", running, other, "mac"},
		{"gone", large, State{}, "gone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.new.changeFrom(tc.old).String(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestXDPModeString(t *testing.T) {
	for mode, want := range map[XDPMode]string{XDPNone: "none", XDPGeneric: "generic", XDPMultiple: "multiple", 9: "XDPMode(9)"} {
		if got := mode.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
