//go:build !linux

package xsk

import (
	"errors"

	"github.com/afxnet/afxnet/umem"
)

// Prepare fails: AF_XDP is Linux only. errors.Is(err, errors.ErrUnsupported).
func Prepare(device string, _ *umem.Region, _ BusyPoll) (*Prepared, error) {
	return nil, &OpError{Op: "create socket", Device: device, Queue: NoQueue, Err: errors.ErrUnsupported}
}
