package lab

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
)

// threadNetNS returns the namespace of the calling thread.
func threadNetNS(t *testing.T) string {
	t.Helper()
	target, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Error(err)
	}
	return target
}

func TestDoEnters(t *testing.T) {
	l := New(t, Config{})
	own := threadNetNS(t)
	seen := map[string]bool{own: true}
	for _, n := range []*Namespace{l.Host, l.Peer} {
		err := n.Do(func() error {
			ns := threadNetNS(t)
			if seen[ns] {
				t.Errorf("%s: namespace %s is not its own", n.Device, ns)
			}
			seen[ns] = true
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestDoRestores checks every thread of the process, after calls that end in
// each of the possible ways and in parallel.
func TestDoRestores(t *testing.T) {
	l := New(t, Config{})
	own := threadNetNS(t)
	before := threadsOutside(t, own)
	errTest := errors.New("test")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := l.Host.Do(func() error { runtime.Gosched(); return errTest }); err != errTest {
					t.Errorf("got %v, want %v", err, errTest)
				}
				func() {
					defer func() { recover() }()
					l.Peer.Do(func() error { panic("boom") })
				}()
				outcome(func(tb testing.TB) {
					l.Host.Do(func() error { tb.Fatalf("stop"); return nil })
				})
				err := l.Host.Do(func() error {
					host := threadNetNS(t)
					err := l.Peer.Do(func() error { return nil })
					if threadNetNS(t) != host {
						t.Error("a nested Do moved the outer one")
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for thread, ns := range threadsOutside(t, own) {
		if _, ok := before[thread]; !ok {
			t.Errorf("thread %s is left in %s, want %s", thread, ns, own)
		}
	}
}

// threadsOutside returns the threads of the process that are in another
// namespace. One can be there for good: the runtime cannot end the main
// thread, so it parks it if TestDoUnrestorable ran on it.
func threadsOutside(t *testing.T, own string) map[string]string {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	outside := make(map[string]string)
	for _, task := range tasks {
		ns, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net")
		if err == nil && ns != own {
			outside[task.Name()] = ns
		}
	}
	return outside
}

// TestDoUnrestorable takes the way back from a thread: it must not be used
// again.
func TestDoUnrestorable(t *testing.T) {
	l := New(t, Config{})
	own := threadNetNS(t)
	for range 20 {
		err := l.Host.Do(func() error { return replaceDescriptors(own) })
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if ns := threadNetNS(t); ns != own {
					t.Errorf("a goroutine runs in %s, want %s", ns, own)
				}
			})
		}
		wg.Wait()
	}
}

// replaceDescriptors puts /dev/null in place of every descriptor of a
// namespace, among them the one that Do goes back by.
func replaceDescriptors(ns string) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	found := false
	open, err := descriptors.Read(os.Getpid())
	if err != nil {
		return err
	}
	for fd, target := range open {
		if target != ns {
			continue
		}
		if err := unix.Dup3(int(null.Fd()), fd, unix.O_CLOEXEC); err != nil {
			return err
		}
		found = true
	}
	if !found {
		return errors.New("no descriptor of " + ns)
	}
	return nil
}

func TestDoCarriesPanic(t *testing.T) {
	l := New(t, Config{})
	defer func() {
		err, ok := recover().(error)
		if !ok || !errors.Is(err, unix.EBADMSG) || !strings.Contains(err.Error(), "TestDoCarriesPanic") {
			t.Errorf("got %v, want the panic's value and stack", err)
		}
	}()
	l.Host.Do(func() error { panic(unix.EBADMSG) })
	t.Error("Do returned")
}

func TestDoCarriesGoexit(t *testing.T) {
	l := New(t, Config{})
	got := outcome(func(tb testing.TB) {
		l.Host.Do(func() error { tb.Skipf("inside"); return nil })
		tb.Fatalf("Do returned")
	})
	if got != "skip: inside" {
		t.Errorf("got %q", got)
	}
}
