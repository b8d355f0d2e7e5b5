//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// TakeMap makes a Map of a descriptor that another process has handed over, and
// takes it over: it is closed with the Map, and also if TakeMap fails. Without
// privileges, its methods need Linux 5.19 and a system call filter that lets bpf(2)
// through. The error wraps unix.EINVAL if it is no XSKMAP.
func TakeMap(fd int) (*Map, error) {
	const op = "take map over"
	m, err := ebpf.NewMapFromFD(fd) // closes fd if it fails
	if err != nil {
		return nil, bpfError(op, NoQueue, err)
	}
	if m.Type() != ebpf.XSKMap {
		return nil, bpfError(op, NoQueue, errors.Join(fmt.Errorf("a map of type %v, not an XSKMAP: %w", m.Type(), unix.EINVAL), m.Close()))
	}
	return &Map{m: m}, nil
}
