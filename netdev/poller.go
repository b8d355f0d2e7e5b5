package netdev

import (
	"errors"
	"net"
	"runtime"
	"time"
)

// # Who polls
//
// Each queue has a background goroutine, its poller. Beside it, a goroutine that
// is about to sleep until a packet comes may poll the queue itself for a while:
// the packet then needs no wakeup of the poller and no handoff to the one that
// waits for it. Only the holder of the poll lock touches the receive half, and
// one holder serves all: it delivers every packet, and netstack wakes whoever
// waits for it.
//
// What must not happen is a packet in the RX ring with everybody asleep. The
// rule is: while the poll lock is free, the socket is armed, so that the next
// packet, or one that is there already, ends the poller's Park; or the minder's
// timer runs, which will arm it. The steps:
//
//	poller  P1  TryLock; if it fails: missed = true, and TryLock again
//	        P2  with the lock: poll until the ring is empty, arm and unlock, or
//	            start the minder, unlock, then C3
//	        P3  Park, then P1
//	caller  C1  TryLock; if it fails: missed = true, and TryLock again; if that
//	            fails too, sleep if missed is still set: the holder will deliver;
//	            otherwise C1
//	        C2  disarm, poll for a bounded time, arm or start the minder, unlock;
//	            or rest: arm if that was left to the minder, unlock
//	        C3  if missed: TryLock; if it succeeds, clear missed, poll, arm,
//	            unlock, C3
//	minder  M1  after a while: TryLock; if it fails, M1
//	        M2  with the lock: unlock, C3, and M1 if callers came since the last
//	            time; otherwise note that it stops, arm, unlock, then C3
//
// A caller that has its packet is often back for the next one in a moment, and
// arming and disarming are system calls. Worse, a packet that comes in between
// would wake the poller, on another thread, to find the ring taken. So it leaves
// that to the minder. What comes before anybody polls again waits for one period
// of the minder's and lateArm at most, and if it was not for the one who comes
// back first, or nobody came, the next callers arm at once for a while
// (lateBackoff, sharedFor). The poller does the same, once after each caller: if
// it got the packet of one that was on its way, and armed, it would get the next
// one too.
//
// An arming ends one Park only, and so the poller may use it up in P3 at a
// moment when it cannot get the lock: a caller has armed and not yet unlocked,
// or has come in again. That is what missed is for. The poller sets it before
// the TryLock that fails, so the holder sees it after its unlock and arms again;
// if it cannot lock for that, there is another holder, who will, because missed
// is cleared with the lock only. A caller does the same, because who leaves arming
// to the minder counts on callers to come. It has to make sure that missed was not
// cleared for somebody else before the holder came; the poller need not, since
// with the minder's timer running a packet is not left to nobody.
//
// C3 polls before it arms: the poller was sent back to sleep, and what it was
// woken for is still there. To arm with a packet in the ring would wake it at
// once, in the middle of the system call if both are on one CPU; it would find
// the lock taken, say so and sleep, the other would arm again, and so on for as
// long as the kernel prefers the one that was woken, some milliseconds.
//
// Where spinning finds nothing, callers rest (payoff). A caller that rests must
// not count as one that will poll: it arms what was left to the minder, and the
// poller will not leave arming to it.
//
// Under PollBlock callers may sleep in the poller's place; see doze.go.
//
// TestPollProtocol walks through every interleaving of these steps, and looks for
// packets that are left to nobody and for arming without end.

// pollBudget is how many batches one hold of the poll lock may take before the
// other goroutines of the processor get their turn.
const pollBudget = 4

// txRetry is how long the poller waits before it tries again to send what the
// device did not take although its ring had room: a full device queue, or the
// socket's send buffer. There is no event for that.
const txRetry = 500 * time.Microsecond

