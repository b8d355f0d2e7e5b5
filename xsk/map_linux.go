//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Map is an XSKMAP, for sockets to which a program of the user's own redirects
// packets (bpf_redirect_map): the kernel's side of it is that program's business.
// Load and attach it with any library or tool; make its map here, or pin it and open
// it here. [Program] has a map of its own and does not need this.
//
// A socket leaves the map by itself when it is closed. All methods may be called
// from any goroutine; after Close they return net.ErrClosed.
type Map struct {
	mu     sync.Mutex
	m      *ebpf.Map
	closed bool
}

// NewMap makes a map with room for queue ids below queues. It is gone when it is
// closed and no program uses it any more. The error wraps os.ErrPermission without
// CAP_BPF.
func NewMap(name string, queues int) (*Map, error) {
	const op = "make map"
	if queues < 1 || queues > maxProgramQueues {
		return nil, bpfError(op, NoQueue, fmt.Errorf("room for %d queues: from 1 to %d: %w", queues, maxProgramQueues, unix.EINVAL))
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: name, Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(queues)})
	if err != nil {
		return nil, bpfError(op, NoQueue, err)
	}
	return &Map{m: m}, nil
}

// OpenMap opens a map that is pinned at a path of a BPF file system, by whoever
// loaded the program. The error wraps os.ErrNotExist if there is nothing, and
// unix.EINVAL if it is no XSKMAP.
func OpenMap(path string) (*Map, error) {
	const op = "open pinned map"
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return nil, bpfError(op, NoQueue, fmt.Errorf("%s: %w", path, err))
	}
	if m.Type() != ebpf.XSKMap {
		return nil, bpfError(op, NoQueue, errors.Join(fmt.Errorf("%s is a map of type %v, not an XSKMAP: %w", path, m.Type(), unix.EINVAL), m.Close()))
	}
	return &Map{m: m}, nil
}

// Pin makes the map outlive the process, at a path of a BPF file system, until that
// is removed.
func (m *Map) Pin(path string) error {
	return m.with("pin map", NoQueue, func(m *ebpf.Map) error { return m.Pin(path) })
}

// FD returns the map's descriptor, to give to a program that is being loaded; Close
// invalidates it.
func (m *Map) FD() int { return m.m.FD() }

// AddSocket directs what the program redirects by index queue to a socket. The
// kernel drops it unless the socket is bound to the queue that a packet arrived on.
// The error wraps unix.EEXIST if the index has another socket.
func (m *Map) AddSocket(queue uint32, s *Socket) error {
	return m.with("add socket to map", queue, func(m *ebpf.Map) error {
		if queue >= m.MaxEntries() {
			return fmt.Errorf("the map has room for %d queues: %w", m.MaxEntries(), unix.E2BIG)
		}
		if s.FD() < 0 {
			return os.NewSyscallError("bpf", unix.EBADF)
		}
		return m.Update(queue, uint32(s.FD()), ebpf.UpdateNoExist)
	})
}

// RemoveSocket leaves the index of a queue without a socket. One that has none is no
// error.
func (m *Map) RemoveSocket(queue uint32) error {
	return m.with("remove socket from map", queue, func(m *ebpf.Map) error {
		if err := m.Delete(queue); queue < m.MaxEntries() && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		return nil
	})
}

// Close gives the map up. A program that uses it still has it. Idempotent.
func (m *Map) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	if err := m.m.Close(); err != nil {
		return bpfError("close map", NoQueue, err)
	}
	return nil
}

// with runs f unless the map is closed.
func (m *Map) with(op string, queue uint32, f func(*ebpf.Map) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := net.ErrClosed
	if !m.closed {
		err = f(m.m)
	}
	if err != nil {
		return bpfError(op, queue, err)
	}
	return nil
}
