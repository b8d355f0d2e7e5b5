//go:build linux

package lab

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// DetachProgram takes the XDP program off the AF_XDP side, which this process has put
// there by a bpf_link, as bpftool link detach does.
func (l *Lab) DetachProgram() error {
	return l.Host.Do(func() error {
		dev, err := hostif.Lookup(l.Host.Device)
		if err != nil {
			return err
		}
		fd, err := linkOf(dev.XDP.ID)
		if err != nil {
			return err
		}
		attr := [4]uint32{uint32(fd)} // union bpf_attr for BPF_LINK_DETACH, since 5.9
		if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_LINK_DETACH, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); errno != 0 {
			return fmt.Errorf("lab: detach program %d: %w", dev.XDP.ID, os.NewSyscallError("bpf", errno))
		}
		return nil
	})
}

// linkOf returns this process's descriptor of the bpf_link that runs a program.
func linkOf(program uint32) (fd int, err error) {
	entries, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		f, err := os.Open("/proc/self/fdinfo/" + e.Name())
		if err != nil {
			continue // that of ReadDir
		}
		facts := make(map[string]string)
		for s := bufio.NewScanner(f); s.Scan(); {
			name, value, _ := strings.Cut(s.Text(), ":")
			facts[name] = strings.TrimSpace(value)
		}
		f.Close()
		if facts["link_type"] == "xdp" && facts["prog_id"] == strconv.FormatUint(uint64(program), 10) {
			return strconv.Atoi(e.Name())
		}
	}
	return 0, fmt.Errorf("lab: this process has no bpf_link for program %d", program)
}
