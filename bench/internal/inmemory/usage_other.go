//go:build !unix

package inmemory

import (
	"errors"
	"fmt"
	"time"
)

// cpuTime is for systems with getrusage.
func cpuTime() (time.Duration, error) {
	return 0, fmt.Errorf("CPU time of the process: %w", errors.ErrUnsupported)
}
