package hostif

import (
	"context"
	"strings"
)

// Event is one change of a watched interface and its state after the change.
type Event struct {
	Change Change
	State  State
	// Err is why the watch ended early. It is set in ChangeEnded only.
	Err error
}

// State is the part of an interface's state that a watch follows.
type State struct {
	Present bool   // false once the interface is deleted or in another namespace
	Up      bool   // administratively up
	Running bool   // up, with carrier, and ready to carry frames
	MTU     int    // bytes
	MAC     string // the bytes of its address
	Moved   bool   // to another namespace; an interface that left before the watch began is only not Present
}

// Change is a set of changes: one message of the kernel often carries several.
type Change uint16

// The changes.
const (
	ChangeFirst      Change = 1 << iota // the state the watch started from
	ChangeUp                            // administratively up
	ChangeDown                          // administratively down
	ChangeRunning                       // ready to carry frames
	ChangeNotRunning                    // lost its carrier, or went down
	ChangeMTU                           // State.MTU is new
	ChangeMAC                           // State.MAC is new
	ChangeGone                          // deleted, or moved to another namespace; the last event
	ChangeEnded                         // the watch failed, see Event.Err; the last event
)

// Has reports whether all of the changes in want are in c.
func (c Change) Has(want Change) bool { return c&want == want }

// String lists the changes in c.
func (c Change) String() string {
	names := [...]string{"first", "up", "down", "running", "not running", "mtu", "mac", "gone", "ended"}
	var set []string
	for i, name := range names {
		if c.Has(1 << i) {
			set = append(set, name)
		}
	}
	return strings.Join(set, "+")
}

// changeFrom returns what differs between old and s. From an interface that
// is not present every state is a change, so that a first event tells a
// caller all it has to react to.
func (s State) changeFrom(old State) Change {
	if !s.Present {
		return ChangeGone
	}
	var c Change
	if !old.Present {
		c = ChangeFirst
	}
	if c.Has(ChangeFirst) || s.Up != old.Up {
		c |= either(s.Up, ChangeUp, ChangeDown)
	}
	if c.Has(ChangeFirst) || s.Running != old.Running {
		c |= either(s.Running, ChangeRunning, ChangeNotRunning)
	}
	if c.Has(ChangeFirst) || s.MTU != old.MTU {
		c |= ChangeMTU
	}
	if c.Has(ChangeFirst) || s.MAC != old.MAC {
		c |= ChangeMAC
	}
	return c
}

func either(cond bool, yes, no Change) Change {
	if cond {
		return yes
	}
	return no
}

// Await watches an interface until done says that it is over, or ctx ends, whose
// cause it returns then. done is called as the fn of Watch is, and not again after
// it has said so.
func Await(ctx context.Context, index int, done func(Event) (over bool, err error)) error {
	over, result := false, make(chan error, 1)
	stop, err := Watch(index, func(e Event) {
		if over {
			return
		}
		var err error
		if over, err = done(e); over {
			result <- err
		}
	})
	if err != nil {
		return err
	}
	defer stop()
	select {
	case err = <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
