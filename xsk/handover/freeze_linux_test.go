package handover

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// lingering is a TCP connection whose last close takes a minute: its peer does not
// read what is left, until the test is over.
func lingering(t *testing.T) (fd int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(p uintptr) { fd, err = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) })
	}
	for full := make([]byte, 1<<16); err == nil; {
		_, err = unix.SendmsgN(fd, full, nil, nil, unix.MSG_DONTWAIT)
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 60}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// giveLingering sends n messages, each with the last reference to such a connection,
// unless the helper has ended the one that it would come on.
func giveLingering(t *testing.T, n int, send func(fd int) error) {
	t.Helper()
	for range n {
		fd := lingering(t)
		if err := send(fd); err != nil {
			if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
				t.Fatal(err)
			}
			unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{}) //nolint:errcheck // the test takes longer
		}
		seqpacket.CloseAll([]int{fd}) //nolint:errcheck // it is of no use any more
	}
}

// giveInMessages is giveLingering on one connection to the helper.
func giveInMessages(t *testing.T, path string, n int) {
	t.Helper()
	c := dial(t, path)
	giveLingering(t, n, func(fd int) error { return c.Send([]byte(`{"op":"open"}`), patience, fd) })
}

// TestFreeze sends the helper descriptors that take a minute to close, where the
// kernel does not refuse them: others are served, and Serve ends.
func TestFreeze(t *testing.T) {
	for _, tc := range []struct {
		name    string
		hostile func(t *testing.T, path string)
	}{
		{"with a request", func(t *testing.T, path string) { giveInMessages(t, path, 1) }},
		{"with more that nobody reads", func(t *testing.T, path string) { giveInMessages(t, path, 3) }},
		{"with nothing", func(t *testing.T, path string) {
			raw, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			giveLingering(t, 1, func(fd int) error { return sendEmpty(raw, fd) })
		}},
		{"more than have a place", func(t *testing.T, path string) {
			for range 2 * maxConns {
				giveInMessages(t, path, 1)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			giving := make(chan bool, 1) // full until the helper has the last references
			path, end := serve(t, func(s *server) {
				s.end = 2 * patience
				s.dispose = func(c io.Closer) error {
					giving <- true
					<-giving
					return dispose(c)
				}
			})
			hostile := func() {
				giving <- true
				defer func() { <-giving }()
				tc.hostile(t, path)
			}
			early := dial(t, path)
			hostile()
			served(t, early)
			deadline := time.Now().Add(patience)
			for { // until there is a place again
				c := dial(t, path)
				err := c.Send([]byte(`{"op":"counters"}`), patience)
				if err == nil {
					_, _, err = c.Receive(patience)
				}
				c.Close()
				if err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("nobody gets through any more: %v", err)
				}
			}
			hostile()
			end()
		})
	}
}

// TestFreezeBacklog ends a helper that has not accepted those who have sent such.
func TestFreezeBacklog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		giveInMessages(t, path, 1)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := hereServer(t, func(s *server) { s.end = 2 * patience })
	ends(t, func() error { return s.serve(ctx, l) })
}

// TestStuck has closes that never return, as those of files in FUSE: who has sent
// these loses places, and nobody else does; Serve ends without them.
func TestStuck(t *testing.T) {
	stuck, release := make(chan struct{}, 3*maxConns), make(chan struct{})
	var workers *sync.WaitGroup
	path, end := serve(t, func(s *server) {
		workers = &s.workers
		s.end = 10 * time.Millisecond
		s.dispose = func(c io.Closer) error {
			stuck <- struct{}{}
			<-release
			return c.Close()
		}
	})
	early := dial(t, path)
	served(t, early) // and ends, as the request is refused
	<-stuck
	late := dial(t, path)
	for range maxConns - 2 {
		c := dial(t, path)
		if err := c.Send([]byte("no JSON"), patience); err != nil {
			t.Fatal(err)
		}
		<-stuck
	}
	for range maxConns {
		if _, _, err := dial(t, path).Receive(patience); !errors.Is(err, io.EOF) {
			t.Errorf("without a place: %v, want the end", err)
		}
	}
	served(t, late)
	end()
	close(release)
	ends(t, func() error { workers.Wait(); return nil })
}

// TestPlaces are those of each user, and those of all others.
func TestPlaces(t *testing.T) {
	s := newServer(ServerConfig{})
	for _, of := range []class{{true, 1}, {true, 2}, {}} {
		for range maxConns {
			if err := s.enter(&conn{of: of}); err != nil {
				t.Errorf("%v: %v", of, err)
			}
		}
		if err := s.enter(&conn{of: of}); !errors.Is(err, unix.EBUSY) {
			t.Errorf("%v, one more: %v", of, err)
		}
	}
}
