// Package syscount counts the system calls of processes with a small BPF program
// at the kernel's sys_enter tracepoint. While it counts, every system call of the
// machine takes a longer way: count in runs of their own, not in timed ones.
package syscount
