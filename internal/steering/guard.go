package steering

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/afxnet/afxnet/internal/alarm"
)

// guardEvery is how often guard looks for the program. The kernel tells nobody that
// a bpf_link was taken off an interface, or was given another program, so that it
// has to be asked, by system calls that take microseconds. What is found is told
// within this time, and that the program is gone within twice as long.
const guardEvery = time.Second

// startGuard has guard run until unguard.
func (i *Interface) startGuard() error {
	a, err := alarm.New()
	if err != nil {
		return err
	}
	q, t := i.openQueues(), i.openTags() // in the namespace of Attach
	go i.guard(a, q, t)
	i.unguard = sync.OnceFunc(func() {
		a.Close() // it has nothing to lose
		<-i.done
	})
	return nil
}

// guard tells of packets that miss the sockets, and of VLAN tags that are taken off, and
// ends when the program is not on the interface any more. It has to miss it twice: an
// interface that goes takes its program along, and is its own matter, which the watch
// hears of; and a loader may be at work on a dispatcher.
func (i *Interface) guard(a *alarm.Alarm, q *queues, t *tags) {
	defer close(i.done)
	defer q.close()
	defer t.close()
	defer a.Close()
	// There is guardEvery between two looks, however long they take and whatever stops
	// the process: two in a row would see the same moment of who is at work.
	for lost := false; ; {
		if err := a.Wait(guardEvery); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				i.mu.Lock()
				i.err = fmt.Errorf("wait for the next look for the program: %w", err)
				i.mu.Unlock()
			}
			return
		}
		err := i.prog.Lost()
		if err != nil && lost && i.end(err) {
			return
		}
		lost = err != nil
		i.findMissed(q)
		i.findTags(t)
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
