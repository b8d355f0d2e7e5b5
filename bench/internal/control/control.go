// Package control is how the conductor talks to the processes it drives: one
// JSON object a line each way, a request and its reply, over a pipe or TCP.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// request is one call: the name of a method and its argument.
type request struct {
	Do  string          `json:"do"`
	Arg json.RawMessage `json:"arg,omitempty"`
}

// reply is the answer: an error, or a value.
type reply struct {
	Error       string          `json:"error,omitempty"`
	Unsupported bool            `json:"unsupported,omitempty"` // errors.ErrUnsupported is in the error
	Value       json.RawMessage `json:"value,omitempty"`
}

// unsupported is the text of an error that errors.ErrUnsupported was in.
type unsupported string

func (e unsupported) Error() string      { return string(e) }
func (unsupported) Is(target error) bool { return target == errors.ErrUnsupported }

// Conn is the caller's end. One call is under way at a time; others wait.
type Conn struct {
	who string // in errors
	mu  sync.Mutex
	rw  io.ReadWriteCloser
	in  *json.Decoder
	out *json.Encoder
}

// NewConn returns the caller's end of rw. who names the other end in errors.
func NewConn(rw io.ReadWriteCloser, who string) *Conn {
	return &Conn{who: who, rw: rw, in: json.NewDecoder(rw), out: json.NewEncoder(rw)}
}

// Close closes the connection, upon which the other end ends. A connection that a
// context has closed is no error.
func (c *Conn) Close() error {
	if err := c.rw.Close(); !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// Call asks for a method with an argument, which may be nil, and decodes the
// answer into value, unless that is nil. When ctx ends the connection is closed:
// the call under way has no answer then, and later ones fail. Of an error of the other
// end there is the text, and errors.Is finds errors.ErrUnsupported in it if it was there.
func (c *Conn) Call(ctx context.Context, method string, arg, value any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.call(ctx, method, arg, value); err != nil {
		return fmt.Errorf("%s: %s: %w", c.who, method, err)
	}
	return nil
}

func (c *Conn) call(ctx context.Context, method string, arg, value any) error {
	req := request{Do: method}
	var err error
	if arg != nil {
		if req.Arg, err = json.Marshal(arg); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { c.rw.Close() })
	defer stop()
	var r reply
	if err = c.out.Encode(req); err == nil {
		err = c.in.Decode(&r)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE):
		return errors.New("the process ended")
	case err != nil:
		return err
	case r.Unsupported:
		return unsupported(r.Error)
	case r.Error != "":
		return errors.New(r.Error)
	case value != nil:
		return json.Unmarshal(r.Value, value)
	}
	return nil
}

// Handler answers the calls of one method.
type Handler func(ctx context.Context, arg json.RawMessage) (any, error)

// Handle makes a Handler of a function with a typed argument.
func Handle[A any](f func(context.Context, A) (any, error)) Handler {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var arg A
		if len(raw) != 0 {
			if err := json.Unmarshal(raw, &arg); err != nil {
				return nil, err
			}
		}
		return f(ctx, arg)
	}
}

// Serve answers calls from r on w, one after the other, until r ends, which is
// no error.
func Serve(ctx context.Context, r io.Reader, w io.Writer, methods map[string]Handler) error {
	in, out := json.NewDecoder(r), json.NewEncoder(w)
	for {
		var req request
		if err := in.Decode(&req); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("control: read a request: %w", err)
		}
		var rep reply
		if err := answer(ctx, methods, req, &rep); err != nil {
			rep = reply{Error: err.Error(), Unsupported: errors.Is(err, errors.ErrUnsupported)}
		}
		if err := out.Encode(rep); err != nil {
			return fmt.Errorf("control: write a reply: %w", err)
		}
	}
}

func answer(ctx context.Context, methods map[string]Handler, req request, rep *reply) error {
	h, ok := methods[req.Do]
	if !ok {
		return fmt.Errorf("no method %q", req.Do)
	}
	v, err := h(ctx, req.Arg)
	if err != nil {
		return err
	}
	rep.Value, err = json.Marshal(v)
	return err
}
