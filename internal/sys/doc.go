// Package sys is the system call surface of AF_XDP: the socket options, the
// ring mappings and the waits, with typed arguments and os.SyscallError
// results. It holds no policy: what to ask for and what to do about an error is
// package xsk's business.
//
// Every descriptor made here is close-on-exec, and every interruptible call is
// retried on EINTR.
package sys
