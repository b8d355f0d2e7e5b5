package xsk

import (
	"errors"
	"fmt"
	"os"
)

// bpfError is a failed step on a map or a program, which belongs to no device.
func bpfError(op string, queue uint32, err error) *OpError {
	e := &OpError{Op: op, Queue: queue, Err: err}
	switch {
	case errors.Is(err, os.ErrPermission):
		e.Err, e.Remedy = fmt.Errorf("bpf: %w", os.ErrPermission), fixBPF
	case errors.Is(err, os.ErrNotExist):
		e.Remedy = "whoever made it has to pin it, below a mounted BPF file system: mount -t bpf bpf /sys/fs/bpf"
	}
	return e
}
