package netdev

import "time"

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
