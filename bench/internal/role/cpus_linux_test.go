package role

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func affinity(t *testing.T) unix.CPUSet {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	return set
}

// TestOnCPUs binds while the function runs, and not longer.
func TestOnCPUs(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := affinity(t)
	first := 0
	for !before.IsSet(first) {
		first++
	}
	err := onCPUs([]int{first}, func() error {
		if now := affinity(t); now.Count() != 1 || !now.IsSet(first) {
			t.Errorf("bound to %v, want CPU %d", now, first)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if now := affinity(t); now != before {
		t.Errorf("bound to %v afterwards, %v before", now, before)
	}
	if err := onCPUs([]int{1023}, func() error { return nil }); err == nil {
		t.Error("a CPU that is not there is no error")
	}
}
