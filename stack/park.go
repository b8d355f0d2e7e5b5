package stack

import (
	"sync"
	"sync/atomic"
	"time"
)

// Reasons not to wait, and not to try. They are bits of parker.stop.
const (
	stopClosed  uint32 = 1 << iota // the socket was closed by its owner
	stopStack                      // the stack was closed under it
	stopDown                       // the device is gone; cleared when it is back
	stopExpired                    // the deadline has passed; cleared when it moves
)

// An idler has something better to do than to sleep: it polls the device, so
// that the packet that is waited for is found by the goroutine that waits.
//
// PollBeforePark is called by a goroutine about to sleep, with no lock of
// gVisor held but with the lock of its side of one socket. It returns when
// w.Woken reports true or when it has polled long enough; it may call no
// method of the socket. It may sleep too, if it has set w's alarm.
type idler interface {
	PollBeforePark(w interface{ Woken() bool })

	// BeginBulk and EndBulk enclose the sending of much at once. Between them
	// the caller must not wait, and EndBulk polls, too.
	BeginBulk()
	EndBulk()
}

// A parker is where the goroutines of one side of a socket wait: readers (or
// accepters) on one, writers (or a dialer) on the other. It is the only place
// in the package where a goroutine sleeps for a packet.
//
// One goroutine waits at a time, the one that holds the side's lock. It looks
// at stop, tries, and parks when the endpoint would block. Whoever changes
// what it looked at does so first and wakes it second. The wakeup is kept
// until it is taken, so one that comes between the try and the park is not
// lost; one that nobody needed costs one more try.
type parker struct {
	stop     atomic.Uint32 // reasons to give up, 0 in steady state
	idle     idler         // nil: sleep at once
	sleepers *sync.Pool    // of *sleeper, the stack's

	// at is who sleeps, &awake if a wakeup waits to be taken, or nil.
	at    atomic.Pointer[sleeper]
	alarm atomic.Pointer[func()]

	mu    sync.Mutex // guards the deadline; a leaf
	due   time.Time  // when stopExpired is to be set; zero if never
	timer *time.Timer

	// dry says that the endpoint had nothing left when it was last asked, since
	// the last park: to ask it again before the next wakeup is of no use.
	// Guarded by the side's lock.
	dry bool
}

// A sleeper is what one goroutine sleeps on. Many sockets have nobody who sleeps for
// long, and most have one side at a time where somebody does. Each stack has sleepers of
// its own: a channel made in a bubble of package synctest is of no use outside.
type sleeper struct {
	sem chan struct{} // 1 slot, empty before and after the sleep
}

// awake stands for a wakeup in parker.at. Nobody sleeps on it.
var awake sleeper

func (p *parker) init(idle idler, sleepers *sync.Pool) { p.idle, p.sleepers = idle, sleepers }

// wake wakes the goroutine that sleeps, or the next that parks. It may be called by any
// goroutine, with the endpoint's lock held.
func (p *parker) wake() {
	if s := p.at.Swap(&awake); s != nil && s != &awake {
		s.sem <- struct{}{} // never waits: only who has taken s out of at sends
	}
	if f := p.alarm.Load(); f != nil {
		(*f)()
	}
}

// SetAlarm has every wakeup from now on call f, which wakes the idler; nil ends
// that. Woken has to be asked once more between SetAlarm and going to sleep.
func (p *parker) SetAlarm(f *func()) {
	if p.alarm.Load() != f { // mostly it is the one of the last wait
		p.alarm.Store(f)
	}
}

// Woken reports whether park would return at once.
func (p *parker) Woken() bool { return p.at.Load() == &awake }

// take takes the wakeup that waits, if there is one, and tells whether. Precondition: the
// side's lock is held.
func (p *parker) take() bool { return p.at.Swap(nil) == &awake }

// park returns after the next wakeup, which may have come before the call.
func (p *parker) park() {
	if p.idle != nil && !p.Woken() {
		p.idle.PollBeforePark(p)
	}
	if !p.Woken() {
		p.sleep()
	}
	p.take()
	p.dry = false
}

// sleep returns when a wakeup has come.
func (p *parker) sleep() {
	s, _ := p.sleepers.Get().(*sleeper)
	if s == nil {
		s = &sleeper{sem: make(chan struct{}, 1)}
	}
	if p.at.CompareAndSwap(nil, s) {
		<-s.sem
	}
	p.sleepers.Put(s)
}

// halt gives the waiting goroutine, and all that come later, a reason to give
// up. It reports whether the reason is new.
func (p *parker) halt(reason uint32) bool {
	old := p.stop.Or(reason)
	p.wake()
	return old&reason == 0
}

// resume takes a reason back.
func (p *parker) resume(reason uint32) { p.stop.And(^reason) }

// setDeadline makes waiting end at t, or never if t is zero. The goroutine
// that waits now is held to it too.
func (p *parker) setDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	p.due = time.Time{}
	if t.IsZero() {
		p.resume(stopExpired)
		return
	}
	d := time.Until(t)
	if d <= 0 {
		p.halt(stopExpired)
		return
	}
	p.due = time.Now().Add(d)
	p.resume(stopExpired)
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.expire)
	} else {
		p.timer.Reset(d)
	}
}

// expire runs when the timer fires. The timer may have been moved since; due
// tells.
func (p *parker) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.due.IsZero() || time.Now().Before(p.due) {
		return
	}
	p.due = time.Time{}
	p.halt(stopExpired)
}
