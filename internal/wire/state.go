package wire

import "slices"

// The bits of Port.flags.
const (
	isDown = 1 << iota // set down by SetDown
	isGone             // deleted
)

// watcher is one Watch. Wire.state guards it.
type watcher struct {
	f        func(up, gone bool)
	up, gone bool // last told
}

// down tells whether the port cannot send or receive.
func (p *Port) down() bool { return p.flags.Load() != 0 }

// peer returns the port at the other end.
func (p *Port) peer() *Port { return p.out.to }

// Up tells whether the link is up: this port, and the other one, without which
// there is no carrier.
func (p *Port) Up() bool { return !p.down() && !p.peer().down() }

// SetDown sets the interface down or up. While it is down, WakeTX says
// ENETDOWN and leaves the TX ring alone, and received frames are dropped; the
// other port has no carrier, so that its packets are completed and dropped with
// EBUSY. As in the kernel, nobody's Wait ends: that is what Watch is for.
func (p *Port) SetDown(down bool) { p.change(isDown, down) }

// Delete removes the interface for good: WakeTX says ENXIO. The sockets remain
// to be closed. Idempotent.
func (p *Port) Delete() { p.change(isGone, true) }

func (p *Port) change(bit uint32, on bool) {
	p.wire.state.Lock()
	defer p.wire.state.Unlock()
	if on {
		p.flags.Or(bit)
	} else {
		p.flags.And(^bit)
	}
	for _, p := range p.wire.ports {
		p.tellLocked()
	}
}

// tellLocked calls the watchers that have not heard of the present state.
func (p *Port) tellLocked() {
	up, gone := p.Up(), p.flags.Load()&isGone != 0
	for _, w := range p.watchers {
		if w.up != up || w.gone != gone {
			w.up, w.gone = up, gone
			w.f(up, gone)
		}
	}
}

// Watch calls f with the port's state now and after every change, one call at a
// time and none after stop has returned. f runs in the goroutine that makes the
// change and must not call SetDown, Delete, Watch, stop or Wire.Close, nor wait
// for one who does. stop is idempotent.
func (p *Port) Watch(f func(up, gone bool)) (stop func()) {
	p.wire.state.Lock()
	defer p.wire.state.Unlock()
	w := &watcher{f: f, up: p.Up(), gone: p.flags.Load()&isGone != 0}
	p.watchers = append(p.watchers, w)
	f(w.up, w.gone)
	return func() {
		p.wire.state.Lock()
		defer p.wire.state.Unlock()
		p.watchers = slices.DeleteFunc(p.watchers, func(x *watcher) bool { return x == w })
	}
}
