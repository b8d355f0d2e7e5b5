package xsk

import (
	"errors"
	"fmt"
	"os"
)

// mapError is a failed step on a map, which belongs to no device.
func mapError(op string, queue uint32, err error) error {
	e := &OpError{Op: op, Queue: queue, Err: err}
	switch {
	case errors.Is(err, os.ErrPermission):
		e.Err, e.Remedy = fmt.Errorf("bpf: %w", os.ErrPermission), fixBPF
	case errors.Is(err, os.ErrNotExist):
		e.Remedy = "whoever made the map has to pin it, below a mounted BPF file system: mount -t bpf bpf /sys/fs/bpf"
	}
	return e
}
