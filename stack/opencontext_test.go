package stack

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/afxnet/afxnet/internal/raced"
)

// TestOpenContextChecks ends a context while nobody answers the check for duplicate
// addresses, and before: the check fails. With one that lasts it does not.
func TestOpenContextChecks(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		ow := newOverWire(t, overWireOptions{bubble: true})
		s := ow.s[0]
		ctx, cancel := context.WithTimeoutCause(t.Context(), duplicateWait/2, io.ErrUnexpectedEOF)
		defer cancel()
		for range 2 {
			err := s.checkDuplicates(ctx)
			if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, want %v", err, io.ErrUnexpectedEOF)
			}
		}
		if err := s.checkDuplicates(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestOpenContextEnded opens with a context that has ended, where nothing would wait.
func TestOpenContextEnded(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrUnexpectedEOF)
	cfg := testConfig(addrA)
	cfg.Interface = "nope0"
	s, err := OpenContext(ctx, cfg)
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, io.ErrUnexpectedEOF)
	}
}
