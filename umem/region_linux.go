package umem

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapPages maps size bytes of zeroed, populated memory: a page fault on the
// data path would cost more than the packet.
func mapPages(size int, huge bool) (mem []byte, unmap func() error, err error) {
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_POPULATE
	if huge {
		flags |= unix.MAP_HUGETLB | 21<<unix.MAP_HUGE_SHIFT // 2 MiB
	}
	mem, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, nil, os.NewSyscallError("mmap", err)
	}
	return mem, func() error { return os.NewSyscallError("munmap", unix.Munmap(mem)) }, nil
}
