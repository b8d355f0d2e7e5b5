package hostif

import (
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watchBuffer is the largest netlink message batch read at once, in bytes.
// The kernel sizes its own dumps at 32 KB at most (netlink_dump).
const watchBuffer = 64 << 10

// listener is a netlink socket that hears the kernel's notifications, and can ask
// for what it has not heard. One goroutine receives, until stop.
type listener struct {
	file *os.File
	conn syscall.RawConn
	done chan struct{} // closed by the goroutine
	buf  []byte
}

// listen hears some groups (RTNLGRP_*).
func listen(groups ...int) (*listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), "netlink")
	addr := unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	for _, g := range groups {
		addr.Groups |= 1 << (g - 1)
	}
	if err := unix.Bind(fd, &addr); err != nil {
		file.Close()
		return nil, os.NewSyscallError("bind", err)
	}
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &listener{file: file, conn: conn, done: make(chan struct{}), buf: make([]byte, watchBuffer)}, nil
}

// stop ends the goroutine and waits for it. A deadline in the past is how: unlike a
// close, the error it gives a raw connection can be told from others.
func (l *listener) stop() {
	l.file.SetReadDeadline(time.Unix(1, 0)) // fails only if the goroutine has closed the file
	<-l.done
}

// receive reads one batch of messages into l.buf. Without wait it returns
// EAGAIN if there is none.
func (l *listener) receive(wait bool) (n int, err error) {
	connErr := l.conn.Read(func(fd uintptr) bool {
		for {
			var from unix.Sockaddr
			n, from, err = unix.Recvfrom(int(fd), l.buf, 0)
			if err == nil && !fromKernel(from) {
				continue
			}
			if err != unix.EINTR {
				return !wait || err != unix.EAGAIN
			}
		}
	})
	if connErr != nil {
		return 0, connErr
	}
	return n, os.NewSyscallError("recvfrom", err)
}

func fromKernel(from unix.Sockaddr) bool {
	addr, ok := from.(*unix.SockaddrNetlink)
	return ok && addr.Pid == nl.PidKernel
}

// send asks the kernel. The answer arrives like a notification.
func (l *listener) send(request []byte) error {
	var err error
	connErr := l.conn.Write(func(fd uintptr) bool {
		for {
			err = unix.Sendto(int(fd), request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if connErr != nil {
		return connErr
	}
	return os.NewSyscallError("sendto", err)
}
