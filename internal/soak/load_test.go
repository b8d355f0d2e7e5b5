package main

import (
	"context"
	"errors"
	"net"
	"testing"
)

// TestBulkEnds has a connection that is dialed and does not arrive: the wait for it
// ends with the run.
func TestBulkEnds(t *testing.T) {
	g, err := newWire(options{queues: 1, mtu: 1500})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	g.peer.dial = func(context.Context, string, string) (net.Conn, error) {
		cancel()
		c, _ := net.Pipe()
		return c, nil
	}
	w := &load{ground: g}
	if err := w.bulkOnce(ctx, &pace{}, true, 0); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
