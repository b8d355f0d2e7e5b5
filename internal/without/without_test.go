package without

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/stack"
)

func TestNames(t *testing.T) {
	names := Names()
	if len(names) != len(switches) || !slices.IsSorted(names) {
		t.Errorf("got %v", names)
	}
}

// TestFlag wants the names to be those of the tests' flag.
func TestFlag(t *testing.T) {
	defer flag.Set("afxnet.off", "") //nolint:errcheck // it is empty
	if err := flag.Set("afxnet.off", strings.Join(Names(), ",")); err != nil {
		t.Error(err)
	}
	for _, name := range Names() {
		if !mechanism.Off(name) {
			t.Errorf("%s is not off", name)
		}
	}
}

// TestApply wants each name to change one thing, and another one than the others.
func TestApply(t *testing.T) {
	type switched struct{ gro, ackMerge, ackHold, gather, fastIP, inline, lateArm bool }
	seen := make(map[switched]string)
	for _, name := range Names() {
		var c stack.Config
		if err := Apply(&c, name); err != nil {
			t.Fatal(err)
		}
		d := c.Device
		s := switched{d.NoGRO, d.NoACKMerge, d.NoACKHold, d.NoGather, c.NoFastIP, c.NoInline, d.NoLateArm}
		if other, dup := seen[s]; dup || s == (switched{}) {
			t.Errorf("%s does what %q does: %+v", name, other, s)
		}
		seen[s] = name
	}
	if err := Apply(&stack.Config{}, GRO, "gravity"); err == nil || !strings.Contains(err.Error(), `no mechanism "gravity"`) {
		t.Errorf("got %v", err)
	}
}
