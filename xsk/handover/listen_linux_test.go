package handover

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// leaveStale makes a socket as a helper leaves it that was killed.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

// TestListenRace starts helpers that all find a stale socket: one gets it, and is who
// is connected to. Nothing else is left beside it.
func TestListenRace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	for range 50 {
		leaveStale(t, path)
		var all sync.WaitGroup
		got := make(chan *net.UnixListener, 8)
		for range cap(got) {
			all.Go(func() {
				l, err := Listen(path, 0o600)
				if err == nil {
					got <- l
				} else if !errors.Is(err, unix.EADDRINUSE) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(got) != 1 {
			t.Fatalf("%d helpers listen, want one", len(got))
		}
		l := <-got
		if c, err := seqpacket.Dial(path, patience); err != nil {
			t.Error(err)
		} else {
			c.Close()
		}
		l.Close()
		if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
			t.Fatalf("%v are left, %v", left, err)
		}
	}
}

// TestReplaced ends a helper whose socket somebody has removed, and another helper made
// anew: that one goes on.
func TestReplaced(t *testing.T) {
	path, end := serve(t, nil)
	served(t, dial(t, path)) // it has begun
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	end()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- hereServer(t, nil).serve(ctx, l) }()
	served(t, dial(t, path))
	cancel()
	ends(t, func() error { return <-done })
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its socket afterwards: %v", err)
	}
}

// TestListenLocked has a lock that is not let go of, and one that a helper has left
// that was killed.
func TestListenLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f, err := os.Create(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	unlock, err := lock(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if l, err := Listen(path, 0o600); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("%v, %v", l, err)
	}
}
