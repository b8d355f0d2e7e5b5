package sys

import (
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/ring"
)

// RegisterUMEM gives mem to the kernel as the socket's packet memory
// (XDP_UMEM_REG) with XDP_UMEM_* flags (5.4) and txMetadata bytes for requests
// before sent packets (6.8). mem must be page aligned, outside the Go heap, and
// outlive the socket.
func (s *Socket) RegisterUMEM(mem []byte, chunkSize, headroom, txMetadata int, flags uint32) error {
	reg := unix.XDPUmemReg{
		Addr:     uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))),
		Len:      uint64(len(mem)),
		Size:     uint32(chunkSize),
		Headroom: uint32(headroom),
		Flags:    flags,

		Tx_metadata_len: uint32(txMetadata),
	}
	_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, unix.XDP_UMEM_REG,
		uintptr(unsafe.Pointer(&reg)), unsafe.Sizeof(reg), 0)
	if e != 0 {
		return os.NewSyscallError("setsockopt", e)
	}
	return nil
}

// getsockopt reads an option of a fixed size; an older kernel may fill in less
// of it, the rest stays zero.
func getsockopt[T any](fd, opt int, v *T) error {
	size := uint32(unsafe.Sizeof(*v))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt),
		uintptr(unsafe.Pointer(v)), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return os.NewSyscallError("getsockopt", e)
	}
	return nil
}

// Offsets reads where the rings' words lie in their mappings (XDP_MMAP_OFFSETS
// with flags, 5.4).
func (s *Socket) Offsets() (off unix.XDPMmapOffsets, err error) {
	err = getsockopt(s.fd, unix.XDP_MMAP_OFFSETS, &off)
	return off, err
}

// Statistics reads XDP_STATISTICS; the last three fields need 5.9.
func (s *Socket) Statistics() (st unix.XDPStatistics, err error) {
	err = getsockopt(s.fd, unix.XDP_STATISTICS, &st)
	return st, err
}

// MapRing maps the ring at page offset pgoff. unmap ends every use of m.
func MapRing[T any](s *Socket, off unix.XDPRingOffset, n uint32, pgoff int64) (m ring.Mem[T], unmap func() error, err error) {
	var entry T
	size := int(off.Desc + uint64(n)*uint64(unsafe.Sizeof(entry)))
	mem, err := unix.Mmap(s.fd, pgoff, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return m, nil, os.NewSyscallError("mmap", err)
	}
	base := unsafe.Pointer(unsafe.SliceData(mem))
	m = ring.Mem[T]{
		Prod:  (*atomic.Uint32)(unsafe.Add(base, off.Producer)),
		Cons:  (*atomic.Uint32)(unsafe.Add(base, off.Consumer)),
		Flags: (*atomic.Uint32)(unsafe.Add(base, off.Flags)),
		Slots: unsafe.Slice((*T)(unsafe.Add(base, off.Desc)), n),
	}
	return m, func() error { return os.NewSyscallError("munmap", unix.Munmap(mem)) }, nil
}
