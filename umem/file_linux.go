package umem

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps the first size bytes of a file, shared. A file that is too short is
// refused: what lies behind its end would be a SIGBUS. So would what another
// process cuts off later; who makes the file seals it (F_SEAL_SHRINK).
func mapFile(f *os.File, size int) (mem []byte, unmap func() error, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() < int64(size) {
		return nil, nil, fmt.Errorf("%d bytes are needed, the file has %d: %w", size, info.Size(), unix.EINVAL)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	controlErr := conn.Control(func(fd uintptr) {
		mem, err = unix.Mmap(int(fd), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	})
	if controlErr != nil {
		return nil, nil, controlErr
	}
	if err != nil {
		return nil, nil, os.NewSyscallError("mmap", err)
	}
	return mem, func() error { return os.NewSyscallError("munmap", unix.Munmap(mem)) }, nil
}