// run is the poller. Its Park is ended by a packet, by Interrupt (from Close,
// from a link change, from a sender that left packets behind), and, while
// packets wait for room, by room in the TX ring or after txRetry.
func (q *queue) run() {
	for {
		select {
		case <-q.kicked: // for what is done from here on
		default:
		}
		if q.d.closing.Load() {
			return
		}
		up := q.d.LinkErr() == nil
		if up {
			q.tx.resume()
		}
		more := false
		if q.lockPoll() {
			more = q.pollBatches() || up && q.d.cfg.Poll == PollSpin && q.broken() == nil
			late := !more && q.polled && (!q.d.callersDoze() || q.comes()) && q.mayArmLate()
			q.polled = q.polled && more
			var err error
			switch {
			case more:
				q.pollMu.Unlock()
			case late:
				if q.d.callersDoze() {
					q.parks.CompareAndSwap(pollerParks, nobodyParks)
				}
				q.leaveTo(true)
			case q.parks.CompareAndSwap(nobodyParks, pollerParks) || q.parks.Load() == pollerParks:
				err = q.arm()
				q.pollMu.Unlock()
			default:
				q.leave()
			}
			if err != nil {
				q.fail(err)
				return
			}
		}
		if more {
			runtime.Gosched()
			continue
		}
		q.st.sleeps.Add(1)
		if q.parks.Load() != pollerParks {
			<-q.kicked
			continue
		}
		if err := q.sock.Park(q.patience()); err != nil {
			q.fail(err)
			return
		}
	}
}

// lockPoll is P1, and one round of C1.
func (q *queue) lockPoll() bool {
	if q.pollMu.TryLock() {
		return true
	}
	if !q.missed.Load() { // to store it again would take the cache line from the holder
		q.missed.Store(true)
	}
	return q.pollMu.TryLock()
}

// pollBatches polls up to the budget and tells whether there may be more.
// Precondition: pollMu held.
func (q *queue) pollBatches() bool {
	for range pollBudget {
		n := q.poll()
		if n == 0 {
			return false
		}
		q.crowded(n)
	}
	return true
}

// arm lets the next packet end the poller's Park, and room in the TX ring if
// packets wait for it. While the link is down it does not do that: the poller sends
// nothing then, so that room which a driver makes all the same would end each Park.
// The link's return interrupts. Precondition: pollMu held.
func (q *queue) arm() error {
	q.late = false
	if err := q.broken(); err != nil {
		return err
	}
	return q.sock.Arm(q.tx.stuck() == waitRing && q.d.LinkErr() == nil)
}

// broken returns why it is of no use to go on, nil if the kernel's side of the
// rings is possible. Precondition: pollMu held.
func (q *queue) broken() error {
	if err := q.rx.Err(); err != nil {
		return err
	}
	if err := q.tx.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// patience is how long Park may last; 0 is for ever. Room in the TX ring has an
// event, but not when it comes of another try to send, as in copy mode.
func (q *queue) patience() time.Duration {
	if q.tx.stuck() != waitNothing && q.d.LinkErr() == nil {
		return txRetry
	}
	return 0
}

// fail ends the poller: the socket was closed, or the kernel's side of it is of
// no use any more, and then nothing will arrive.
func (q *queue) fail(err error) {
	if !errors.Is(err, net.ErrClosed) {
		q.d.fail(err)
	}
}

// leave gives the poll lock back, armed: the end of C2 and M2, and C3. Everybody
// but the poller does it so. Precondition: pollMu held.
func (q *queue) leave() { q.leaveTo(false) }

// leaveTo is leave, but leaves arming to the minder if late is true.
func (q *queue) leaveTo(late bool) {
	q.arming(late)
	q.unlock()
}

// arming arms, or leaves it to the minder, or to the poller if nobody parks.
// Precondition: pollMu held.
func (q *queue) arming(late bool) {
	switch {
	case q.dead:
	case late:
		q.armLate()
	case q.parks.Load() == nobodyParks:
		q.late, q.polled, q.calls = false, false, true // the poller arms, and not late
	default:
		if err := q.arm(); err != nil {
			q.interrupt() // the poller will see the same
		}
	}
}

// unlock gives the poll lock back, and is C3. Precondition: pollMu held.
func (q *queue) unlock() {
	for {
		kick := q.calls
		q.calls = false
		q.pollMu.Unlock()
		if kick {
			q.kick()
		}
		if !q.mustRearm() {
			return
		}
		if !q.dead {
			q.pollBatches()
		}
		q.arming(false)
	}
}

// mustRearm is the condition of C3. If it is true, pollMu is held.
func (q *queue) mustRearm() bool {
	if !q.missed.Load() || !q.pollMu.TryLock() {
		return false
	}
	q.missed.Store(false)
	return true
}
