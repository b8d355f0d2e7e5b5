package role

import (
	"context"
	"io"
	"time"

	"github.com/afxnet/afxnet/bench/internal/control"
	"github.com/afxnet/afxnet/bench/internal/inmemory"
)

// WireRequest asks for one run of two stacks that are joined in memory. The reply
// is an inmemory.Result.
type WireRequest struct {
	Kind, Load string
	Duration   time.Duration
}

// serveWire runs stacks without a kernel, in a process of their own since their
// CPU time is the process's.
func serveWire(ctx context.Context, r io.Reader, w io.Writer) error {
	return control.Serve(ctx, r, w, map[string]control.Handler{
		"run": control.Handle(func(ctx context.Context, q WireRequest) (any, error) {
			return inmemory.Run(ctx, q.Kind, q.Load, 0, q.Duration)
		}),
	})
}
