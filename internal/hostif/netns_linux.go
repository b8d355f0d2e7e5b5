package hostif

import (
	"os"

	"golang.org/x/sys/unix"
)

// NetNSOf returns a number of the network namespace that a socket was made in, which
// no other namespace since boot has or had (SO_NETNS_COOKIE, 5.14).
func NetNSOf(fd int) (cookie uint64, err error) {
	cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie, os.NewSyscallError("getsockopt", err)
}
