package role

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/bench/internal/control"
	"github.com/afxnet/afxnet/bench/internal/load"
)

// TestAgent drives an agent over TCP, as a bench on another machine does.
func TestAgent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Agent(ctx, "127.0.0.1:0", w); w.Close() }()
	line := make([]byte, 256)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, r) //nolint:errcheck // until the agent ends
	at := strings.TrimSpace(strings.TrimPrefix(string(line[:n]), "agent listens on "))
	for range 2 { // one conductor after the other
		drive(t, at)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func drive(t *testing.T, at string) {
	t.Helper()
	nc, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	c := control.NewConn(nc, "agent")
	defer c.Close()
	var h Hello
	if err := c.Call(t.Context(), "hello", nil, &h); err != nil || h.PID == 0 || h.GOMAXPROCS == 0 || h.Check() != nil {
		t.Errorf("got %+v, %v", h, err)
	}
	if err := (Hello{Protocol: h.Protocol + 1}).Check(); err == nil {
		t.Error("another protocol is taken for this one")
	}
	for _, method := range []string{"run", "ready"} {
		if err := c.Call(t.Context(), method, nil, nil); err == nil || !strings.Contains(err.Error(), errNotPrepared.Error()) {
			t.Errorf("%s: got %v", method, err)
		}
	}
	if err := c.Call(t.Context(), "link", LinkRequest{}, nil); err != nil {
		t.Error(err)
	}
	idle := load.Spec{Kind: load.Idle, Network: "tcp", Duration: 1}
	if err := c.Call(t.Context(), "prepare", idle, nil); err != nil {
		t.Fatal(err)
	}
	var res load.Result
	if err := c.Call(t.Context(), "run", idle, &res); err != nil || res.Ops != 1 {
		t.Errorf("got %+v, %v", res, err)
	}
	if err := c.Call(t.Context(), "finish", nil, nil); err != nil {
		t.Error(err)
	}
}
