package netdev

// The poll protocol as a machine of small states: the steps documented in
// poller.go, each an atomic action of one of its actors. The checker walks
// through every interleaving.

// An actor's place is the step that it will do next.
type place uint8

const (
	pTry place = iota
	pMiss
	pTryAgain
	pPoll
	pArm
	pUnlock
	pLeave
	pMissed
	pTryMissed
	pClear
	pPark
	pKicked

	cAsleep // or about other things
	cTry
	cMiss
	cTryOnce // more
	cSure
	cDisarm
	cPoll
	cArm
	cUnlock
	cMissed
	cTryAgain
	cClear
	cPass // unlocks, leaving all to the poller

	dLook // what callers do who may doze
	dArm
	dUnlock
	dPark
	dRise

	xKick // after an unlock
)

var placeNames = [...]string{
	"TryLock", "set missed", "TryLock again", "poll", "arm", "unlock",
	"unlock late", "look at missed", "TryLock for missed", "clear missed and arm", "park", "wait to be kicked",
	"asleep", "TryLock", "set missed", "TryLock once more", "look whether missed stays", "disarm", "poll", "arm", "unlock", "look at missed", "TryLock for missed", "clear missed", "unlock in passing",
	"look", "arm to doze", "unlock to doze", "park", "give the place up",
	"kick",
}

const (
	polling = 0 // actors[0]: the poller
	auditor = 3 // actors[3]: takes the lock as Audit does, to receive nothing
	minder  = 4
	actors  = 5
	free    = -1
)

// protocol is the machine's state.
type protocol struct {
	at     [actors]place
	rounds [actors]uint8 // that a caller may still do
	holder int8
	ring   uint8 // packets in it
	coming uint8 // packets that the source may still put into it
	armed  bool
	ready  bool // what ends Park has happened
	missed bool

	minding bool // the minder's timer runs
	late    bool // the last one who left has not armed; not kept where callers doze
	polled  bool // a caller has, since the poller has left arming to the minder
	turned  bool // a caller did not get in, or rests, and nobody has armed or polled since

	parks  uint8        // queue.parks
	kicked bool         // the poller need not wait to be
	kicks  [actors]bool // who has to kick it after unlock
	dozed  [actors]bool // the caller has, and leaves
}

// flaw is a change of the protocol that the checker has to find.
type flaw struct {
	noMissed       bool // the poller does not say that it missed the lock
	noLook         bool // callers do not look
	noTryAgain     bool // the poller does not try again after it has set missed
	missedLate     bool // the poller sets missed after its last try
	armLate        bool // arm after unlock and after the look at missed
	noArm          bool // callers leave without
	noArmAgain     bool // callers that find missed set do not arm
	clearFirst     bool // callers clear missed before they have the lock
	auditNoLook    bool // Audit just unlocks
	disarmUnlocked bool // callers disarm before they have the lock
	noMinder       bool // callers that arm late start no minder
	minderNoArm    bool // the minder does not arm
	minderLate     bool // the minder stops after it has given the lock back
	minderNoLook   bool // the minder does not look at missed
	callerNoMissed bool // callers do not say that they missed the lock
	callerOnce     bool // nor see to it that it is not taken for what was said before
	pollerNoLook   bool // the poller arms late and does not look at missed
	restNoArm      bool // callers that rest do not arm what was left to the minder
	restPolled     bool // the poller takes callers that rest for such as will poll
	noPollAgain    bool // who finds missed set arms and does not poll
	passerNoLook   bool // who leaves all to the poller does not look at missed

	kickedLate  bool // the poller that was kicked may leave arming to the minder
	noKick      bool // who has to arm while nobody parks arms, and does not kick the poller
	parkAnyhow  bool // the poller parks although a caller does
	parkMissed  bool // the poller parks when it cannot lock, although the place is not its own
	riseLate    bool // who has dozed gives the place up when he has the lock
	riseAway    bool // who has dozed goes away if he was woken by other means
	foundNoLook bool // callers who leave all as they found it do not look at missed
}

// dozes tells whether the flaw is of callers that doze.
func (f flaw) dozes() bool {
	return f.kickedLate || f.noKick || f.parkAnyhow || f.parkMissed || f.riseLate || f.riseAway || f.foundNoLook
}

// kernel is how arming may behave: an event may be kept once it has happened,
// or be asked for anew when the poller gets to it (as epoll and wire do).
type kernel struct {
	askAnew bool
	doze    bool // callers may sleep in the poller's place
}

func (s *protocol) arm() {
	s.armed, s.turned, s.late = true, false, false
	if s.ring > 0 {
		s.armed, s.ready = false, true
	}
}

