package hostif

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// JoinMulticast lets frames to the given Ethernet group addresses through the
// multicast filter of an interface, until the result is closed or the
// process ends: the kernel drops the membership with the socket that holds
// it. The socket receives nothing itself.
//
// If there is no such interface, errors.Is(err, unix.ENODEV) holds.
func JoinMulticast(index int, groups ...net.HardwareAddr) (_ io.Closer, err error) {
	for _, group := range groups {
		if len(group) != 6 || group[0]&1 == 0 {
			return nil, fmt.Errorf("hostif: join multicast: %v is not an Ethernet group address: %w", group, unix.EINVAL)
		}
	}
	// Protocol 0 registers no packet handler (packet_create,
	// net/packet/af_packet.c), so no frame is ever queued on this socket.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, multicastError(index, os.NewSyscallError("socket", err))
	}
	for _, group := range groups {
		mreq := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
		copy(mreq.Address[:], group)
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
			unix.Close(fd)
			return nil, multicastError(index, os.NewSyscallError("setsockopt", err))
		}
	}
	return membership{sync.OnceValue(func() error {
		return os.NewSyscallError("close", unix.Close(fd))
	})}, nil
}

func multicastError(index int, err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("hostif: join multicast, interface index %d: %w (needs CAP_NET_RAW)", index, err)
	}
	return fmt.Errorf("hostif: join multicast, interface index %d: %w", index, err)
}

// membership is a socket that holds multicast memberships.
type membership struct{ close func() error }

func (m membership) Close() error { return m.close() }
