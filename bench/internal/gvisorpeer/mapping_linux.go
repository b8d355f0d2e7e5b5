package gvisorpeer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// inode returns the number by which the kernel knows the socket fd.
func inode(fd int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	return st.Ino, nil
}

// unmapSocket unmaps all that this process has mapped of a socket, of which
// gVisor keeps the only pointers to itself. A mapping holds the socket: without
// this it lives on, bound to its queue, when its last descriptor is closed.
//
// Nobody may use the mappings any more.
func unmapSocket(inode uint64) error {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("find the rings of a socket: %w", err)
	}
	defer f.Close()
	type span struct{ from, to uintptr }
	var found []span
	name := fmt.Sprintf("socket:[%d]", inode)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if !strings.HasSuffix(line, " "+name) {
			continue
		}
		var s span
		if _, err := fmt.Sscanf(line, "%x-%x ", &s.from, &s.to); err != nil {
			return fmt.Errorf("read %q: %w", line, err)
		}
		found = append(found, s)
	}
	var errs []error
	for _, s := range found {
		if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, s.from, s.to-s.from, 0); errno != 0 {
			errs = append(errs, os.NewSyscallError("munmap", errno))
		}
	}
	return errors.Join(errs...)
}

// networkOrder returns v such that its bytes in memory are big endian.
func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
