//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bpfProgLoad is the start of union bpf_attr for BPF_PROG_LOAD (linux/bpf.h,
// since 3.18); the kernel takes the rest to be zero.
type bpfProgLoad struct {
	progType    uint32
	insnCount   uint32
	insns       unsafe.Pointer
	license     unsafe.Pointer
	logLevel    uint32
	logSize     uint32
	logBuf      uint64
	kernVersion uint32
	progFlags   uint32
}

// loadAttempts is how often a program is loaded that a signal has come between.
const loadAttempts = 30

// loadProgram loads a BPF program that returns 0, and drops it.
func loadProgram(progType uint32) error {
	// struct bpf_insn is opcode, registers, a 16-bit offset and a 32-bit
	// immediate: "r0 = 0; exit". No field but the opcodes is set, so the
	// host's byte order does not matter.
	insns := [2][8]byte{{0xb7}, {0x95}}
	license := [...]byte{'G', 'P', 'L', 0}
	attr := bpfProgLoad{
		progType:  progType,
		insnCount: uint32(len(insns)),
		insns:     unsafe.Pointer(&insns),
		license:   unsafe.Pointer(&license),
	}
	var fd uintptr
	errno := unix.EAGAIN
	// A signal that comes while the program is verified, as those by which the runtime
	// preempts goroutines, ends that with EAGAIN (bpf_check in kernel/bpf/verifier.c,
	// Linux 5.0).
	for range loadAttempts {
		fd, _, errno = unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		if errno != unix.EAGAIN {
			break
		}
	}
	switch errno {
	case 0:
		return os.NewSyscallError("close", unix.Close(int(fd)))
	case unix.ENOSYS:
		return fmt.Errorf("lab: kernel without BPF: %w: %w", errors.ErrUnsupported, os.NewSyscallError("bpf", errno))
	default:
		return fmt.Errorf("lab: load a BPF program of type %d: %w", progType, os.NewSyscallError("bpf", errno))
	}
}
