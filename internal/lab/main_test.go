package lab

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/descriptors"
)

// TestMain checks that the tests together leak no descriptor.
func TestMain(m *testing.M) {
	before := opened()
	code := m.Run()
	if left := before.New(opened()); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "descriptors that are left: %v\n", left)
		code = 1
	}
	os.Exit(code)
}

// opened returns what the process has open, nil where there is no proc.
func opened() descriptors.Snapshot {
	err := descriptors.StartPoller()
	if err == nil {
		var open descriptors.Snapshot
		if open, err = descriptors.Read(os.Getpid()); err == nil || errors.Is(err, os.ErrNotExist) {
			return open
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
	return nil
}

// testTimeout bounds everything a test waits for.
const testTimeout = 20 * time.Second
