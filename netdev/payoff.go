package netdev

// After restVain spins in a row that found nothing, callers rest, which is to
// sleep without a spin, as in block mode: restFirst of them until one tries
// again, and twice as many each time that was in vain too, up to restMost. A
// spin that found something ends it.
//
// A program in which the answer does not come while somebody spins, because a
// goroutine that the Go scheduler does not get to would have to ask for it, or
// because the peer takes longer than Config.Spin, so loses one Spin in restMost
// waits; one in which a few packets are late goes on spinning.
const (
	restVain  = 4
	restFirst = 8
	restMost  = 256
)

// A payoff is what a queue's callers have learnt about spinning: does it find
// packets, or only keep a processor from others? The zero value has learnt
// nothing. It belongs to the holder of the poll lock.
type payoff struct {
	vain int // spins in a row that found nothing, less than restVain
	rest int // callers that are to rest before the next spins
	last int // what rest was set to the last time, 0 since a spin found something
}

// resting tells whether the caller that asks is to rest.
func (p *payoff) resting() bool {
	if p.rest == 0 {
		return false
	}
	p.rest--
	return true
}

// spun notes whether a spin found anything.
func (p *payoff) spun(found bool) {
	if found {
		*p = payoff{}
		return
	}
	if p.vain++; p.vain < restVain {
		return
	}
	p.vain = restVain - 1 // the next one decides
	p.last = min(max(2*p.last, restFirst), restMost)
	p.rest = p.last
}
