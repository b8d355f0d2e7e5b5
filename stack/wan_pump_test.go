package stack

import (
	"testing"
	"testing/synctest"
)

// A pump makes netstack run inside a testing/synctest bubble. Its TCP
// processors sleep in a way of their own (gVisor pkg/sleep parks the goroutine
// itself), which the bubble takes for running: its clock would stand still for
// ever. Netstack can pause its processors, though, and a paused one waits for a
// channel, as it should be. So they are paused all the time, and let run when
// a frame has arrived, until nothing is left for them to do: at any moment of
// virtual time everything happens that can, and then the clock goes on.
type pump struct {
	ow   *overWire
	work chan struct{} // 1 slot
	quit chan struct{}
	done chan struct{}
	tap  func() error
}

// Write implements io.Writer for the wire's tap: a frame arrives.
func (p *pump) Write(b []byte) (int, error) {
	select {
	case p.work <- struct{}{}:
	default:
	}
	return len(b), nil
}

func startPump(t testing.TB, ow *overWire) *pump {
	t.Helper()
	p := &pump{ow: ow, work: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	var err error
	if p.tap, err = ow.w.Tap(p); err != nil {
		t.Fatal(err)
	}
	p.pause()
	go p.run()
	return p
}

func (p *pump) run() {
	defer close(p.done)
	for {
		select {
		case <-p.work:
			p.settle()
		case <-p.quit:
			p.resume()
			return
		}
	}
}

// stop lets the processors run for good, so that they can end.
func (p *pump) stop() {
	p.tap() //nolint:errcheck // Write has no error
	close(p.quit)
	<-p.done
}

func (p *pump) pause() {
	for _, s := range p.ow.s {
		if s != nil {
			s.ns.Pause()
		}
	}
}

func (p *pump) resume() {
	for _, s := range p.ow.s {
		if s != nil {
			s.ns.Resume()
		}
	}
}

// quietRounds is how many rounds in a row must bring no new segment. A
// processor passes over an endpoint that an application holds, which then queues
// it again, perhaps after the round: hence more than one.
const quietRounds = 3

func (p *pump) settle() {
	last := p.segments()
	for quiet := 0; quiet < quietRounds; quiet++ {
		synctest.Wait()
		p.resume()
		p.pause()
		synctest.Wait()
		if now := p.segments(); now != last {
			last, quiet = now, -1
		}
	}
}

func (p *pump) segments() (n uint64) {
	for _, s := range p.ow.s {
		if s != nil {
			n += s.ns.Stats().TCP.ValidSegmentsReceived.Value()
		}
	}
	return n
}
