package hostif_test

import (
	"sync"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

const testTimeout = 20 * time.Second

// watch starts a watch of the lab's AF_XDP side.
func watch(t *testing.T, l *lab.Lab) (next func(want hostif.Change) hostif.State, stop func()) {
	t.Helper()
	events := make(chan hostif.Event, 1000)
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	err = l.Host.Do(func() error {
		stop, err = hostif.Watch(ifc.Index, func(e hostif.Event) { events <- e })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	// next waits for an event that has all of the wanted changes.
	next = func(want hostif.Change) hostif.State {
		t.Helper()
		for timeout := time.After(testTimeout); ; {
			select {
			case e := <-events:
				if e.Change.Has(want) {
					return e.State
				}
				if e.Err != nil {
					t.Fatal(e.Err)
				}
			case <-timeout:
				t.Fatalf("no event %v", want)
			}
		}
	}
	return next, stop
}

func TestWatch(t *testing.T) {
	l := lab.New(t, lab.Config{})
	next, stop := watch(t, l)
	expect := func(err error, change hostif.Change, want hostif.State) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if got := next(change); got != want {
			t.Errorf("%v: got %+v, want %+v", change, got, want)
		}
	}
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	running := hostif.State{Present: true, Up: true, Running: true, MTU: 1500, MAC: string(ifc.MAC)}
	expect(nil, hostif.ChangeFirst|hostif.ChangeUp|hostif.ChangeRunning, running)
	running.MTU = 2000
	expect(l.SetMTU(2000), hostif.ChangeMTU, running)
	running.MAC = "\x02\x00\x00\x00\x00\x99"
	expect(l.SetMAC([]byte(running.MAC)), hostif.ChangeMAC, running)
	noCarrier := running
	noCarrier.Running = false
	expect(l.SetCarrier(false), hostif.ChangeNotRunning, noCarrier)
	expect(l.SetCarrier(true), hostif.ChangeRunning, running)
	if err := l.SetDown(); err != nil {
		t.Fatal(err)
	}
	if got := next(hostif.ChangeDown); got.Up {
		t.Errorf("down: got %+v", got)
	}
	if err := l.SetUp(); err != nil {
		t.Fatal(err)
	}
	next(hostif.ChangeRunning)
	expect(l.Delete(), hostif.ChangeGone, hostif.State{})
	stop()
}

// TestWatchMoved moves the interface to the peer's namespace.
func TestWatchMoved(t *testing.T) {
	l := lab.New(t, lab.Config{})
	next, _ := watch(t, l)
	next(hostif.ChangeFirst)
	if err := l.Move(); err != nil {
		t.Fatal(err)
	}
	if got := next(hostif.ChangeGone); got != (hostif.State{Moved: true}) {
		t.Errorf("got %+v, want moved", got)
	}
}

// TestWatchStart checks what a watch says of an interface that went down, or
// away, before it began.
func TestWatchStart(t *testing.T) {
	l := lab.New(t, lab.Config{})
	if err := l.SetDown(); err != nil {
		t.Fatal(err)
	}
	next, _ := watch(t, l)
	next(hostif.ChangeFirst | hostif.ChangeDown)

	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Delete(); err != nil {
		t.Fatal(err)
	}
	next(hostif.ChangeGone)
	gone := make(chan hostif.Event, 1)
	var stop func()
	err = l.Host.Do(func() error {
		stop, err = hostif.Watch(ifc.Index, func(e hostif.Event) { gone <- e })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	select {
	case e := <-gone:
		if e.Change != hostif.ChangeGone {
			t.Errorf("got %v, want gone", e.Change)
		}
	case <-time.After(testTimeout):
		t.Error("no event")
	}
}

// TestWatchStop checks that stop can be called at any time, more than once
// and from several goroutines, and that no event comes after it.
func TestWatchStop(t *testing.T) {
	l := lab.New(t, lab.Config{})
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		var stopped bool // guarded by stop's promise; the race detector checks it
		var stop func()
		err := l.Host.Do(func() error {
			stop, err = hostif.Watch(ifc.Index, func(e hostif.Event) {
				if e.Err != nil {
					t.Error(e.Err)
				}
				if stopped {
					t.Error("event after stop")
				}
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(stop)
		}
		wg.Wait()
		stopped = true
	}
}

// TestWatchOverrun lets the kernel drop notifications: the last state is
// reported nevertheless.
func TestWatchOverrun(t *testing.T) {
	l := lab.New(t, lab.Config{})
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	const changes, lastMTU = 100, 3000
	first, resume := make(chan struct{}), make(chan struct{})
	last := make(chan int, 1)
	var (
		once     sync.Once
		stop     func()
		overruns func() int
		events   int
	)
	err = l.Host.Do(func() error {
		stop, overruns, err = hostif.WatchSmall(ifc.Index, func(e hostif.Event) {
			events++
			once.Do(func() { close(first) })
			<-resume
			if e.Err != nil {
				t.Error(e.Err)
			}
			if e.State.MTU == lastMTU {
				last <- events
			}
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	<-first
	for i := range changes {
		if err := l.SetMTU(2000 + i); err != nil {
			t.Error(err)
		}
	}
	if err := l.SetMTU(lastMTU); err != nil {
		t.Error(err)
	}
	close(resume)
	select {
	case events := <-last:
		if events >= changes {
			t.Errorf("%d events of %d: nothing was dropped", events, changes)
		}
	case <-time.After(testTimeout):
		t.Error("the last state was not reported")
	}
	stop()
	if overruns() == 0 {
		t.Error("the socket did not overrun")
	}
}
