//go:build !(linux && (amd64 || arm64))

package xsk

import "errors"

// Check is for Linux on amd64 and arm64.
func Check(device string) (Report, error) {
	return Report{}, &OpError{Op: "check", Device: device, Queue: NoQueue, Err: errors.ErrUnsupported}
}
