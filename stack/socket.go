package stack

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Events that a side of a socket is woken by. Errors and hangups come with
// either; a refused datagram comes as nothing but EventErr.
const (
	readEvents  = waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp | waiter.EventRdHUp
	writeEvents = waiter.WritableEvents | waiter.EventErr | waiter.EventHUp
)

// A socket is what connections, listeners and UDP sockets have in common: an
// endpoint, and for each side a lock and a place to wait.
//
// Locks are taken in the order rd.mu, wr.mu, control. Whoever holds rd.mu or
// wr.mu may park; close gets them because halt wakes whoever does.
type socket struct {
	stack *Stack
	below ender
	net   string // network name, for errors

	laddr, raddr net.Addr // set before the socket is shared; raddr may be nil

	rd, wr side
	told   uint64 // the outage that receiving has told of; guarded by rd.mu

	control  sync.Mutex // held while options are set; guards released
	released bool

	prev, next *socket // in Stack's list; guarded by Stack.mu
}

// An ender is the endpoint below a socket. end is called once, with all locks of
// the socket held. If abort is true, the peer need not be told.
type ender interface{ end(abort bool) }

// A side is one direction of a socket. Its lock is held for the whole of a
// call, so that the bytes of concurrent calls are not mixed.
type side struct {
	mu sync.Mutex
	parker
}

// start readies k for use over an endpoint. If it fails, nothing has been done
// to that.
func (k *socket) start(s *Stack, network string, below ender) error {
	k.stack, k.net, k.below = s, network, below
	k.rd.init(s.idle, &s.sleepers)
	k.wr.init(s.idle, &s.sleepers)
	return s.add(k)
}

func (k *socket) halt(reason uint32) bool {
	k.wr.halt(reason)
	return k.rd.halt(reason)
}

func (k *socket) resume(reason uint32) {
	k.wr.resume(reason)
	k.rd.resume(reason)
}

// why returns the error for p's reasons to stop, the most final first. It is
// nil if there is none any more.
func (k *socket) why(p *parker) error {
	switch stop := p.stop.Load(); {
	case stop&(stopClosed|stopStack) != 0:
		return net.ErrClosed
	case stop&stopDown != 0:
		return k.stack.whyDown()
	case stop&stopExpired != 0:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// receiving is why for who waits for peers: to accept, or for datagrams. An outage of
// the device he is told of once, by a temporary error, and then he waits for the device,
// as the kernel's sockets do: many a server gives up at an error that stays, or comes back at
// once for ever. One that is for good he is told of each time. Precondition: rd.mu is held.
func (k *socket) receiving() error {
	stop := k.rd.stop.Load()
	if stop&stopDown != 0 && stop&(stopClosed|stopStack) == 0 {
		switch down, outage := k.stack.outageNow(); {
		case down == nil: // back since
		case !down.passes():
			return down
		case k.told != outage:
			k.told = outage
			return pauseError{down}
		}
		stop &^= stopDown
	}
	switch {
	case stop&(stopClosed|stopStack) != 0:
		return net.ErrClosed
	case stop&stopExpired != 0:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// receiveErr is callErr for who waits for peers.
func (k *socket) receiveErr(call string, terr tcpip.Error) error {
	err := k.instead(k.receiving(), call, terr)
	if down, ok := err.(*downError); ok && down.passes() {
		// Told before the stack has heard of it: not again when it has.
		if _, outage := k.stack.outageNow(); k.told <= outage {
			k.told = outage + 1
		}
		return pauseError{down}
	}
	return err
}

// callErr returns an endpoint's error, unless there is a reason for it that
// says more: the endpoint of a closed socket is in a state that is wrong for
// anything.
func (k *socket) callErr(p *parker, call string, terr tcpip.Error) error {
	return k.instead(k.why(p), call, terr)
}

// instead returns why, if there is such a reason, or else the endpoint's error.
func (k *socket) instead(why error, call string, terr tcpip.Error) error {
	if why != nil {
		return why
	}
	// A device that goes down refuses packets, its neighbours' requests among
	// them, a moment before it says so.
	switch errno(terr) {
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH:
		if k.stack.dev == nil {
			break
		}
		if err := k.stack.linkErr(); err != nil {
			return &downError{err}
		}
	}
	return sysError(call, terr)
}

// close ends the socket for its owner. It wakes whoever is blocked and
// returns when they are gone and the port is free. It reports false if it was
// closed before; it waits for that other call too, whose caller may know no more
// of it than that the socket is closed.
func (k *socket) close() bool {
	first := k.halt(stopClosed)
	k.release(false)
	return first
}

// release gives the endpoint back, once. The socket must have been halted.
func (k *socket) release(abort bool) {
	k.rd.mu.Lock()
	defer k.rd.mu.Unlock()
	k.wr.mu.Lock()
	defer k.wr.mu.Unlock()
	k.control.Lock()
	defer k.control.Unlock()
	if k.released {
		return
	}
	k.released = true
	k.rd.setDeadline(time.Time{})
	k.wr.setDeadline(time.Time{})
	k.below.end(abort)
	k.stack.remove(k)
}

// closed reports whether the socket or its stack was closed.
func (k *socket) closed() bool {
	return k.rd.stop.Load()&(stopClosed|stopStack) != 0
}

// opErr returns err as an error of an operation on an open socket.
func (k *socket) opErr(op string, err error) error {
	return opError(op, k.net, k.laddr, k.raddr, err)
}

// setErr returns err as an error of setting something, which names no peer.
func (k *socket) setErr(err error) error {
	return opError("set", k.net, nil, k.laddr, err)
}

func (k *socket) setDeadline(t time.Time, sides ...*side) error {
	k.control.Lock() // a timer that is set after release would outlive it
	defer k.control.Unlock()
	if k.released || k.closed() {
		return k.setErr(net.ErrClosed)
	}
	for _, d := range sides {
		d.setDeadline(t)
	}
	return nil
}

// set calls f unless the socket is closed; it is not closed during f.
func (k *socket) set(f func() tcpip.Error) error {
	k.control.Lock()
	defer k.control.Unlock()
	if k.released || k.closed() {
		return k.setErr(net.ErrClosed)
	}
	if terr := f(); terr != nil {
		return k.setErr(sysError("setsockopt", terr))
	}
	return nil
}

// A sink is the io.Writer that netstack copies received bytes to. It is kept
// in the socket so that a call allocates nothing.
type sink struct {
	b []byte
	n int // bytes written to b
}

// Write implements io.Writer.
func (w *sink) Write(p []byte) (int, error) {
	n := copy(w.b[w.n:], p)
	w.n += n
	if n == len(p) {
		return n, nil
	}
	return n, io.ErrShortWrite
}

// A source is the tcpip.Payloader that netstack takes bytes to send from. Netstack
// does so with the endpoint locked if the write is atomic.
type source struct {
	b     []byte
	clock *clock // to stop when netstack begins; nil: none, or done
}

// Len implements tcpip.Payloader.
func (r *source) Len() int { return len(r.b) }

// Read implements io.Reader.
func (r *source) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	if r.clock != nil {
		r.clock.stop()
		r.clock = nil
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}
