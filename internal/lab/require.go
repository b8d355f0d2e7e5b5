package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// Features that Require knows.
const (
	Root  = "root"  // user id 0
	NetNS = "netns" // can make network namespaces
	BPF   = "bpf"   // can load a BPF program
	XDP   = "xdp"   // can open an AF_XDP socket and load an XDP program
	Redis = "redis" // has the program redis-server

	// VM is what package vmtest needs, which alone knows whether it is there:
	// Require does not know it.
	VM = "vm"
)

// RequireEnv is the environment variable with features, separated by commas,
// that the machine is supposed to have; "all" stands for every one.
const RequireEnv = "AFXNET_TEST_REQUIRE"

// Require skips the test unless the machine has all of the features. A
// feature that RequireEnv names fails the test instead, so that a skip cannot
// hide that a test no longer runs where it should.
func Require(tb testing.TB, features ...string) {
	tb.Helper()
	for _, feature := range features {
		if err := have(feature); err != nil {
			Missing(tb, feature, err)
		}
	}
}

// Missing ends the test for lack of a feature, as Require does.
func Missing(tb testing.TB, feature string, reason error) {
	tb.Helper()
	if errors.Is(reason, errUnknownFeature) || Required(feature) {
		tb.Fatalf("needs %s: %v", feature, reason)
	}
	tb.Skipf("needs %s: %v", feature, reason)
}

// Required tells whether RequireEnv names the feature.
func Required(feature string) bool {
	for name := range strings.SplitSeq(os.Getenv(RequireEnv), ",") {
		if name = strings.TrimSpace(name); name == feature || name == "all" {
			return true
		}
	}
	return false
}

// errUnknownFeature marks a mistake in a test, which is never a skip.
var errUnknownFeature = errors.New("lab: unknown feature")

var (
	probeMu sync.Mutex
	// probed has the conclusive results: "yes" and "unsupported". A lack of
	// permission or memory may pass.
	probed = map[string]error{}
)

func have(feature string) error {
	var probe func() error
	switch feature {
	case Root:
		probe = probeRoot
	case NetNS:
		probe = probeNetNS
	case BPF:
		probe = probeBPF
	case XDP:
		probe = probeXDP
	case Redis:
		probe = probeRedis
	default:
		return fmt.Errorf("%w %q", errUnknownFeature, feature)
	}
	probeMu.Lock()
	defer probeMu.Unlock()
	if err, ok := probed[feature]; ok {
		return err
	}
	err := probe()
	if err == nil || errors.Is(err, errors.ErrUnsupported) {
		probed[feature] = err
	}
	return err
}

func probeRedis() error {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return fmt.Errorf("lab: %w; Debian has it in the package of that name", err)
	}
	return nil
}
