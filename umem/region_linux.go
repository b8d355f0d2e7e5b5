package umem

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapPages maps size bytes of zeroed, populated memory: a page fault on the
// data path would cost more than the packet.
func mapPages(size int, huge bool, node Node) (mem []byte, unmap func() error, err error) {
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	if node == 0 {
		flags |= unix.MAP_POPULATE // else when the node is set
	}
	if huge {
		flags |= unix.MAP_HUGETLB | 21<<unix.MAP_HUGE_SHIFT // 2 MiB
	}
	mem, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, nil, os.NewSyscallError("mmap", err)
	}
	unmap = func() error { return os.NewSyscallError("munmap", unix.Munmap(mem)) }
	if number, ok := node.Number(); ok {
		if err = preferNode(mem, number); err == nil {
			err = populate(mem)
		}
		if err != nil {
			unmap()
			return nil, nil, fmt.Errorf("on NUMA node %d: %w", number, err)
		}
	}
	return mem, unmap, nil
}

// populate has every page there before it is used.
func populate(mem []byte) error {
	err := unix.Madvise(mem, unix.MADV_POPULATE_WRITE) // 5.14
	if err != unix.EINVAL {
		return os.NewSyscallError("madvise", err)
	}
	touch(mem)
	return nil
}

// touch writes to every page of zeroed memory.
func touch(mem []byte) {
	for i := 0; i < len(mem); i += os.Getpagesize() {
		mem[i] = 0
	}
}
