package hostif

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch calls fn for every change of the interface with this index, one call
// at a time, on a goroutine of its own. The first call gives the state at the
// start (ChangeFirst, or ChangeGone alone if there is no such interface), so
// that nothing is lost between a Lookup and a Watch. If events came faster
// than fn took them, those in between are left out, never the last state.
//
// stop ends the watch and waits until fn has returned for the last time; it
// is idempotent, safe for concurrent use, and must not be called from fn. It
// has to be called also after the last event (ChangeGone, ChangeEnded).
func Watch(index int, fn func(Event)) (stop func(), err error) {
	w, err := newWatcher(index, fn)
	if err != nil {
		return nil, indexError("watch", index, err)
	}
	go w.run()
	return sync.OnceFunc(w.stop), nil
}

// watcher follows one interface over one netlink socket, which carries both
// the kernel's notifications and the answers to our own requests: they come
// in the order in which they happened.
type watcher struct {
	*listener
	index int
	fn    func(Event)

	// The rest belongs to the goroutine in run.
	state    State
	overruns int // how often the kernel dropped messages
}

func newWatcher(index int, fn func(Event)) (*watcher, error) {
	l, err := listen(unix.RTNLGRP_LINK)
	if err != nil {
		return nil, err
	}
	return &watcher{listener: l, index: index, fn: fn}, nil
}

// run reads until the interface is gone or stop is called. A socket that
// overran (ENOBUFS) stays deaf until its queue is empty, so the state is
// asked for after that, not at once. The start is treated alike: the
// subscription is there, the state is not.
func (w *watcher) run() {
	defer close(w.done)
	defer w.file.Close()
	stale := true
	for {
		n, err := w.receive(!stale)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return // stop was called
		case errors.Is(err, unix.ENOBUFS):
			w.overruns++
			stale = true
			continue
		case stale && errors.Is(err, unix.EAGAIN):
			stale = false
			err = w.ask()
		case err == nil:
			var gone bool
			if gone, err = w.handle(w.buf[:n]); gone {
				return
			}
		}
		if err != nil {
			w.fn(Event{Change: ChangeEnded, State: w.state, Err: indexError("watch", w.index, err)})
			return
		}
	}
}

// ask requests the current state. The answer arrives like a notification;
// if there is no such interface it is an error message with ENODEV.
func (w *watcher) ask() error {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(w.index)
	req.AddData(msg)
	return w.send(req.Serialize())
}

// handle reports what a batch of messages changes. gone ends the watch.
func (w *watcher) handle(batch []byte) (gone bool, err error) {
	msgs, err := syscall.ParseNetlinkMessage(batch)
	if err != nil {
		return false, err
	}
	for _, m := range msgs {
		next, about, err := w.parse(m)
		if err != nil {
			return false, err
		}
		if !about {
			continue
		}
		if change := next.changeFrom(w.state); change != 0 {
			w.state = next
			w.fn(Event{Change: change, State: next})
		}
		if !next.Present {
			return true, nil
		}
	}
	return false, nil
}

// parse returns the state a message tells of, and whether it is about the
// interface at all.
func (w *watcher) parse(m syscall.NetlinkMessage) (next State, about bool, err error) {
	switch m.Header.Type {
	case unix.NLMSG_ERROR:
		if len(m.Data) < 4 {
			return State{}, false, fmt.Errorf("netlink error message of %d bytes", len(m.Data))
		}
		switch errno := unix.Errno(-int32(native.Uint32(m.Data))); errno {
		case 0:
			return State{}, false, nil
		case unix.ENODEV:
			return State{}, true, nil
		default:
			return State{}, false, os.NewSyscallError("netlink", errno)
		}
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
	default:
		return State{}, false, nil
	}
	if len(m.Data) < unix.SizeofIfInfomsg {
		return State{}, false, fmt.Errorf("netlink link message of %d bytes", len(m.Data))
	}
	msg := nl.DeserializeIfInfomsg(m.Data)
	// An interface that leaves a bridge is "deleted" too, in family AF_BRIDGE.
	if int(msg.Index) != w.index || msg.Family != unix.AF_UNSPEC {
		return State{}, false, nil
	}
	attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return State{}, false, err
	}
	if m.Header.Type == unix.RTM_DELLINK {
		// The number of the namespace is this one's for it: there is no way in by that.
		moved := slices.ContainsFunc(attrs, func(a syscall.NetlinkRouteAttr) bool { return a.Attr.Type == unix.IFLA_NEW_NETNSID })
		return State{Moved: moved}, true, nil
	}
	next = State{
		Present: true,
		Up:      msg.Flags&unix.IFF_UP != 0,
		Running: running(msg.Flags),
		MTU:     w.state.MTU,
		MAC:     w.state.MAC,
	}
	for _, attr := range attrs {
		switch {
		case attr.Attr.Type == unix.IFLA_MTU && len(attr.Value) >= 4:
			next.MTU = int(native.Uint32(attr.Value))
		case attr.Attr.Type == unix.IFLA_ADDRESS:
			next.MAC = string(attr.Value)
		}
	}
	return next, true, nil
}
