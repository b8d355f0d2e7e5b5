//go:build !linux

package raw

import (
	"context"
	"errors"
	"fmt"
)

// ReferenceRun needs Linux.
type ReferenceRun struct{}

// Start needs Linux.
func (c *Reference) Start(context.Context, Config, int, Mode, Job) (*ReferenceRun, error) {
	return nil, fmt.Errorf("raw: reference: %w", errors.ErrUnsupported)
}

// Measure needs Linux.
func (r *ReferenceRun) Measure() (Result, error) { return Result{}, errors.ErrUnsupported }

// Close needs Linux.
func (r *ReferenceRun) Close() error { return nil }
