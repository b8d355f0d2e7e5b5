//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/lab"
)

// childEnv names what a child process is to do, with fewer privileges than this
// one: capabilities and limits can be given up, but not got back.
const childEnv = "AFXNET_XSK_TEST_CHILD"

// runChild runs TestChild in a process of its own in the lab.
func runChild(t *testing.T, what string) {
	t.Helper()
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	err := l.Host.Do(func() error {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$", "-test.v")
		cmd.Env = append(os.Environ(), childEnv+"="+what)
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err == nil && !strings.Contains(string(out), "--- PASS: TestChild") {
			err = errors.New("the child did not run its test")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestOpenWithoutPrivileges(t *testing.T) { runChild(t, "permission") }
func TestOpenMemoryLimit(t *testing.T)       { runChild(t, "memory") }
func TestOpenDescriptorLimit(t *testing.T)   { runChild(t, "descriptors") }

func TestChild(t *testing.T) {
	switch what := os.Getenv(childEnv); what {
	case "":
		// Its parents are the tests above.
	case "permission":
		lab.KeepCapabilities(t)
		_, err := Open(small(Config{}))
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_RAW") {
			t.Errorf("Open: %v", err)
		}
		t.Log(err)
	case "memory":
		childMemory(t)
	case "descriptors":
		childDescriptors(t)
	default:
		t.Fatalf("%s=%s", childEnv, what)
	}
}

func childMemory(t *testing.T) {
	l := unix.Rlimit{Cur: 64 << 10, Max: 64 << 10}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &l); err != nil {
		t.Fatal(err)
	}
	lab.KeepCapabilities(t, unix.CAP_NET_RAW, unix.CAP_NET_ADMIN)
	before := descriptors.Open(t)
	_, err := Open(small(Config{}))
	if !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("Open: %v, want ENOBUFS", err)
	}
	for _, want := range []string{"register umem", "RLIMIT_MEMLOCK", "ulimit -l", "CAP_IPC_LOCK", strconv.Itoa((64+64+spareChunks)*4) + " KiB"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if left := before.New(descriptors.Open(t)); len(left) > 0 {
		t.Errorf("descriptors that are left: %v", left)
	}
	t.Log(err)
}

// childDescriptors lets every step of Open that makes a descriptor fail.
func childDescriptors(t *testing.T) {
	s, err := Open(small(Config{})) // the runtime's poller opens its own
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	highest := 0
	for fd := range descriptors.Open(t) {
		highest = max(highest, fd)
	}
	// A limit is one on numbers: leave no gaps below it.
	for fd := 0; fd < highest; {
		var err error
		if fd, err = unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		highest = max(highest, fd)
	}
	before := descriptors.Open(t)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	failed := make(map[string]bool)
	for n := 0; ; n++ {
		if n > 20 {
			t.Fatal("Open never succeeds")
		}
		l := unix.Rlimit{Cur: uint64(highest + 1 + n), Max: old.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			t.Fatal(err)
		}
		s, err := Open(small(Config{}))
		if setErr := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); setErr != nil {
			t.Fatal(setErr)
		}
		if err == nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			break
		}
		if !errors.Is(err, unix.EMFILE) {
			t.Errorf("%d descriptors: %v", n, err)
		}
		var op *OpError
		if errors.As(err, &op) {
			failed[op.Op] = true
		}
		if left := before.New(descriptors.Open(t)); len(left) > 0 {
			t.Errorf("%d descriptors, %v: these are left: %v", n, err, left)
		}
		if m := mappings(t, "socket:"); m != 0 {
			t.Errorf("%d descriptors, %v: %d mappings are left", n, err, m)
		}
	}
	if !failed["create waiter"] {
		t.Errorf("failed at %v only", failed)
	}
}
