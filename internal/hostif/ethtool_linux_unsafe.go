//go:build linux

package hostif

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ifreqData is struct ifreq (linux/if.h) as SIOCETHTOOL uses it: a name and
// a pointer to the request.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte // the union's other members are longer than a pointer
}

// ioctl passes one request to the driver of an interface; the kernel writes
// its answer over it. The request stays a typed pointer up to the system
// call, so that the collector and a growing stack see it.
func (e *ethtool) ioctl(name string, request []byte) error {
	if len(name) >= unix.IFNAMSIZ {
		return os.NewSyscallError("ethtool", unix.ENODEV)
	}
	ifr := ifreqData{data: unsafe.Pointer(unsafe.SliceData(request))}
	copy(ifr.name[:], name)
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(e.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return os.NewSyscallError("ethtool", errno)
		}
	}
}
