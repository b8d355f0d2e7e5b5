package netdev

import "runtime"

// # Who parks
//
// Under PollBlock the poller would wake up for each packet, wake the goroutine
// that waits for it, and sleep again: a second thread is called to look for work,
// and nothing is gained. So a caller sleeps in the poller's place. Who is in
// Park, or has the right to, is in queue.parks:
//
//	poller  it parks (P3)
//	caller  a caller does, and the poller waits to be kicked
//	nobody  the minder's timer runs, the lock is taken, or whoever was in Park
//	        is on his way to the lock
//
// The poller gives the place up when it would leave arming to the minder and has
// woken a caller that found the place taken, who is expected back and takes it:
//
//	caller  D1  with the lock, nobody parks, and the ring is empty: parks = caller,
//	            arm, unlock, C3
//	        D2  Park
//	        D3  parks = nobody, then C1, and when the ring is empty, leave
//
// Where the device's owner has no function that processes what a batch has brought,
// the caller looks whether it was for him when netstack's goroutines have run.
//
// What it finds may be for another. If one has been woken that found the place
// taken, it leaves as if it had been for itself: that one is the next to come.
// Otherwise it hands the place back. Whoever has to arm while nobody parks kicks
// the poller instead, which polls, arms and parks. D3 gives the place up before it
// tries the lock: who holds it may have armed for a caller who does not park any
// more, but sees missed then, and kicks the poller.

// Values of queue.parks.
const (
	nobodyParks int32 = iota
	pollerParks
	callerParks
)

// An alarmed waiter can be woken while it sleeps in Park: after SetAlarm(f),
// whatever makes Woken true calls f. The method is optional for what is given to
// PollBeforePark.
type alarmed interface {
	Woken() bool
	SetAlarm(f *func())
}

// callersDoze tells whether callers sleep in the poller's place. With several
// queues they do not, since a caller does not know which one its packet will
// come to.
func (d *Device) callersDoze() bool {
	return d.cfg.Poll == PollBlock && !d.cfg.NoLateArm && len(d.queues) == 1
}

// letProcess is how often a caller that has received lets other goroutines run,
// until it sees that somebody was woken by it. Once is enough, unless another
// thread has taken netstack's goroutine over.
const letProcess = 16

// processed lets goroutines of netstack's process what a caller has received, if
// no function of the device's owner has done so: not before that can he tell
// whether it was for him. While he waits, his processor runs them, and no thread
// is woken for that. Precondition: pollMu held.
func (q *queue) processed(w interface{ Woken() bool }) {
	if q.d.afterBatch.Load() != nil {
		return
	}
	for i := 0; i < letProcess && !w.Woken() && !q.woke.Load(); i++ {
		runtime.Gosched()
	}
}

// kick has the poller come if it is not the one who parks.
func (q *queue) kick() {
	select {
	case q.kicked <- struct{}{}:
	default: // it is coming
	}
}

// interrupt has the poller come wherever it is.
func (q *queue) interrupt() {
	q.kick()
	q.sock.Interrupt()
}

// dozeAsCaller takes the place in Park, if nobody has it, for one sleep. Before
// and after that it polls.
func (q *queue) dozeAsCaller(w interface{ Woken() bool }) {
	a, ok := w.(alarmed)
	for dozed := false; ; dozed = true {
		for !q.lockPoll() {
			if q.missed.Load() {
				return
			}
		}
		q.came, q.polled = true, true
		if !dozed && q.parks.Load() != nobodyParks || q.dead {
			if ok {
				a.SetAlarm(&q.wakes)
			}
			q.unlock() // what was armed is armed, and the minder's timer runs if it did
			return
		}
		found := q.look(w)
		if w.Woken() || dozed && found && q.comes() {
			q.leaveTo(q.mayArmLate())
			return
		}
		if dozed || !ok || !q.mayDoze() {
			q.leave()
			return
		}
		q.doze(a)
	}
}

// look polls until the ring is empty or w is woken, and tells whether there was
// anything. Precondition: pollMu held.
func (q *queue) look(w interface{ Woken() bool }) (found bool) {
	for late := q.late; !w.Woken(); found = true {
		n := q.poll()
		if n == 0 {
			break
		}
		q.crowded(n)
		q.processed(w)
		if late && !found && !w.Woken() && !q.onlyACKs(n) {
			q.waited() // it was there before, and for somebody else
		}
	}
	return found
}

// comes tells whether a caller who found the place taken has been woken since it
// was asked last, and so is about to come back.
func (q *queue) comes() bool { return q.woke.Swap(false) }

// crowd is how many frames of one batch show that there is work for two: while
// one goroutine uses what has come, the poller had better receive more.
const crowd = rxBatch / 4

// crowded notes the frames of a batch. After a crowd the poller keeps its place
// for a while. Precondition: pollMu held.
func (q *queue) crowded(n int) {
	if n >= crowd && q.d.callersDoze() {
		q.noLate = max(q.noLate, lateBackoff)
	}
}

// mayDoze tells whether a caller may sleep in the poller's place. Precondition:
// pollMu held.
func (q *queue) mayDoze() bool {
	return q.parks.Load() == nobodyParks && !q.d.closing.Load() && q.tx.stuck() == waitNothing && q.rx.Err() == nil
}

// doze is D1 and D2, and the first step of D3. Precondition: pollMu held; it is
// not afterwards.
func (q *queue) doze(w alarmed) {
	q.parks.Store(callerParks)
	q.leave()
	w.SetAlarm(&q.rouse)
	if !w.Woken() {
		q.st.sleeps.Add(1)
		_ = q.sock.ParkInput() // the poller will see the same
	}
	w.SetAlarm(nil)
	q.parks.Store(nobodyParks)
}
