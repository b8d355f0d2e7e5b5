package lab

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ExecUnprivileged replaces the process by another run of its program that can do
// nothing by privilege: user and group Nobody, no supplementary group, no capability
// in any set nor a way to get one, no locked memory. It returns only if it fails.
func ExecUnprivileged(args, env []string) error {
	// The thread that calls exec is the one whose credentials count.
	runtime.LockOSThread()
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("lab: limit locked memory: %w", os.NewSyscallError("setrlimit", err))
	}
	for c := range uintptr(64) {
		// EINVAL: the kernel has no more of them.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("lab: drop capability %d: %w", c, os.NewSyscallError("prctl", err))
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("lab: %w", os.NewSyscallError("prctl", err))
	}
	for _, call := range []struct {
		name string
		trap uintptr
		id   uintptr
	}{{"setgroups", unix.SYS_SETGROUPS, 0}, {"setresgid", unix.SYS_SETRESGID, Nobody}, {"setresuid", unix.SYS_SETRESUID, Nobody}} {
		var e unix.Errno
		if call.id == 0 {
			_, _, e = unix.RawSyscall(call.trap, 0, 0, 0)
		} else {
			_, _, e = unix.RawSyscall(call.trap, call.id, call.id, call.id)
		}
		if e != 0 {
			return fmt.Errorf("lab: become nobody: %w", os.NewSyscallError(call.name, e))
		}
	}
	// By its path, the program may be out of nobody's reach.
	return fmt.Errorf("lab: %w", os.NewSyscallError("execve", unix.Exec("/proc/self/exe", args, env)))
}
