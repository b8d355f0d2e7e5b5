//go:build !linux

package umem

import (
	"errors"
	"fmt"
)

// mapPages takes ordinary memory from the Go heap: there is no AF_XDP here
// that would need a mapping, only simulated kernels.
func mapPages(size int, huge bool) (mem []byte, unmap func() error, err error) {
	if huge {
		return nil, nil, fmt.Errorf("huge pages: %w", errors.ErrUnsupported)
	}
	return make([]byte, size), func() error { return nil }, nil
}
