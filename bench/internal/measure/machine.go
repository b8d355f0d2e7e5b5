package measure

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Machine is what all CPUs of the machine have done since it started. Its
// resolution is the kernel's tick, 10 ms on most systems.
type Machine struct {
	Busy    time.Duration // everything but idle and waiting for I/O
	SoftIRQ time.Duration // of that, in soft interrupts outside of any process's time
	Stolen  time.Duration // wanted, but given to other machines by the hypervisor
}

// tick is the unit of /proc/stat: USER_HZ is 100 on every Linux that Go has.
const tick = 10 * time.Millisecond

// ReadMachine reads /proc/stat.
func ReadMachine() (Machine, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, fmt.Errorf("measure: CPU time of the machine: %w", err)
	}
	return parseMachine(string(text))
}

// parseMachine reads the first line: cpu, then user, nice, system, idle, iowait,
// irq, softirq, steal in ticks.
func parseMachine(text string) (Machine, error) {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return Machine{}, fmt.Errorf("measure: /proc/stat starts with %q", line)
	}
	var t [8]time.Duration
	for i := range t {
		n, err := strconv.ParseInt(f[i+1], 10, 64)
		if err != nil {
			return Machine{}, fmt.Errorf("measure: /proc/stat: %w", err)
		}
		t[i] = time.Duration(n) * tick
	}
	return Machine{Busy: t[0] + t[1] + t[2] + t[5] + t[6], SoftIRQ: t[6], Stolen: t[7]}, nil
}

// Sub returns m minus an earlier one.
func (m Machine) Sub(v Machine) Machine {
	return Machine{m.Busy - v.Busy, m.SoftIRQ - v.SoftIRQ, m.Stolen - v.Stolen}
}

// Available returns the memory that the machine could still give out, in bytes:
// what kernel sockets use is missing from it. 0 if it cannot be read.
func Available() uint64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "MemAvailable:" {
			kib, err := strconv.ParseUint(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
