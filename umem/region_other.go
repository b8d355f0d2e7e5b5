//go:build !linux

package umem

import (
	"errors"
	"fmt"
)

// mapAnonymous takes ordinary memory from the Go heap: there is no AF_XDP here
// that would need a mapping, only simulated kernels.
func mapAnonymous(size int, huge bool, node Node) (mem []byte, unmap func() error, err error) {
	if huge {
		return nil, nil, fmt.Errorf("huge pages: %w", errors.ErrUnsupported)
	}
	if node != 0 {
		return nil, nil, fmt.Errorf("NUMA nodes: %w", errors.ErrUnsupported)
	}
	return make([]byte, size), func() error { return nil }, nil
}

func (*Region) mapFile(Config, int) error {
	return fmt.Errorf("shared memory: %w", errors.ErrUnsupported)
}

func nodeOf([]byte) (int, error) { return 0, fmt.Errorf("NUMA nodes: %w", errors.ErrUnsupported) }
