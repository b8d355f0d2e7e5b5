package lab

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newNamespace returns a new network namespace. The thread that makes it has
// to leave its own for that, so Do's rule about threads applies here too.
func newNamespace(device string, number byte) (*Namespace, error) {
	n := &Namespace{Device: device, V4: v4(number), V6: v6(number), fd: -1}
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = away(func() error {
			fd, err := netns.New()
			if err != nil {
				return fmt.Errorf("lab: make a network namespace: %w", os.NewSyscallError("unshare", err))
			}
			n.fd = int(fd)
			return nil
		}, func() error { return nil })
	}()
	<-done
	return n, err
}

// enter runs f in the namespace.
//
// Preconditions: the goroutine ends after the call.
func (n *Namespace) enter(f func() error) error {
	return away(func() error {
		n.mu.RLock()
		defer n.mu.RUnlock()
		if n.fd < 0 {
			return n.closedError()
		}
		if err := netns.Set(netns.NsHandle(n.fd)); err != nil {
			return fmt.Errorf("lab: enter namespace of %s: %w", n.Device, os.NewSyscallError("setns", err))
		}
		return nil
	}, f)
}

// away runs leave, which may take the thread to another namespace, then f,
// and brings the thread back. If that fails, the goroutine stays locked to
// its thread, so that the runtime ends both together. New threads are never
// cloned from a locked one, so no other thread inherits the namespace.
//
// Preconditions: the goroutine ends after the call.
func away(leave, f func() error) error {
	runtime.LockOSThread()
	origin, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("lab: own namespace: %w", err)
	}
	defer func() {
		if err := netns.Set(origin); err == nil {
			runtime.UnlockOSThread()
		}
		origin.Close()
	}()
	if err := leave(); err != nil {
		return err
	}
	return f()
}

func (n *Namespace) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fd < 0 {
		return nil
	}
	fd := n.fd
	n.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}
