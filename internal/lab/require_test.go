package lab

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// recorder is a testing.TB that notes how a test ended.
type recorder struct {
	testing.TB
	outcome string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any) {
	r.outcome = "skip: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.outcome = "fatal: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// outcome returns how f ended a test, "" if it did not.
func outcome(f func(tb testing.TB)) string {
	r := new(recorder)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.outcome
}

func TestMissingFeature(t *testing.T) {
	for _, tc := range []struct{ env, want string }{
		{"", "skip"},
		{"xdp", "skip"},
		{"netnsx", "skip"},
		{"netns", "fatal"},
		{"xdp, netns", "fatal"},
		{"all", "fatal"},
	} {
		t.Run("require="+tc.env, func(t *testing.T) {
			t.Setenv(RequireEnv, tc.env)
			got := outcome(func(tb testing.TB) { Missing(tb, NetNS, errors.New("the reason")) })
			if want := tc.want + ": needs netns: the reason"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestRequireUnknownFeature(t *testing.T) {
	t.Setenv(RequireEnv, "")
	got := outcome(func(tb testing.TB) { Require(tb, "magic") })
	if !strings.HasPrefix(got, "fatal:") || !strings.Contains(got, `"magic"`) {
		t.Errorf("got %q, want a failure that names the feature", got)
	}
}

// TestRequireIsSticky checks that what a machine has and has not does not
// depend on the order of asking, and that a lack of one comes with a reason.
func TestRequireIsSticky(t *testing.T) {
	t.Setenv(RequireEnv, "")
	for _, feature := range []string{Root, NetNS, BPF, XDP, Redis} {
		first := outcome(func(tb testing.TB) { Require(tb, feature) })
		again := outcome(func(tb testing.TB) { Require(tb, feature) })
		if first != again {
			t.Errorf("%s: first %q, then %q", feature, first, again)
		}
		if first != "" && !strings.HasPrefix(first, "skip: needs "+feature+": lab: ") {
			t.Errorf("%s: got %q, want a skip with a reason", feature, first)
		}
		t.Logf("%s: %q", feature, first)
	}
}

func TestConfig(t *testing.T) {
	for _, tc := range []struct {
		name   string
		config Config
		want   string // in the error
	}{
		{"zero", Config{}, ""},
		{"negative queues", Config{Queues: -1}, "Queues is -1"},
		{"too many queues", Config{Queues: 65}, "Queues is 65"},
		{"more TX queues", Config{Queues: 2, TXQueues: 3}, "TXQueues is 3"},
		{"more peer queues", Config{Queues: 2, PeerQueues: 3}, "PeerQueues is 3"},
		{"small MTU", Config{MTU: 1279}, "MTU is 1279"},
		{"large MTU", Config{MTU: 65536}, "MTU is 65536"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tc.config.withDefaults()
			if tc.want == "" && err != nil {
				t.Errorf("got %v", err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestLiteralAddress(t *testing.T) {
	for _, address := range []string{"10.77.0.2:80", ":80", "[fd77::2]:80", "[fe80::1%2]:80"} {
		if err := checkLiteral(address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"localhost:80", "10.77.0.2:http", "10.77.0.2", "[fe80::1%eth0]:80", ""} {
		if err := checkLiteral(address); err == nil {
			t.Errorf("%q: got no error", address)
		}
	}
}
