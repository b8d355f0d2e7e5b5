package sys

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// An inbox is an RX ring that has numbers only, and a socket that tells of each entry, in
// that order, as an AF_XDP socket does.
type inbox struct {
	t          *testing.T
	w          *Waiter
	peer       int
	prod, cons atomic.Uint32
	looks      atomic.Uint32 // at the ring
}

func newInbox(t *testing.T) *inbox {
	w, peer := newWaiter(t)
	t.Cleanup(func() { w.Close() })
	return &inbox{t: t, w: w, peer: peer}
}

func (b *inbox) waiting() uint32 {
	n := b.prod.Load() - b.cons.Load()
	b.looks.Add(1)
	return n
}

// put adds an entry. The socket may be full of what tells of earlier ones.
func (b *inbox) put() {
	b.prod.Add(1)
	if _, err := unix.Write(b.peer, []byte("x")); err != nil && err != unix.EAGAIN {
		b.t.Error(err)
	}
}

// take empties the ring and the socket, and returns how many entries there were.
func (b *inbox) take() (n uint32) {
	var buf [16]byte
	for {
		if _, err := unix.Read(b.w.sock, buf[:]); err != nil {
			break
		}
	}
	n = b.waiting()
	b.cons.Add(n)
	return n
}

// sleep arms and parks.
func (b *inbox) sleep() error {
	if err := b.w.Arm(false); err != nil {
		return err
	}
	return b.w.ParkInput(b.waiting)
}

// TestParkInputKeeps has entries come one by one, each while somebody sleeps: the socket
// stays armed. Then several come at once, or while nobody sleeps: it does not.
func TestParkInputKeeps(t *testing.T) {
	b := newInbox(t)
	one := func() bool {
		t.Helper()
		slept, before := make(chan error, 1), b.looks.Load()
		go func() { slept <- b.sleep() }()
		for b.looks.Load() == before {
			runtime.Gosched()
		}
		b.put()
		if err := result(t, slept); err != nil {
			t.Fatal(err)
		}
		if n := b.take(); n != 1 {
			t.Fatalf("%d entries, want 1", n)
		}
		return b.w.kept
	}
	for i := range 3 * keepAfter {
		if kept := one(); kept != (i+1 >= keepAfter) {
			t.Errorf("armed after %d sleeps: %v", i+1, kept)
		}
	}
	b.put() // nobody sleeps
	if err := b.sleep(); err != nil {
		t.Fatal(err)
	}
	if b.take(); b.w.kept {
		t.Error("still armed after an entry that came meanwhile")
	}
	for range 2 * keepAfter {
		one()
	}
	b.w.Interrupt()
	if err := b.sleep(); err != nil {
		t.Fatal(err)
	}
	if !one() {
		t.Error("an Interrupt has disarmed the socket")
	}
}

// TestParkInputLosesNothing has entries, interrupts, and others who arm, come at any
// moment: who sleeps gets all entries, and each Interrupt ends a sleep.
func TestParkInputLosesNothing(t *testing.T) {
	const entries = 20000
	b := newInbox(t)
	done, taken := make(chan error, 1), make(chan uint32, entries)
	go func() {
		for got := uint32(0); got < entries; {
			if err := b.sleep(); err != nil {
				done <- err
				return
			}
			got += b.take()
			taken <- got
		}
		done <- nil
	}()
	arms := make(chan struct{}, 1)
	defer close(arms)
	go func() { // the minder, or a caller who goes
		for range arms {
			b.w.Arm(false) //nolint:errcheck // Close ends it
		}
	}()
	go func() {
		r := rand.New(rand.NewPCG(1, 2))
		for i := range uint32(entries) {
			b.put()
			switch r.IntN(8) {
			case 0: // several at once
			case 1:
				b.w.Interrupt()
			case 2:
				select {
				case arms <- struct{}{}:
				default:
				}
				fallthrough
			default: // one by one
				for got := uint32(0); got <= i; {
					select {
					case got = <-taken:
					case <-t.Context().Done():
						return
					}
				}
				for range r.IntN(20) {
					runtime.Gosched()
				}
			}
		}
	}()
	if err := result(t, done); err != nil {
		t.Error(err)
	}
	// Each Interrupt is seen, whenever it comes.
	for range 1000 {
		slept := make(chan error, 1)
		go func() { slept <- b.sleep() }()
		b.w.Interrupt()
		if err := result(t, slept); err != nil {
			t.Fatal(err)
		}
		b.take()
	}
}
