package handover

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// serveHere runs a helper in this process, on an interface that does not exist:
// what these tests send does not get so far.
func serveHere(t *testing.T, change func(*server)) (path string) {
	t.Helper()
	path, _ = serve(t, change)
	return path
}

// hereServer is that helper.
func hereServer(t *testing.T, change func(*server)) *server {
	t.Helper()
	cfg, err := ServerConfig{Interface: "nonesuch0", Users: []uint32{uint32(os.Getuid())}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log = func(line string) { t.Log(line) }
	s := newServer(cfg)
	if change != nil {
		change(s)
	}
	return s
}

// serve is serveHere until end is called, or the test is over.
func serve(t *testing.T, change func(*server)) (path string, end func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s := hereServer(t, change)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, l) }()
	end = sync.OnceFunc(func() {
		cancel()
		ends(t, func() error { return <-done })
	})
	t.Cleanup(end)
	return path, end
}

func dial(t *testing.T, path string) *seqpacket.Conn {
	t.Helper()
	c, err := seqpacket.Dial(path, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// served wants an answer on a connection.
func served(t *testing.T, c *seqpacket.Conn) {
	t.Helper()
	if err := c.Send([]byte(`{"op":"counters"}`), patience); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Receive(patience); err != nil {
		t.Fatalf("others are not served: %v", err)
	}
}

// ends wants a function to return.
func ends(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Serve does not end")
	}
}
