package stack

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// writev is unix.Writev without an allocation. It returns the bytes that fd took,
// and an error if it took none.
func writev(fd int, iov []unix.Iovec) (int, syscall.Errno) {
	for {
		n, _, e := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(iov))), uintptr(len(iov)))
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return 0, e
		}
		return int(n), 0
	}
}
