package netdev

import (
	"fmt"
	"strings"
	"testing"
)

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
)

var placeNames = [...]string{
	"TryLock", "set missed", "TryLock again", "poll", "arm", "unlock",
	"unlock late", "look at missed", "TryLock for missed", "clear missed and arm", "park",
	"asleep", "TryLock", "set missed", "TryLock once more", "look whether missed stays", "disarm", "poll", "arm", "unlock", "look at missed", "TryLock for missed", "clear missed", "unlock in passing",
}

const (
	poller  = 0 // actors[0]
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
	late    bool // the last one who left has not armed
	polled  bool // a caller has, since the poller has left arming to the minder
	turned  bool // a caller did not get in, or rests, and nobody has armed or polled since
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
}

// kernel is how arming may behave: an event may be kept once it has happened,
// or be asked for anew when the poller gets to it (as epoll and wire do).
type kernel struct{ askAnew bool }

func (s *protocol) arm() {
	s.armed, s.turned, s.late = true, false, false
	if s.ring > 0 {
		s.armed, s.ready = false, true
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
	if s.ring == 0 || s.at[poller] != pPark || s.wakes(k) || s.minding && s.at[minder] == cAsleep && !s.turned {
		return false
	}
	for _, at := range s.at[1:] {
		if at != cAsleep {
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
			to(pPark)
		} else {
			to(pTryAgain)
		}
	case pTryAgain:
		fail := pPark
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
			pick(f.armLate, pUnlock, pArm)
			if s.polled { // or it leaves that to the minder, once
				s.polled, s.minding, s.late = false, !f.noMinder, true
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
		pick(f.pollerNoLook, pPark, pMissed)
	case pMissed:
		pick(s.missed, pTryMissed, pPark)
	case pTryMissed:
		pick(s.lock(i), pClear, pPark)
	case pClear:
		s.missed = false
		if s.ring > 0 && !f.noPollAgain {
			s.ring--
			to(pClear)
		} else {
			s.arm()
			to(pLeave)
		}
	case pPark:
		if s.wakes(k) {
			s.ready = false
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
		if t := s; !t.lock(i) {
			to(cAsleep) // it was in passing
		} else if !t.minding {
			t.at[i] = cPass
			out = append(out, t)
		}
		if f.disarmUnlocked {
			s.armed = false
		}
		if s.lock(i) {
			return append(out, s.in(i, f)...)
		} else {
			to(cMiss)
		}
	case cMiss:
		s.missed = s.missed || !f.callerNoMissed
		to(cTryOnce)
	case cTryOnce:
		if s.lock(i) {
			return s.in(i, f)
		} else {
			to(cSure)
		}
	case cSure:
		if s.missed || f.callerNoMissed || f.callerOnce {
			s.turned = true
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
		s.arm()
		pick(f.armLate, cAsleep, cUnlock)
	case cUnlock:
		s.unlock(i)
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
		rest := cAsleep
		if f.armLate {
			rest = cArm
		}
		pick(was, cTryAgain, rest)
	case cTryAgain:
		pick(s.lock(i), cClear, cAsleep)
	case cClear:
		s.missed = false
		if s.ring > 0 && !f.noPollAgain {
			s.ring--
			to(cClear)
		} else {
			pick(f.noArmAgain, cUnlock, cArm)
		}
	}
	return out
}

// in returns what a caller that has the lock may do: poll, or rest.
func (s protocol) in(i int, f flaw) []protocol {
	spins, rests := s, s
	spins.at[i] = cDisarm
	rests.polled, rests.turned = s.polled && f.restPolled, true
	rests.at[i] = cUnlock
	if s.late && !f.restNoArm {
		rests.at[i] = cArm
	}
	return []protocol{spins, rests}
}

// asleep is the state to begin with, and how many packets will come.
func asleep(packets int) protocol {
	s := protocol{holder: free, coming: uint8(packets)}
	for i := 1; i < actors; i++ {
		s.at[i], s.rounds[i] = cAsleep, 1
	}
	s.rounds[minder] = 0
	return s
}

// arrive puts a packet into the ring.
func (s protocol) arrive() protocol {
	s.coming--
	s.ring++
	if s.armed {
		s.armed, s.ready = false, true
	}
	return s
}

// walk visits every reachable state. It returns how many there are and the way
// to a stranded one, empty if there is none.
func walk(f flaw, k kernel) (states int, way []string) {
	type step struct {
		from  protocol
		actor int8 // -1 is the source of packets
	}
	packets := 2
	if raceEnabled {
		packets = 1 // it takes ten times as long, and one goroutine races with none
	}
	start := asleep(packets)
	came := map[protocol]step{start: {}}
	queue := []protocol{start}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if s.stranded(k) {
			for s != start {
				c := came[s]
				if s = c.from; c.actor < 0 {
					way = append(way, "a packet arrives")
				} else {
					way = append(way, fmt.Sprintf("actor %d: %s", c.actor, placeNames[s.at[c.actor]]))
				}
			}
			return len(came), way
		}
		visit := func(t protocol, actor int8) {
			if _, seen := came[t]; !seen {
				came[t] = step{s, actor}
				queue = append(queue, t)
			}
		}
		for i := range actors {
			for _, t := range s.next(i, f, k) {
				visit(t, int8(i))
			}
		}
		if s.coming > 0 {
			visit(s.arrive(), -1)
		}
	}
	return len(came), nil
}

// TestPollProtocol finds no state in which a packet is left to nobody, whatever
// the order of steps.
func TestPollProtocol(t *testing.T) {
	for _, k := range []kernel{{false}, {true}} {
		n, way := walk(flaw{}, k)
		if way != nil {
			t.Errorf("%+v: stranded after (last step first)\n%s", k, strings.Join(way, "\n"))
		}
		if n < 10000 {
			t.Errorf("%+v: only %d states", k, n)
		}
	}
}

// TestPollProtocolFlaws shows that the checker finds what the protocol is for.
func TestPollProtocolFlaws(t *testing.T) {
	for name, f := range map[string]flaw{
		"the poller does not set missed":        {noMissed: true},
		"callers do not look at missed":         {noLook: true},
		"no second try after missed":            {noTryAgain: true},
		"missed after the last try":             {missedLate: true},
		"arm after unlock":                      {armLate: true},
		"callers do not arm":                    {noArm: true},
		"callers do not arm for missed":         {noArmAgain: true},
		"Audit unlocks without looking at that": {auditNoLook: true},
		"missed is cleared without the lock":    {clearFirst: true},
		"disarm without the lock":               {disarmUnlocked: true},
		"late without a minder":                 {noMinder: true},
		"the minder does not arm":               {minderNoArm: true},
		"the minder stops too late":             {minderLate: true},
		"the minder does not look at missed":    {minderNoLook: true},
		"callers do not set missed":             {callerNoMissed: true},
		"callers set missed once":               {callerOnce: true},
		"the poller does not look at missed":    {pollerNoLook: true},
		"callers rest and do not arm":           {restNoArm: true},
		"callers rest and count as polling":     {restPolled: true},
		"nor who comes in passing":              {passerNoLook: true},
	} {
		if f.restPolled && raceEnabled {
			continue // it takes two packets, see walk
		}
		found := false
		for _, k := range []kernel{{false}, {true}} {
			_, way := walk(f, k)
			found = found || way != nil
		}
		if !found {
			t.Errorf("%s: not found", name)
		}
	}
}
