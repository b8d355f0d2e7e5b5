package umem

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// preferNode has pages of mem, which must not be there yet, taken from a NUMA
// node as long as that has some (MPOL_PREFERRED).
func preferNode(mem []byte, node int) error {
	var mask [maxNodes / 64]uint64
	mask[node/64] = 1 << (node % 64)
	// The kernel reads one bit less than it is told.
	_, _, e := unix.Syscall6(unix.SYS_MBIND, uintptr(unsafe.Pointer(unsafe.SliceData(mem))), uintptr(len(mem)),
		unix.MPOL_PREFERRED, uintptr(unsafe.Pointer(&mask)), maxNodes+1, 0)
	if e != 0 {
		return os.NewSyscallError("mbind", e)
	}
	return nil
}

// nodeOf returns the NUMA node that the first page of mem lies on.
func nodeOf(mem []byte) (int, error) {
	var node int32
	_, _, e := unix.Syscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&node)), 0, 0,
		uintptr(unsafe.Pointer(unsafe.SliceData(mem))), unix.MPOL_F_NODE|unix.MPOL_F_ADDR, 0)
	if e != 0 {
		return 0, os.NewSyscallError("get_mempolicy", e)
	}
	return int(node), nil
}
