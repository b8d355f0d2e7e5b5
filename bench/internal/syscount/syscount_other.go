//go:build !linux

package syscount

import (
	"errors"
	"fmt"
	"runtime"
)

// Counter needs Linux.
type Counter struct{}

// Open needs Linux.
func Open(...int) (*Counter, error) {
	return nil, fmt.Errorf("syscount: system calls on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Count needs Linux.
func (*Counter) Count() (map[int]map[int]uint64, error) { return nil, errors.ErrUnsupported }

// Total needs Linux.
func (*Counter) Total(int) (uint64, error) { return 0, errors.ErrUnsupported }

// Name needs Linux.
func Name(int) string { return "other" }

// Close needs Linux.
func (*Counter) Close() error { return nil }
