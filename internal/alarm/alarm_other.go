//go:build !linux

package alarm

import (
	"errors"
	"time"
)

// An Alarm is for Linux only.
type Alarm struct{}

// New fails.
func New() (*Alarm, error) { return nil, errors.ErrUnsupported }

// Wait fails.
func (*Alarm) Wait(time.Duration) error { return errors.ErrUnsupported }

// Close does nothing.
func (*Alarm) Close() error { return nil }
