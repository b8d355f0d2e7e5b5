package alarm

import (
	"errors"
	"os"
	"testing"
	"time"
)

func newAlarm(t *testing.T) *Alarm {
	t.Helper()
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// TestWait has each Wait last as long as it is asked for, also after a time in which it
// would have gone off several times.
func TestWait(t *testing.T) {
	a := newAlarm(t)
	const d = 5 * time.Millisecond
	for i := range 4 {
		start := time.Now()
		if err := a.Wait(d); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < d {
			t.Errorf("Wait %d takes %v, want at least %v", i, took, d)
		}
		for busy := time.Now(); time.Since(busy) < time.Duration(i)*d; {
		}
	}
}

// TestClose ends a Wait, whether it has begun or not.
func TestClose(t *testing.T) {
	for range 50 {
		a := newAlarm(t)
		ended := make(chan error)
		go func() { ended <- a.Wait(time.Hour) }()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, os.ErrClosed) {
			t.Fatalf("%v, want os.ErrClosed", err)
		}
		if err := a.Wait(time.Nanosecond); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("Wait after Close: %v, want os.ErrClosed", err)
		}
	}
}
