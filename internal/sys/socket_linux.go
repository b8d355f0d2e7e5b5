package sys

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket is an AF_XDP socket descriptor.
type Socket struct{ fd int }

// OpenSocket makes an AF_XDP socket in the network namespace of the calling
// thread.
func OpenSocket() (*Socket, error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &Socket{fd: fd}, nil
}

// FromFD takes a descriptor over that another process may have made, if it is an
// AF_XDP socket's.
func FromFD(fd int) (*Socket, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	if domain != unix.AF_XDP {
		return nil, fmt.Errorf("descriptor %d is a socket of family %d, not AF_XDP: %w", fd, domain, unix.EINVAL)
	}
	unix.CloseOnExec(fd)
	return &Socket{fd: fd}, nil
}

// FD returns the descriptor; Close invalidates it.
func (s *Socket) FD() int { return s.fd }

// Close closes the descriptor. The kernel unbinds asynchronously.
func (s *Socket) Close() error { return os.NewSyscallError("close", unix.Close(s.fd)) }

// KeepTo has Bind refuse every device but one, for whoever has the descriptor and not
// CAP_NET_RAW (SO_BINDTOIFINDEX; AF_XDP sockets heed it since 6.5, and where a stable
// kernel has xsk_bind of that).
func (s *Socket) KeepTo(ifindex int) error { return s.setOption(unix.SO_BINDTOIFINDEX, ifindex) }

// SetRingSize sets the number of descriptors of the ring that opt names:
// XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING or XDP_TX_RING.
func (s *Socket) SetRingSize(opt int, n uint32) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_XDP, opt, int(n)))
}

// Bind binds to one queue of a device with XDP_* flags.
func (s *Socket) Bind(ifindex int, queue uint32, flags uint16) error {
	return os.NewSyscallError("bind", unix.Bind(s.fd, &unix.SockaddrXDP{
		Flags: flags, Ifindex: uint32(ifindex), QueueID: queue,
	}))
}

// BindShared binds to one queue of a device with the UMEM of another socket,
// which is bound (XDP_SHARED_UMEM). The socket has no fill and completion ring of
// its own if the other is bound to the same queue of the same device, and must
// have them otherwise (the latter since 5.10). Nothing else can be chosen.
func (s *Socket) BindShared(ifindex int, queue uint32, with int) error {
	return os.NewSyscallError("bind", unix.Bind(s.fd, &unix.SockaddrXDP{
		Flags: unix.XDP_SHARED_UMEM, Ifindex: uint32(ifindex), QueueID: queue, SharedUmemFD: uint32(with),
	}))
}

// ZeroCopy reads XDP_OPTIONS (5.3): whether the bind is a zero-copy one.
func (s *Socket) ZeroCopy() (bool, error) {
	v, err := unix.GetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_OPTIONS)
	if err != nil {
		return false, os.NewSyscallError("getsockopt", err)
	}
	return v&unix.XDP_OPTIONS_ZEROCOPY != 0, nil
}

// SetTXBudget sets XDP_MAX_TX_SKB_BUDGET (6.17): how many descriptors one
// sendto sends in copy mode.
func (s *Socket) SetTXBudget(n uint32) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, int(n)))
}

// PendingError reads and clears SO_ERROR: 0, or ENETDOWN once the device is
// gone (Linux net/xdp/xsk.c, xsk_notifier).
func (s *Socket) PendingError() syscall.Errno {
	v, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err.(syscall.Errno)
	}
	return syscall.Errno(v)
}

// WakeTX is the sendto that makes the kernel look at the TX ring. It does not
// tell the Go scheduler: in copy mode it lasts as long as the kernel needs to
// send at most one budget of packets, and leaving and entering the scheduler
// would cost more than most of them.
func (s *Socket) WakeTX() syscall.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return e
}

// WakeRX is the recvfrom that makes a zero-copy driver look at the fill ring and,
// on a socket that busy polls, take packets from the device.
func (s *Socket) WakeRX() syscall.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return e
}
