package raw

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// setSegment lets the kernel cut what is written into datagrams of size bytes; 0
// ends that.
func setSegment(conn *net.UDPConn, size int) error {
	rc, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var opt error
	err = rc.Control(func(fd uintptr) {
		opt = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size))
	})
	if err != nil {
		return err
	}
	return opt
}
