package netdev

import (
	"errors"
	"net"
	"runtime"
	"time"

	"github.com/afxnet/afxnet/internal/sys"
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

// PollBeforePark polls for a goroutine that is about to sleep until a packet
// comes, for as long as Config.Spin and until w is woken. It returns at once if
// somebody else polls, and in modes other than PollAdaptive; but under PollBlock
// it may sleep in the poller's place until there is a packet, if w can be woken
// there: w then has a method SetAlarm(f *func()), after which whatever makes
// Woken true calls *f, until SetAlarm(nil). The caller must hold no lock that the
// delivery of a packet takes.
func (d *Device) PollBeforePark(w interface{ Woken() bool }) {
	if d.cfg.Poll != PollAdaptive {
		if d.callersDoze() {
			d.queues[0].dozeAsCaller(w)
		}
		return
	}
	if d.callers.Add(1) <= d.maxCallers {
		for _, q := range d.queues {
			if q.pollAsCaller(w) || w.Woken() {
				break
			}
		}
	}
	d.callers.Add(-1)
}

// pollAsCaller is C1 to C3. It tells whether it spun.
func (q *queue) pollAsCaller(w interface{ Woken() bool }) bool {
	for !q.lockPoll() {
		if q.missed.Load() {
			return false
		}
	}
	if q.payoff.resting() {
		q.polled = false
		if q.late {
			q.arming(false)
		}
		q.unlock()
		return false
	}
	if !q.dead {
		q.payoff.spun(q.spin(w) || w.Woken())
	}
	q.leaveTo(q.mayArmLate() && w.Woken())
	return true
}

const (
	// lateArm is the minder's first period, and how long it waits until it
	// looks again when it finds a packet and nobody polling. It is many times
	// what a caller needs that answers a request and comes back, and short
	// beside what the network may take.
	lateArm = 250 * time.Microsecond

	// lateArmMost is its longest: while callers come and go, it looks half as
	// often each time. Each look wakes a thread, and at lateArm the exchange of
	// every fifteenth request would be disturbed by one.
	lateArmMost = 2 * time.Millisecond
)

// After a packet has waited that should not have, the next callers arm at once:
// lateBackoff of them, or twice as many as the last time, up to lateBackoffMost,
// if fewer than lateRedeemed have left unarmed in between. So a caller that was
// kept from its processor for once costs little, which on a busy or virtual
// machine happens some ten times a second, and one that is away for long each
// time delays one packet in some thousands.
const (
	lateBackoff     = 64
	lateBackoffMost = 4096
	lateRedeemed    = 1024
)

// waited notes that a packet has waited for somebody to come. Precondition:
// pollMu held.
func (q *queue) waited() {
	if q.backoff == 0 || q.left >= lateRedeemed {
		q.backoff = lateBackoff
	} else {
		q.backoff = min(2*q.backoff, lateBackoffMost)
	}
	q.noLate, q.left = q.backoff, 0
}

// mayArmLate tells whether a caller that has what it wanted may leave arming to
// the minder. Precondition: pollMu held.
func (q *queue) mayArmLate() bool {
	if q.noLate > 0 {
		q.noLate--
		return false
	}
	return !q.d.cfg.NoLateArm && q.shared == 0 && q.tx.stuck() == waitNothing && q.rx.Err() == nil
}

// armLate leaves arming to the minder. Precondition: pollMu held.
func (q *queue) armLate() {
	q.late = true
	q.left++
	if !q.minding {
		q.minding, q.period = true, lateArm
		q.minder.Reset(lateArm)
	}
}

// mind is the minder's timer: M1 and M2. It goes on while callers come and go.
func (q *queue) mind() {
	if !q.pollMu.TryLock() {
		if !q.d.closing.Load() {
			q.minder.Reset(lateArm)
		}
		return
	}
	came := q.came
	q.came = false
	if !q.dead && (q.late || q.parks.Load() == callerParks) {
		if came {
			if q.rx.Empty() {
				q.period = min(2*q.period, lateArmMost)
				q.minder.Reset(q.period)
			} else {
				q.minder.Reset(lateArm) // whoever left last may not be coming back
			}
			q.unlock() // as it was found: armed, or late
			return
		}
		if q.late && !q.rx.Empty() {
			q.waited()
		}
	}
	q.minding = false
	q.leave()
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

const (
	// spinCheck is how many empty polls, of some 20 ns each, a spinning caller
	// makes between two looks at the clock. If it has the only processor, or
	// netstack's goroutines have to process what it delivers, it lets other
	// goroutines run then. Otherwise it does not: with a processor to spare,
	// that wakes a thread to look for work each time. Where an empty poll is a
	// system call that runs the NAPI, it looks after each.
	spinCheck = 16

	// yieldCheck is how many it makes until it yields to the threads that wait
	// for its CPU. The one that will send the packet may be among them: a peer
	// on the same machine is often woken on the CPU of the packet that it was
	// sent, and would wait there until Spin is over.
	yieldCheck = 64

	// yieldAfter is the part of Config.Spin after which it does so where it also
	// lets goroutines run. The thread that the Go scheduler wakes for that is
	// often on its CPU too. It is the one that asks the kernel which sockets are
	// ready, for the scheduler itself does so only when it has no goroutine to
	// run (Go 1.26), and the one that spins can always run: without it, goroutines
	// that wait for kernel sockets wait until Spin is over. In a short exchange,
	// though, there is nothing for that thread to do, and to let it run each time
	// costs a fifth of the exchange.
	yieldAfter = 4

	// sharedFor is how many callers in a row have to get what they came for
	// until the queue counts as one caller's again, after a packet for somebody
	// else. Until then it is disturbed by what otherwise helps: yielding, for
	// that one was woken, most likely on another thread, which looks for more
	// work when it is done and would be yielded to again and again; and late
	// arming, for it may be the other one's packet that comes next, and he does
	// not poll. So it is where one goroutine accepts and others serve. Where
	// netstack's goroutines process what is delivered, nobody can tell.
	sharedFor = 64
)

// spin polls until w is woken or Config.Spin is over. It tells whether it found
// packets. Precondition: pollMu held.
func (q *queue) spin(w interface{ Woken() bool }) (found bool) {
	if q.sock.Disarm() != nil {
		return false
	}
	start := time.Now()
	alone := q.d.afterBatch.Load() != nil // what it delivers, it processes
	late := q.late
	early := false // what came while nobody looked may still wake w
	q.late, q.came, q.polled = false, true, true
	for i := 1; !w.Woken(); i++ {
		if n := q.poll(); n != 0 {
			found = true
			if early {
				q.waited() // it did not: it was for somebody else
				early = false
			}
			if q.onlyACKs(n) {
				start = time.Time{} // what a long write waits for: there will be more
			}
			if !w.Woken() {
				runtime.Gosched() // to netstack's goroutines, or others that were woken
				if !w.Woken() && !q.onlyACKs(n) {
					early = late && i == 1
					if alone { // it would have
						q.shared = sharedFor
						if early {
							q.waited()
						}
						early = false
					}
				}
			}
			continue
		}
		if i%spinCheck == 0 || q.busy {
			if start.IsZero() {
				start = time.Now()
			}
			passed := time.Since(start) // which does not read the time of day
			if passed > q.d.cfg.Spin {
				break
			}
			if i%yieldCheck == 0 && q.mayYield(alone, passed) {
				sys.YieldCPU()
			}
			if !alone || q.d.oneProc {
				runtime.Gosched()
			}
		}
	}
	if w.Woken() {
		q.shared = max(q.shared-1, 0)
	} else if early {
		q.waited()
	}
	return found
}

// mayYield tells whether a caller that has polled for so long may yield the CPU.
// alone says that what it delivers it processes itself: then no goroutine of this
// process is at work meanwhile unless the queue is shared. Precondition: pollMu held.
func (q *queue) mayYield(alone bool, passed time.Duration) bool {
	switch {
	case q.d.oneProc:
		return true // it lets other goroutines run too
	case alone:
		return q.shared == 0
	}
	return passed > q.d.cfg.Spin/yieldAfter
}
