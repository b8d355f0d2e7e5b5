package steering

import (
	"sync"
	"time"
)

// guardEvery is how often guard looks for the program. The kernel tells nobody that
// a bpf_link was taken off an interface, or was given another program, so that it
// has to be asked, by system calls that take microseconds. What is found is told
// within this time, and that the program is gone within twice as long.
const guardEvery = time.Second

// startGuard has guard run until unguard.
func (i *Interface) startGuard() {
	stop := make(chan struct{})
	q, t := i.openQueues(), i.openTags() // in the namespace of Attach
	go i.guard(stop, q, t)
	i.unguard = sync.OnceFunc(func() { close(stop); <-i.done })
}

// guard tells of packets that miss the sockets, and of VLAN tags that are taken off, and
// ends when the program is not on the interface any more. It has to miss it twice: an
// interface that goes takes its program along, and is its own matter, which the watch
// hears of; and a loader may be at work on a dispatcher.
func (i *Interface) guard(stop <-chan struct{}, q *queues, t *tags) {
	defer close(i.done)
	defer q.close()
	defer t.close()
	lost := false
	repeat(stop, func() (over bool) {
		err := i.prog.Lost()
		if err != nil && lost && i.end(err) {
			return true
		}
		lost = err != nil
		i.findMissed(q)
		i.findTags(t)
		return false
	})
}

// repeat looks until look says that it is over, or stop is closed, with guardEvery
// between two looks. A ticker by itself would catch up after the process was stopped, or
// a look took long: two looks in a row see the same moment of who is at work.
func repeat(stop <-chan struct{}, look func() (over bool)) {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if look() {
			return
		}
		tick.Reset(guardEvery)
	}
}

// end notes why the program is gone, unless it is the interface that is.
func (i *Interface) end(err error) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.gone {
		i.err = err
	}
	return i.err != nil
}

// Done is closed when nothing leaves the kernel any more, since somebody has taken
// the program off the interface or because of Detach. Err then tells which.
func (i *Interface) Done() <-chan struct{} { return i.done }

// Err returns why the program is not on the interface any more, and nil while it is
// and after Detach.
func (i *Interface) Err() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.err
}
