package umem

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapAnonymous maps size bytes of zeroed memory.
func mapAnonymous(size int, huge bool, node Node) (mem []byte, unmap func() error, err error) {
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	if huge {
		flags |= unix.MAP_HUGETLB | 21<<unix.MAP_HUGE_SHIFT // 2 MiB
	}
	return mapPages(-1, size, flags, node)
}

// mapPages maps size bytes, populated: a page fault on the data path would cost more
// than the packet.
func mapPages(fd, size, flags int, node Node) (mem []byte, unmap func() error, err error) {
	if node == 0 {
		flags |= unix.MAP_POPULATE // else when the node is set
	}
	mem, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, flags)
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