// settle arms for actor i, or has it kick the poller if nobody parks.
func (s *protocol) settle(i int, f flaw) {
	if s.parks != uint8(nobodyParks) || f.noKick {
		s.arm()
	} else {
		s.kicks[i], s.polled = true, f.kickedLate && s.polled
	}
}

func (s *protocol) lock(i int) bool {
	if s.holder != free {
		return false
	}
	s.holder = int8(i)
	return true
}

func (s *protocol) unlock(i int) {
	if s.holder != int8(i) {
		panic("unlocked by another")
	}
	s.holder = free
}

// wakes tells whether Park would end.
func (s *protocol) wakes(k kernel) bool { return s.ready && (!k.askAnew || s.ring > 0) }

// stranded tells whether a packet is in the ring, everybody sleeps, and nothing
// will wake the poller, or only the minder although a caller would have polled.
func (s *protocol) stranded(k kernel) bool {
	parked := 0
	for _, at := range s.at {
		if at == pPark || at == dPark {
			parked++
		}
	}
	if parked > 1 {
		return true // only one may
	}
	if parked == 1 && s.wakes(k) || s.at[polling] == pKicked && s.kicked {
		return false
	}
	if s.ring == 0 || s.at[polling] != pPark && s.at[polling] != pKicked || s.minding && s.at[minder] == cAsleep && !s.turned {
		return false
	}
	for _, at := range s.at[1:] {
		if at != cAsleep && at != dPark {
			return false
		}
	}
	return true
}

