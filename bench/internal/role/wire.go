package role

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/afxnet/afxnet/bench/internal/control"
	"github.com/afxnet/afxnet/bench/internal/inmemory"
	"github.com/afxnet/afxnet/bench/internal/syscount"
)

// WireRequest asks for one run of two stacks that are joined in memory. The reply
// is a WireReply.
type WireRequest struct {
	Kind, Load string
	Duration   time.Duration
	Count      bool // system calls, which slows them down
}

// WireReply says what a run measured, and why its system calls were not counted if they
// should have been.
type WireReply struct {
	inmemory.Result
	Uncounted string
}

// serveWire runs stacks without a kernel, in a process of their own since their
// CPU time is the process's.
func serveWire(ctx context.Context, r io.Reader, w io.Writer) error {
	return control.Serve(ctx, r, w, map[string]control.Handler{"run": control.Handle(runWire)})
}

func runWire(ctx context.Context, q WireRequest) (any, error) {
	var rep WireReply
	var calls func() (uint64, error)
	if q.Count {
		if c, err := countSelf(); err != nil {
			rep.Uncounted = err.Error()
		} else {
			defer c.Close()
			calls = func() (uint64, error) { return c.Total(os.Getpid()) }
		}
	}
	var err error
	rep.Result, err = inmemory.Run(ctx, q.Kind, q.Load, 0, q.Duration, calls)
	return rep, err
}

// countSelf starts counting the system calls of this process.
func countSelf() (*syscount.Counter, error) {
	c, err := syscount.Open(os.Getpid())
	if err != nil {
		return nil, err
	}
	os.Getppid() // one that is counted
	n, err := c.Total(os.Getpid())
	if err == nil && n == 0 {
		err = errors.New("in this PID namespace processes have other numbers than for the kernel")
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
