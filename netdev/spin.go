package netdev

import (
	"runtime"
	"time"

	"github.com/afxnet/afxnet/internal/sys"
)

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
