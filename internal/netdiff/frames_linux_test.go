package netdiff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ofKernel is frames where a socket of the kernel is at one end at least: a filter
// of that socket drops segments before TCP sees them.
type ofKernel struct{}

func (ofKernel) mute(near, far tcpConn) error {
	for _, c := range []tcpConn{far, bare(near)} {
		if k, ok := c.(*net.TCPConn); ok {
			raw, err := k.SyscallConn()
			if err != nil {
				return err
			}
			return filtered(raw, []bpf.Instruction{bpf.RetConstant{Val: 0}})
		}
	}
	return errors.New("no socket of the kernel")
}

func (ofKernel) deafen(d *net.Dialer) (hear func() error) {
	var mu sync.Mutex // the dial may be under way
	var made syscall.RawConn
	d.Control = func(_, _ string, raw syscall.RawConn) error {
		mu.Lock()
		defer mu.Unlock()
		made = raw
		return filtered(raw, []bpf.Instruction{bpf.RetConstant{Val: 0}})
	}
	return func() error {
		mu.Lock()
		defer mu.Unlock()
		if made == nil {
			return nil // the dial has ended before
		}
		return filtered(made, []bpf.Instruction{bpf.RetConstant{Val: 1 << 16}})
	}
}

// filtersAllowed tells whether the kernel takes filters of TCP sockets from us: not
// each does without privileges.
var filtersAllowed = sync.OnceValue(func() bool {
	c, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return false
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	return err == nil && filtered(raw, []bpf.Instruction{bpf.RetConstant{Val: 1 << 16}}) == nil
})

// filtered gives a socket a filter.
func filtered(raw syscall.RawConn, prog []bpf.Instruction) error {
	assembled, err := bpf.Assemble(prog)
	if err != nil {
		return err
	}
	code := make([]unix.SockFilter, len(assembled))
	for i, in := range assembled {
		code[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return withFD(raw, func(fd int) error {
		return os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}))
	})
}

func withFD(raw syscall.RawConn, f func(fd int) error) error {
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}

func (ofKernel) watch(from, to netip.AddrPort, until time.Time) (func() (uint32, error), error) {
	// What a filter sees of a raw socket's packets begins with the IP header, or
	// behind that of IPv6; Go takes that of IPv4 off.
	name, at := "ip6:tcp", uint32(0)
	if from.Addr().Is4() {
		name, at = "ip4:tcp", 20
	}
	c, err := net.ListenPacket(name, to.Addr().String())
	if err != nil {
		return nil, err
	}
	raw, err := c.(*net.IPConn).SyscallConn()
	if err == nil {
		err = filtered(raw, []bpf.Instruction{
			bpf.LoadAbsolute{Off: at, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(from.Port()), SkipTrue: 3},
			bpf.LoadAbsolute{Off: at + 2, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(to.Port()), SkipTrue: 1},
			bpf.RetConstant{Val: 1 << 16},
			bpf.RetConstant{Val: 0},
		})
	}
	if err == nil {
		err = c.SetReadDeadline(until)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return func() (uint32, error) {
		defer c.Close()
		for b := make([]byte, 1<<16); ; {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return 0, err
			}
			// Others may have come before the filter was there.
			if n >= 8 && binary.BigEndian.Uint16(b) == from.Port() && binary.BigEndian.Uint16(b[2:]) == to.Port() {
				return binary.BigEndian.Uint32(b[4:]), nil
			}
		}
	}, nil
}

// setUserTimeout is TCP_USER_TIMEOUT for both networks.
func setUserTimeout(c tcpConn, d time.Duration) error {
	switch c := bare(c).(type) {
	case *net.TCPConn:
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		return withFD(raw, func(fd int) error {
			return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds())))
		})
	case interface{ SetUserTimeout(time.Duration) error }:
		return c.SetUserTimeout(d)
	}
	return fmt.Errorf("%T has no user timeout", c)
}

// setBacklog changes how many connections may wait at a listener of the kernel.
func setBacklog(l *net.TCPListener, backlog int) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	return withFD(raw, func(fd int) error { return os.NewSyscallError("listen", unix.Listen(fd, backlog)) })
}
