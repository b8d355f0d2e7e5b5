package gvisorpeer

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/link/xdp"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/xsk"
)

// openXDP opens gVisor's link/xdp on queue 0, with the steering program of
// package xsk in front.
func openXDP(dev hostif.Interface, cfg peer.Config) (_ *endpoint, err error) {
	if cfg.Queues > 1 {
		return nil, fmt.Errorf("Config.Queues: %d: gVisor's xdp endpoint has one queue; use 1: %w", cfg.Queues, errors.ErrUnsupported)
	}
	var undo []func() error
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				err = errors.Join(err, undo[i]())
			}
		}
	}()
	prog, err := xsk.LoadProgram(xsk.ProgramConfig{Interface: dev.Name, MAC: dev.MAC, Queues: 1})
	if err != nil {
		return nil, err
	}
	undo = append(undo, prog.Close)
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	undo = append(undo, func() error { return os.NewSyscallError("close", unix.Close(fd)) })
	ino, err := inode(fd)
	if err != nil {
		return nil, err
	}
	undo = append(undo, func() error { return unmapSocket(ino) })
	ep, err := xdp.New(&xdp.Options{
		FD:             fd,
		Address:        linkAddress(dev.MAC),
		InterfaceIndex: dev.Index,
		Bind:           true,
		QueueID:        0,
		// Nothing vouches for a received checksum, nor completes a sent one.
		RXChecksumOffload: false,
		TXChecksumOffload: false,
	})
	if err != nil {
		return nil, fmt.Errorf("gVisor's xdp endpoint: %w", err)
	}
	if err := prog.AddSocket(0, fd); err != nil {
		return nil, err
	}
	if err := prog.Attach(); err != nil {
		return nil, err
	}
	for _, p := range []netip.Prefix{cfg.V4, cfg.V6} {
		if !p.IsValid() {
			continue
		}
		if err := prog.AddAddress(p.Addr()); err != nil {
			return nil, err
		}
	}
	e := &endpoint{
		info: map[string]string{
			"link":   "gvisor link/xdp",
			"attach": prog.Mode().String(),
			"bind":   bindMode(fd),
			"mtu":    strconv.Itoa(min(cfg.MTU, xdp.MTU)),
		},
		counters: func() map[string]uint64 { return programCounters(prog) },
	}
	e.gate.LinkEndpoint = ep
	e.stop = func() error {
		err := prog.Close() // no frame comes from here on
		return errors.Join(err, stopXDP(fd, ep.Wait), unmapSocket(ino), os.NewSyscallError("close", unix.Close(fd)))
	}
	return e, nil
}

// signalEvery is how often stopXDP disturbs the threads: often enough for
// nobody to notice the wait.
const signalEvery = time.Millisecond

// stopXDP ends the goroutine of the xdp endpoint, which has no way to be told:
// its Close is empty, and detaching it waits for its own lock. The goroutine
// ends when it polls a descriptor that has hung up, so fd becomes one, and a
// signal that the Go runtime ignores has it poll again. wait returns when the
// goroutine has ended.
func stopXDP(fd int, wait func()) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	unix.Close(pipe[1]) // the other end has hung up
	err := unix.Dup3(pipe[0], fd, unix.O_CLOEXEC)
	unix.Close(pipe[0])
	if err != nil {
		return os.NewSyscallError("dup3", err)
	}
	ended := make(chan struct{})
	go func() {
		wait()
		close(ended)
	}()
	tick := time.NewTicker(signalEvery)
	defer tick.Stop()
	for {
		if err := signalThreads(); err != nil {
			return err
		}
		select {
		case <-ended:
			return nil
		case <-tick.C:
		}
	}
}

// signalThreads interrupts the blocking system calls of all threads. SIGURG is
// the runtime's own for preemption: it takes it from anybody, at any time.
func signalThreads() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			continue
		}
		if err := unix.Tgkill(unix.Getpid(), tid, unix.SIGURG); err != nil && !errors.Is(err, unix.ESRCH) {
			return os.NewSyscallError("tgkill", err)
		}
	}
	return nil
}

// bindMode reads back what the kernel chose, gVisor leaves it the choice.
func bindMode(fd int) string {
	options, err := unix.GetsockoptInt(fd, unix.SOL_XDP, unix.XDP_OPTIONS)
	switch {
	case err != nil:
		return "unknown"
	case options&unix.XDP_OPTIONS_ZEROCOPY != 0:
		return "zero-copy"
	}
	return "copy"
}

// programCounters returns what the program did with the frames; nothing after
// Close.
func programCounters(prog *xsk.Program) map[string]uint64 {
	all := make(map[string]uint64)
	if c, err := prog.Counters(); err == nil {
		for verdict, n := range c.All() {
			all["program_"+strings.ReplaceAll(verdict.String(), " ", "_")] = n
		}
	}
	return all
}
