package handover

import (
	"net"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendEmpty sends a message of no bytes with descriptors, which the libraries'
// functions put a byte into.
func sendEmpty(c *net.UnixConn, fds ...int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	control := unix.UnixRights(fds...)
	msg := unix.Msghdr{Control: unsafe.SliceData(control)}
	msg.SetControllen(len(control))
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&msg)), 0)
	})
	runtime.KeepAlive(control)
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}
