package lab

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/afxnet/afxnet/internal/hostif"
)

// Namespace is one of a lab's two network namespaces. Its methods may be
// called from any goroutine; after the lab is closed they return net.ErrClosed.
type Namespace struct {
	Device string       // the interface: HostDevice or PeerDevice
	V4, V6 netip.Prefix // the kernel's addresses on it

	mu sync.RWMutex // held while fd is in use, not while a function runs in the namespace
	fd int          // the namespace; -1 once closed
}

// Do runs f in the namespace, on a goroutine and a thread of its own, and
// returns what f returns.
//
// The namespace holds for f itself and what it calls, and for processes it
// starts, but not for goroutines it starts: they run on other threads, in
// the namespace of the process. So create sockets in f (or with Dial, Listen
// and ListenPacket) and use them wherever you like.
//
// A panic of f goes on in the caller, as does runtime.Goexit, so that f may
// call t.Fatal. If the thread cannot be brought back to its own namespace it
// ends with the goroutine (the main thread is parked instead), and nobody else
// gets to run on it.
func (n *Namespace) Do(f func() error) (err error) {
	var (
		done     = make(chan struct{})
		returned bool
		panicked *carriedPanic
	)
	go func() {
		defer close(done)
		defer func() {
			if !returned {
				// recover is nil after Goexit.
				if value := recover(); value != nil {
					panicked = &carriedPanic{value, debug.Stack()}
				}
			}
		}()
		err = n.enter(f)
		returned = true
	}()
	<-done
	switch {
	case panicked != nil:
		panic(panicked)
	case !returned:
		runtime.Goexit()
	}
	return err
}

// carriedPanic is the panic of a function in another goroutine, with the
// stack it had there.
type carriedPanic struct {
	value any
	stack []byte
}

func (p *carriedPanic) Error() string {
	return fmt.Sprintf("%v\n\nin the namespace's goroutine:\n%s", p.value, p.stack)
}

func (p *carriedPanic) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// Interface returns the state of the namespace's interface.
func (n *Namespace) Interface() (ifc hostif.Interface, err error) {
	err = n.Do(func() error {
		ifc, err = hostif.Lookup(n.Device)
		return err
	})
	return ifc, err
}

// closedError is the error of using a namespace after its lab was closed.
func (n *Namespace) closedError() error {
	return fmt.Errorf("lab: namespace of %s: %w", n.Device, net.ErrClosed)
}
