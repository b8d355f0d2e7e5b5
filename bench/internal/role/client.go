package role

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"

	"github.com/afxnet/afxnet/bench/internal/control"
	"github.com/afxnet/afxnet/bench/internal/load"
	"github.com/afxnet/afxnet/bench/internal/measure"
	"github.com/afxnet/afxnet/bench/internal/offload"
)

// LinkRequest sets the client's end of the link. Without a Device there is
// nothing to set.
type LinkRequest struct {
	Device  string
	Profile offload.Profile
}

// client is the process with kernel sockets.
type client struct {
	session *load.Session
	undo    func() error
}

func serveClient(ctx context.Context, r io.Reader, w io.Writer) error {
	c := &client{undo: func() error { return nil }}
	err := control.Serve(ctx, r, w, map[string]control.Handler{
		"hello":   func(context.Context, json.RawMessage) (any, error) { return hello(), nil },
		"link":    control.Handle(c.link),
		"prepare": control.Handle(c.prepare),
		"ready":   control.Handle(c.ready),
		"run":     control.Handle(c.run),
		"finish":  control.Handle(func(context.Context, struct{}) (any, error) { c.finish(); return nil, nil }),
		"usage":   control.Handle(func(context.Context, UsageRequest) (any, error) { return measure.Self(""), nil }),
	})
	c.finish()
	return errors.Join(err, c.undo())
}

// protocol is the version of what a conductor and an agent say to each other. It grows
// with every change to the requests or replies of a client, and of what they carry.
const protocol = 1

// Hello is what a client says about itself.
type Hello struct {
	Protocol   int // another one than ours has other requests; 0 before there was any
	PID        int
	GOMAXPROCS int
	Host       string
}

// Check is an error if the client does not speak this conductor's protocol.
func (h Hello) Check() error {
	if h.Protocol == protocol {
		return nil
	}
	return fmt.Errorf("the client is of another version of the bench (protocol %d, here %d): build both from the same commit", h.Protocol, protocol)
}

func hello() Hello {
	h, _ := os.Hostname() // only shown
	return Hello{Protocol: protocol, PID: os.Getpid(), GOMAXPROCS: runtime.GOMAXPROCS(0), Host: h}
}

// link sets the profile, in place of the one before.
func (c *client) link(_ context.Context, req LinkRequest) (any, error) {
	if err := c.undo(); err != nil || req.Device == "" {
		return nil, err
	}
	undo, err := offload.Apply(req.Device, req.Profile)
	if err == nil {
		c.undo = undo
	}
	return nil, err
}

var errNotPrepared = errors.New("no session is prepared")

func (c *client) prepare(ctx context.Context, spec load.Spec) (any, error) {
	c.finish()
	s, err := load.Prepare(ctx, spec)
	c.session = s
	return nil, err
}

func (c *client) ready(ctx context.Context, _ struct{}) (any, error) {
	if c.session == nil {
		return nil, errNotPrepared
	}
	return nil, c.session.Ready(ctx)
}

func (c *client) run(ctx context.Context, spec load.Spec) (any, error) {
	if c.session == nil {
		return nil, errNotPrepared
	}
	return c.session.Run(ctx, spec)
}

func (c *client) finish() {
	if c.session != nil {
		c.session.Finish()
		c.session = nil
	}
}

// Agent serves as the client for conductors on other machines, one after the
// other, until ctx ends. Whoever reaches the address can make it send traffic:
// listen on the test network only.
func Agent(ctx context.Context, address string, log io.Writer) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("role: agent: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	fmt.Fprintf(log, "agent listens on %v\n", l.Addr())
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("role: agent: %w", err)
		}
		fmt.Fprintf(log, "agent: driven by %v\n", c.RemoteAddr())
		end := context.AfterFunc(ctx, func() { c.Close() })
		err = serveClient(ctx, c, c)
		end()
		c.Close()
		fmt.Fprintf(log, "agent: %v left (%v)\n", c.RemoteAddr(), err)
	}
}
