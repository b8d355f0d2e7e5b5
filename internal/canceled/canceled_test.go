package canceled_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/canceled"
)

// TestErr finds why a context has ended, and that it was canceled or ran out of time.
func TestErr(t *testing.T) {
	if err := canceled.Err(t.Context()); err != nil {
		t.Errorf("while it lasts: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := canceled.Err(ctx); err != context.Canceled {
		t.Errorf("without a cause: %v", err)
	}
	because, cancelBecause := context.WithCancelCause(t.Context())
	cancelBecause(io.ErrUnexpectedEOF)
	late, cancelLate := context.WithDeadlineCause(t.Context(), time.Unix(1, 0), io.ErrUnexpectedEOF)
	defer cancelLate()
	for ctx, want := range map[context.Context]error{because: context.Canceled, late: context.DeadlineExceeded} {
		if err := canceled.Err(ctx); !errors.Is(err, want) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v, want %v and %v", err, want, io.ErrUnexpectedEOF)
		}
	}
}

// endsBetween is a context that ends after it was asked whether it has.
type endsBetween struct {
	context.Context
	end context.CancelCauseFunc
}

func (c endsBetween) Err() error {
	err := c.Context.Err()
	c.end(io.ErrUnexpectedEOF)
	return err
}

// TestErrMeanwhile has the context end in the middle: it has not ended, or for both reasons.
func TestErrMeanwhile(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	if err := canceled.Err(endsBetween{ctx, end}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not wrap %v", err, context.Canceled)
	}
}
