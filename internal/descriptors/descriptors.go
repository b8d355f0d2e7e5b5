// Package descriptors is for tests that want no descriptor left open. It tells which
// are new, never how many there are: what another test has left may be closed at any
// time, by a finalizer or by a goroutine that comes to its end.
package descriptors

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Snapshot is what a process has open: by each descriptor's number what it is, as
// the link in /proc says.
type Snapshot map[int]string

// Open returns what this process has open.
func Open(tb testing.TB) Snapshot {
	tb.Helper()
	if err := StartPoller(); err != nil {
		tb.Fatal(err)
	}
	return OpenIn(tb, os.Getpid())
}

// OpenIn returns what another process has open.
func OpenIn(tb testing.TB, pid int) Snapshot {
	tb.Helper()
	s, err := Read(pid)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// Read is OpenIn where there is no test, as in TestMain. Where there is no proc file
// system, the error is os.ErrNotExist.
func Read(pid int) (Snapshot, error) {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	s := make(Snapshot)
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		what, err := os.Readlink(dir + e.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue // closed since, as is the directory that was read
		}
		if err != nil {
			return nil, err
		}
		// A file in /proc loses its name when its thread ends, and others with their
		// name: they are the same files.
		s[n] = strings.TrimSuffix(what, " (deleted)")
	}
	return s, nil
}

// StartPoller makes the runtime of this process open what its poller keeps open, which
// is new to no test then. Open does it.
var StartPoller = sync.OnceValue(func() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	return errors.Join(r.Close(), w.Close())
})

// New returns those of after that are not in s: of another number, or something else.
// Many kinds have one name for all that are of it, as anon_inode:[eventfd]; of these
// the number has to do.
func (s Snapshot) New(after Snapshot) Snapshot {
	fresh := make(Snapshot)
	for n, what := range after {
		if was, ok := s[n]; !ok || was != what {
			fresh[n] = what
		}
	}
	return fresh
}
