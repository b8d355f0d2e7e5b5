//go:build !linux

package role

import (
	"errors"
	"fmt"
	"runtime"
)

// onCPUs runs start, without a choice of CPUs.
func onCPUs(cpus []int, start func() error) error {
	if len(cpus) != 0 {
		return fmt.Errorf("bind to CPUs on %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	return start()
}
