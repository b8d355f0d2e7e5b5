package lab

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain checks that the tests together leak no descriptor.
func TestMain(m *testing.M) {
	warmUp()
	before := descriptors()
	code := m.Run()
	if after := descriptors(); code == 0 && len(after) > len(before) {
		fmt.Fprintf(os.Stderr, "leaked descriptors:\nbefore %v\nafter  %v\n", before, after)
		code = 1
	}
	os.Exit(code)
}

// warmUp makes the runtime open what it keeps open: its network poller.
func warmUp() {
	if l, err := Open(Config{}); err == nil {
		l.Close()
	}
}

// descriptors returns what the process has open, nil where there is no proc.
func descriptors() (open []string) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err != nil || strings.HasPrefix(target, "/proc/") {
			continue // the directory itself
		}
		open = append(open, entry.Name()+" "+target)
	}
	return open
}

// testTimeout bounds everything a test waits for.
const testTimeout = 20 * time.Second
