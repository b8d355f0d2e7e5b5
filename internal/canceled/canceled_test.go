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
