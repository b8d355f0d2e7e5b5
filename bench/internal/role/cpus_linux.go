package role

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onCPUs runs start on a thread that is bound to CPUs, which a process that is
// started there inherits.
func onCPUs(cpus []int, start func() error) error {
	if len(cpus) == 0 {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	for _, c := range cpus {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind to CPUs %v: %w", cpus, os.NewSyscallError("sched_setaffinity", err))
	}
	defer unix.SchedSetaffinity(0, &before) //nolint:errcheck // what was allowed a moment ago
	return start()
}
