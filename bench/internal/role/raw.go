package role

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/afxnet/afxnet/bench/internal/control"
	"github.com/afxnet/afxnet/bench/internal/raw"
)

// RawRequest asks for one loop on queue 0 of a device: ReceiveDrop, Transmit or
// Forward. The reply is a RawReply.
type RawRequest struct {
	Loop     string // "rx", "tx" or "forward"
	Compiled bool   // by the C program; not for forward
	Config   raw.Config
	Job      raw.Job
}

// RawReply says what a loop did, and what was opened for it. Of the C program it has
// only the first.
type RawReply struct {
	raw.Result
	OpenReply
}

// RawFrameRequest asks for a frame to send: from the device's own MAC and an
// address, to another MAC and address.
type RawFrameRequest struct {
	From net.HardwareAddr
	To   net.HardwareAddr
	Src  netip.AddrPort
	Dst  netip.AddrPort
	Size int // bytes, with the Ethernet header
}

// rawLoops is a process with AF_XDP sockets and no stack.
type rawLoops struct {
	dir       string // of the C program; "" before it is compiled
	reference *raw.Reference
}

func serveRaw(ctx context.Context, r io.Reader, w io.Writer) error {
	l := &rawLoops{}
	err := control.Serve(ctx, r, w, map[string]control.Handler{
		"run":     control.Handle(l.run),
		"compile": func(ctx context.Context, _ json.RawMessage) (any, error) { return nil, l.compile(ctx) },
		"frame": control.Handle(func(_ context.Context, q RawFrameRequest) (any, error) {
			return raw.UDPFrame(q.From, q.To, q.Src, q.Dst, q.Size)
		}),
	})
	if l.dir != "" {
		err = errors.Join(err, os.RemoveAll(l.dir))
	}
	return err
}

// rawGrace is how much longer than its duration a loop may take until the first
// packet comes.
const rawGrace = 5 * time.Second

func (l *rawLoops) run(ctx context.Context, q RawRequest) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, q.Job.Duration+rawGrace)
	defer cancel()
	if q.Compiled {
		return l.compiled(ctx, q)
	}
	p, err := patiently(func() (*raw.Port, error) { return raw.Open(q.Config) })
	if err != nil {
		return nil, err
	}
	res := RawReply{OpenReply: OpenReply{Info: p.Info(), GOMAXPROCS: runtime.GOMAXPROCS(0)}}
	switch q.Loop {
	case "rx":
		res.Result, err = p.ReceiveDrop(ctx, 0, q.Job)
	case "tx":
		res.Result, err = p.Transmit(ctx, 0, q.Job)
	case "forward":
		res.Result, err = p.Forward(ctx, 0, 0, q.Job)
	default:
		err = fmt.Errorf("no loop %q", q.Loop)
	}
	return res, errors.Join(err, p.Close())
}

// compile compiles the C program, once. It takes a while: do it before anything
// waits.
func (l *rawLoops) compile(ctx context.Context) (err error) {
	if l.reference != nil {
		return nil
	}
	if l.dir, err = os.MkdirTemp("", "bench-raw-"); err != nil {
		return err
	}
	l.reference, err = raw.Compile(ctx, l.dir)
	return err
}

// compiled does the same in C.
func (l *rawLoops) compiled(ctx context.Context, q RawRequest) (any, error) {
	if l.reference == nil {
		return nil, errors.New("the C program is not compiled")
	}
	run, err := patiently(func() (*raw.ReferenceRun, error) {
		return l.reference.Start(ctx, q.Config, 0, raw.Mode(q.Loop), q.Job)
	})
	if err != nil {
		return nil, err
	}
	res, err := run.Measure()
	if err != nil && ctx.Err() != nil {
		res, err = raw.Result{}, nil // as the loops have it: no packet came
	}
	return RawReply{Result: res}, errors.Join(err, run.Close())
}
