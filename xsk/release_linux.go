package xsk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// kernelRelease returns the running kernel's release, as uname -r.
func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// releaseAtLeast compares the beginning of a kernel release; one that cannot be
// read is taken for new.
func releaseAtLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n != 2 {
		return true
	}
	return a > major || a == major && b >= minor
}