// next returns the states that one step of actor i may lead to.
func (s protocol) next(i int, f flaw, k kernel) (out []protocol) {
	to := func(p place) { t := s; t.at[i] = p; out = append(out, t) }
	pick := func(ok bool, a, b place) {
		if ok {
			to(a)
		} else {
			to(b)
		}
	}
	away := cAsleep // where a caller goes without the lock
	if s.dozed[i] {
		away = dPark
	}
	rest := pPark // where the poller sleeps
	if s.parks != uint8(pollerParks) && !f.parkMissed {
		rest = pKicked
	}
	switch s.at[i] {
	case pTry:
		miss := pMiss
		if f.missedLate {
			miss = pTryAgain
		}
		pick(s.lock(i), pPoll, miss)
	case pMiss:
		s.missed = !f.noMissed
		if f.missedLate || f.noTryAgain {
			to(rest)
		} else {
			to(pTryAgain)
		}
	case pTryAgain:
		fail := rest
		if f.missedLate {
			fail = pMiss
		}
		pick(s.lock(i), pPoll, fail)
	case pPoll:
		if s.ring > 0 {
			s.ring--
			to(pPoll)
			s.unlock(i) // the budget is over
			to(pTry)
		} else {
			was := s
			switch {
			case s.parks == uint8(callerParks) && !f.parkAnyhow:
				s.arm()
				to(pLeave)
			default:
				s.parks = uint8(pollerParks)
				pick(f.armLate, pUnlock, pArm)
			}
			if s = was; s.polled { // or it leaves that to the minder, once
				s.polled, s.minding, s.late = false, !f.noMinder, !k.doze
				if k.doze && s.parks == uint8(pollerParks) {
					s.parks = uint8(nobodyParks)
				}
				to(pLeave)
			}
		}
	case pArm:
		s.arm()
		pick(f.armLate, pPark, pUnlock)
	case pUnlock:
		s.unlock(i)
		pick(f.armLate, pArm, pPark)
	case pLeave:
		s.unlock(i)
		if s.kicks[i] {
			to(xKick)
		} else {
			pick(f.pollerNoLook, rest, pMissed)
		}
	case pMissed:
		pick(s.missed, pTryMissed, rest)
	case pTryMissed:
		pick(s.lock(i), pClear, rest)
	case pClear:
		s.missed = false
		if s.ring > 0 && !f.noPollAgain {
			s.ring--
			to(pClear)
		} else {
			s.settle(i, f)
			to(pLeave)
		}
	case pPark:
		if s.wakes(k) {
			s.ready, s.kicked = false, false
			to(pTry)
		}
	case pKicked:
		if s.kicked {
			s.kicked = false
			to(pTry)
		}

	case cAsleep:
		if i == minder {
			// If the lock is taken it tries again later, which is no other state.
			if s.minding && s.lock(i) {
				to(cUnlock) // callers come and go: it goes on
				if !f.minderLate {
					s.minding = false
				}
				pick(f.minderNoArm, cUnlock, cArm)
			}
			return out
		}
		if s.rounds[i] > 0 {
			s.rounds[i]--
			to(cTry)
		}
	case cTry:
		if i == auditor {
			if s.lock(i) {
				pick(f.auditNoLook, cUnlock, cArm)
			}
			return out
		}
		if t := s; k.doze {
			// nobody polls in passing
		} else if !t.lock(i) {
			to(cAsleep) // it was in passing
		} else if !t.minding {
			t.at[i] = cPass
			out = append(out, t)
		}
		if f.disarmUnlocked {
			s.armed = false
		}
		if s.lock(i) {
			return append(out, s.in(i, f, k)...)
		}
		to(cMiss)
	case cMiss:
		s.missed = s.missed || !f.callerNoMissed
		to(cTryOnce)
	case cTryOnce:
		if s.lock(i) {
			return s.in(i, f, k)
		} else {
			to(cSure)
		}
	case cSure:
		if s.missed || f.callerNoMissed || f.callerOnce {
			s.turned, s.dozed[i] = true, false
			to(cAsleep)
		} else {
			to(cMiss)
		}
	case cDisarm:
		s.armed, s.turned, s.late = false, false, false
		s.polled = !f.armLate
		if k.askAnew {
			s.ready = false
		}
		to(cPoll)
	case cPoll:
		pick(f.noArm || f.armLate, cUnlock, cArm) // its time is over
		if !f.armLate {                           // or it has what it wanted
			was := s.minding
			s.minding, s.late = !f.noMinder, true
			to(cUnlock)
			s.minding, s.late = was, false
		}
		if s.ring > 0 {
			s.ring--
			to(cPoll)
		}
	case cArm:
		s.settle(i, f)
		pick(f.armLate, cAsleep, cUnlock)
	case cUnlock:
		s.unlock(i)
		if s.kicks[i] {
			to(xKick)
			return out
		}
		pick(f.noLook || f.auditNoLook && i == auditor || f.minderNoLook && i == minder, cAsleep, cMissed)
	case cPass:
		s.unlock(i)
		pick(f.passerNoLook, cAsleep, cMissed)
	case cMissed:
		if f.minderLate && i == minder {
			s.minding = false
		}
		was := s.missed
		if f.clearFirst {
			s.missed = false
		}
		rest := away
		if f.armLate {
			rest = cArm
		}
		pick(was, cTryAgain, rest)
	case cTryAgain:
		pick(s.lock(i), cClear, away)
	case cClear:
		s.missed = false
		if s.ring > 0 && !f.noPollAgain {
			s.ring--
			to(cClear)
		} else {
			pick(f.noArmAgain, cUnlock, cArm)
		}

	case dLook:
		if s.polled = true; !s.dozed[i] && s.parks != uint8(nobodyParks) {
			pick(f.foundNoLook, dUnlock, cUnlock)
			return out
		}
		s.turned = false
		if f.riseLate && s.dozed[i] {
			s.parks = uint8(nobodyParks)
		}
		if s.ring > 0 {
			t := s
			s.ring--
			to(dLook)
			s = t
		}
		dozed := s.dozed[i]
		s.dozed[i] = false
		to(cArm) // it may not leave that to the minder
		t := s
		s.minding = true
		to(cUnlock) // it has what it wanted
		s = t
		if s.ring == 0 && !dozed {
			s.dozed[i], s.parks = true, uint8(callerParks)
			to(dArm)
		}
	case dArm:
		s.arm()
		to(cUnlock)
	case dUnlock: // without a look at missed, which is wrong
		s.unlock(i)
		to(cAsleep)
	case dPark:
		was := s.wakes(k)
		s.ready = s.ready && !was
		to(dRise) // by a packet, or because he was woken otherwise
	case dRise:
		if !f.riseLate {
			s.parks = uint8(nobodyParks)
		}
		to(cTry)
		if f.riseAway {
			s.dozed[i] = false
			to(cAsleep)
		}

	case xKick:
		s.kicks[i], s.kicked = false, true
		pick(i == polling, pMissed, cMissed)
	}
	return out
}

// in returns what a caller that has the lock may do: poll, or rest; or, where
// callers doze, look.
func (s protocol) in(i int, f flaw, k kernel) []protocol {
	if k.doze {
		s.at[i] = dLook
		return []protocol{s}
	}
	spins, rests := s, s
	spins.at[i] = cDisarm
	rests.polled, rests.turned = s.polled && f.restPolled, true
	rests.at[i] = cUnlock
	if s.late && !f.restNoArm {
		rests.at[i] = cArm
	}
	return []protocol{spins, rests}
}
