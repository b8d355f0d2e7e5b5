package syscount

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Bounds of the maps.
const (
	maxProcesses = 16
	maxKeys      = 4096 // processes times the system calls that one makes
)

// Counter counts from Open to Close. Its methods may be called from any
// goroutine.
type Counter struct {
	watched, counts *ebpf.Map
	program         *ebpf.Program
	link            link.Link
}

// key is one system call of one process, as the BPF program lays it out.
type key struct {
	Call    uint32
	Process uint32
}

// Open starts counting the system calls of processes, by process id as the
// machine's first PID namespace has it. It needs CAP_BPF and CAP_PERFMON, in
// practice root, and Linux 4.17; errors.Is finds os.ErrPermission and
// errors.ErrUnsupported.
func Open(processes ...int) (_ *Counter, err error) {
	if len(processes) > maxProcesses {
		return nil, fmt.Errorf("syscount: %d processes, at most %d", len(processes), maxProcesses)
	}
	c := &Counter{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("syscount: %w", err), c.Close())
		}
	}()
	if c.watched, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: maxProcesses}); err != nil {
		return nil, err
	}
	for _, p := range processes {
		if err := c.watched.Put(uint32(p), uint32(1)); err != nil {
			return nil, err
		}
	}
	if c.counts, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: maxKeys}); err != nil {
		return nil, err
	}
	c.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint, License: "Apache-2.0",
		Instructions: instructions(c.watched.FD(), c.counts.FD()),
	})
	if err != nil {
		return nil, err
	}
	c.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sys_enter", Program: c.program})
	return c, err
}

// Stack slots of the program, below the frame pointer.
const (
	processAt = -4
	keyAt     = -16
	valueAt   = -24
)

// instructions is the program: if the process is watched, add one to the count
// of its system call. The tracepoint's arguments are the registers and the
// number of the call (include/trace/events/syscalls.h).
func instructions(watched, counts int) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32), // the upper half is the process
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.StoreMem(asm.RFP, processAt, asm.R7, asm.Word),
		asm.LoadMapPtr(asm.R1, watched),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, processAt),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "done"),

		asm.LoadMem(asm.R8, asm.R6, 8, asm.DWord),
		asm.StoreMem(asm.RFP, keyAt, asm.R8, asm.Word),
		asm.StoreMem(asm.RFP, keyAt+4, asm.R7, asm.Word),
		asm.LoadMapPtr(asm.R1, counts),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, keyAt),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "first"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
		asm.Ja.Label("done"),

		// Two threads that are first at the same time count as one.
		asm.Mov.Imm(asm.R1, 1).WithSymbol("first"),
		asm.StoreMem(asm.RFP, valueAt, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, counts),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, keyAt),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, valueAt),
		asm.Mov.Imm(asm.R4, 1), // BPF_NOEXIST
		asm.FnMapUpdateElem.Call(),

		asm.Mov.Imm(asm.R0, 0).WithSymbol("done"),
		asm.Return(),
	}
}

// Count returns the counts so far by process and number of the system call.
func (c *Counter) Count() (map[int]map[int]uint64, error) {
	all := make(map[int]map[int]uint64)
	var (
		k key
		n uint64
	)
	it := c.counts.Iterate()
	for it.Next(&k, &n) {
		p := int(k.Process)
		if all[p] == nil {
			all[p] = make(map[int]uint64)
		}
		all[p][int(k.Call)] = n
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("syscount: %w", err)
	}
	return all, nil
}

// Total returns how many system calls a process has made so far, but for bpf(2), of
// which reading the counts takes some.
func (c *Counter) Total(process int) (total uint64, err error) {
	all, err := c.Count()
	for number, n := range all[process] {
		if number != unix.SYS_BPF {
			total += n
		}
	}
	return total, err
}

// Close ends the counting. It is idempotent, and does nothing on nil.
func (c *Counter) Close() error {
	if c == nil {
		return nil
	}
	var errs []error
	if c.link != nil {
		errs = append(errs, c.link.Close())
		c.link = nil
	}
	if c.program != nil {
		errs = append(errs, c.program.Close())
	}
	for _, m := range []*ebpf.Map{c.counts, c.watched} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}
