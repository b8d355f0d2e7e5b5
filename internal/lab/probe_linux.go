package lab

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func probeRoot() error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("lab: user id is %d: %w", uid, os.ErrPermission)
	}
	return nil
}

func probeNetNS() error {
	n, err := newNamespace("", 0)
	return errors.Join(err, n.close())
}

func probeBPF() error { return loadProgram(unix.BPF_PROG_TYPE_SOCKET_FILTER) }

func probeXDP() error {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("lab: kernel without AF_XDP sockets: %w: %w", errors.ErrUnsupported, err)
	}
	if err != nil {
		return fmt.Errorf("lab: AF_XDP socket: %w", os.NewSyscallError("socket", err))
	}
	unix.Close(fd)
	return loadProgram(unix.BPF_PROG_TYPE_XDP)
}
