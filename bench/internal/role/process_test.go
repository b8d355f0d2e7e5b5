package role

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/afxnet/afxnet/bench/internal/control"
)

// nowhere takes what is written to it.
type nowhere struct{ io.Writer }

func (nowhere) Close() error { return nil }

// TestHung calls a process that does not answer, and has not seen that its input has
// ended: it is killed a while after the context is done, and the call ends with it.
func TestHung(t *testing.T) {
	r, w := io.Pipe()
	c := control.NewConn(pipes{r, nowhere{io.Discard}, time.Millisecond, w.Close}, "hung")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if err := c.Call(ctx, "run", nil, nil); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("got %v", err)
	}
}

// TestHungWithin does the same with a process that nobody tells to end.
func TestHungWithin(t *testing.T) {
	r, w := io.Pipe()
	p := &Process{Conn: control.NewConn(pipes{r, nowhere{io.Discard}, time.Millisecond, w.Close}, "hung")}
	if err := p.CallWithin(t.Context(), time.Millisecond, "usage", nil, nil); err == nil || !strings.Contains(err.Error(), "hung: usage: no answer within 1ms") {
		t.Errorf("got %v", err)
	}
}
