//go:build !linux

package vmtest

import (
	"errors"
	"os/exec"
)

// newTap needs Linux.
func newTap(int, int) (*wire, error) { return nil, errors.ErrUnsupported }

// tether needs Linux.
func tether(*exec.Cmd) {}
