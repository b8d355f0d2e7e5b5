package lab

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// KeepCapabilities gives up all capabilities but these on the calling thread,
// to which the goroutine is locked from then on. They cannot be got back: call
// it in a process, or on a goroutine, that ends with the test.
func KeepCapabilities(tb testing.TB, keep ...uint) {
	tb.Helper()
	runtime.LockOSThread()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for _, c := range keep {
		data[c/32].Effective |= 1 << (c % 32)
		data[c/32].Permitted |= 1 << (c % 32)
	}
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		tb.Fatal(err)
	}
}
