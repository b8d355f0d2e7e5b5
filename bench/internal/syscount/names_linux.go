package syscount

import "golang.org/x/sys/unix"

// names are the system calls that network programs make.
var names = map[int]string{
	unix.SYS_READ: "read", unix.SYS_WRITE: "write", unix.SYS_SENDTO: "sendto", unix.SYS_RECVFROM: "recvfrom",
	unix.SYS_SENDMSG: "sendmsg", unix.SYS_RECVMSG: "recvmsg", unix.SYS_RECVMMSG: "recvmmsg", unix.SYS_SENDMMSG: "sendmmsg",
	unix.SYS_READV: "readv", unix.SYS_WRITEV: "writev",
	unix.SYS_EPOLL_PWAIT: "epoll_pwait", unix.SYS_EPOLL_CTL: "epoll_ctl", unix.SYS_PPOLL: "ppoll",
	unix.SYS_FUTEX: "futex", unix.SYS_NANOSLEEP: "nanosleep", unix.SYS_SCHED_YIELD: "sched_yield",
	unix.SYS_ACCEPT4: "accept4", unix.SYS_CONNECT: "connect", unix.SYS_SOCKET: "socket", unix.SYS_CLOSE: "close",
	unix.SYS_SETSOCKOPT: "setsockopt", unix.SYS_GETSOCKOPT: "getsockopt", unix.SYS_GETSOCKNAME: "getsockname",
	unix.SYS_GETPEERNAME: "getpeername", unix.SYS_SHUTDOWN: "shutdown", unix.SYS_SPLICE: "splice", unix.SYS_PIPE2: "pipe2",
	unix.SYS_FCNTL: "fcntl", unix.SYS_MADVISE: "madvise", unix.SYS_TGKILL: "tgkill", unix.SYS_RT_SIGRETURN: "rt_sigreturn",
}

// Name returns the name of a system call by its number, "other" for one that
// network programs do not make often.
func Name(number int) string {
	if name, ok := names[number]; ok {
		return name
	}
	if name, ok := legacyNames[number]; ok {
		return name
	}
	return "other"
}
