package hostif

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProcessWith finds this process by a socket of its own, and nobody by one that
// is closed. SocketHolder's other half needs a kernel that tells: see vmtest/guest.
func TestProcessWith(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var at unix.Stat_t
	if err := unix.Fstat(fd, &at); err != nil {
		t.Fatal(err)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("process %d (%s)", os.Getpid(), strings.TrimSpace(string(comm)))
	if got := processWith(uint32(at.Ino)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	if got := processWith(uint32(at.Ino)); !strings.Contains(got, "not seen") {
		t.Errorf("closed: %q", got)
	}
}
