package inline

import (
	"errors"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// TestTested wants the version that go.mod asks for among the tested ones, so
// that an update of gVisor cannot switch this package off, or on, unseen.
func TestTested(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == module {
			if !slices.Contains(Tested(), f[1]) {
				t.Errorf("go.mod has %s, tested is %v", f[1], Tested())
			}
			return
		}
	}
	t.Fatal("go.mod does not name " + module)
}

func TestSupported(t *testing.T) {
	tested := Tested()[0]
	build := func(deps ...*debug.Module) *debug.BuildInfo { return &debug.BuildInfo{Deps: deps} }
	other := &debug.Module{Path: "example.org/x", Version: tested}
	for name, c := range map[string]struct {
		info *debug.BuildInfo
		want string // in the error; empty: none
	}{
		"tested":       {build(other, &debug.Module{Path: module, Version: tested}), ""},
		"newer":        {build(&debug.Module{Path: module, Version: "v0.0.0-20990101000000-000000000000"}), "v0.0.0-20990101000000-000000000000"},
		"replaced":     {build(&debug.Module{Path: module, Version: tested, Replace: &debug.Module{Path: "../gvisor"}}), "../gvisor"},
		"not named":    {build(other), "does not name"},
		"no module":    {nil, "build it as a module"},
		"of a prefix":  {build(&debug.Module{Path: module + "/x", Version: tested}), "does not name"},
		"empty string": {build(&debug.Module{Path: module}), "is , tested"},
	} {
		err := supported(c.info)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestStepFor leaves to netstack what its goroutine does in another way, and
// nothing that a connection which lives needs.
func TestStepFor(t *testing.T) {
	for _, s := range []tcp.EndpointState{
		tcp.StateListen, tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv, tcp.StateEstablished,
		tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateCloseWait, tcp.StateLastAck, tcp.StateClosing,
	} {
		if stepFor(s) == nil {
			t.Errorf("%v is left to netstack", s)
		}
	}
	for _, s := range []tcp.EndpointState{tcp.StateInitial, tcp.StateBound, tcp.StateTimeWait, tcp.StateClose, tcp.StateError} {
		if stepFor(s) != nil {
			t.Errorf("%v is not left to netstack", s)
		}
	}
}
