package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// dial returns the caller's end of a served connection.
func dial(t *testing.T, methods map[string]Handler) *Conn {
	t.Helper()
	a, b := net.Pipe()
	served := make(chan error, 1)
	go func() {
		err := Serve(t.Context(), b, b, methods)
		b.Close()
		served <- err
	}()
	c := NewConn(a, "test")
	t.Cleanup(func() {
		c.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return c
}

func TestCall(t *testing.T) {
	c := dial(t, map[string]Handler{
		"double": Handle(func(_ context.Context, n int) (any, error) { return 2 * n, nil }),
		"fail":   func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("on purpose") },
		"cannot": func(context.Context, json.RawMessage) (any, error) { return nil, syscall.EOPNOTSUPP },
	})
	for n := range 3 {
		var got int
		if err := c.Call(t.Context(), "double", n, &got); err != nil || got != 2*n {
			t.Errorf("double %d: got %d, %v", n, got, err)
		}
		if err := c.Call(t.Context(), "fail", nil, nil); err == nil || err.Error() != "test: fail: on purpose" {
			t.Errorf("fail: got %v", err)
		} else if errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("fail: %v is taken for what cannot be done", err)
		}
		err := c.Call(t.Context(), "cannot", nil, nil)
		if want := "test: cannot: " + syscall.EOPNOTSUPP.Error(); !errors.Is(err, errors.ErrUnsupported) || err.Error() != want {
			t.Errorf("cannot: got %v, want %s", err, want)
		}
	}
	if err := c.Call(t.Context(), "nothing", nil, nil); err == nil || !strings.Contains(err.Error(), `no method "nothing"`) {
		t.Errorf("got %v", err)
	}
	if err := c.Call(t.Context(), "double", "text", nil); err == nil {
		t.Error("an argument of the wrong type is no error")
	}
}

// TestCallCanceled ends a call whose answer does not come.
func TestCallCanceled(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	a, b := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		// The reply has nobody to go to: that is Serve's error.
		_ = Serve(t.Context(), b, b, map[string]Handler{"hang": func(context.Context, json.RawMessage) (any, error) {
			close(entered)
			<-release
			return nil, nil
		}})
	}()
	c := NewConn(a, "test")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-entered
		cancel(errors.New("enough"))
	}()
	if err := c.Call(ctx, "hang", nil, nil); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("got %v, want the cause", err)
	}
	close(release)
	<-served
	if err := c.Call(t.Context(), "hang", nil, nil); err == nil {
		t.Error("a call after that is no error")
	}
}

func TestCallEnded(t *testing.T) {
	a, b := net.Pipe()
	go func() {
		buf := make([]byte, 1024)
		b.Read(buf) //nolint:errcheck // the call arrives
		b.Close()
	}()
	if err := NewConn(a, "test").Call(t.Context(), "x", nil, nil); err == nil || !strings.Contains(err.Error(), "the process ended") {
		t.Errorf("got %v", err)
	}
}

// TestCallAfterEnd writes to a process that is gone already.
func TestCallAfterEnd(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	c := NewConn(struct {
		io.Reader
		io.WriteCloser
	}{strings.NewReader(""), w}, "test")
	defer c.Close()
	if err := c.Call(t.Context(), "x", nil, nil); err == nil || err.Error() != "test: x: the process ended" {
		t.Errorf("got %v", err)
	}
}
