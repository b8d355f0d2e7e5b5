package handover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// protocol is the version of the messages. Another one is refused. 2 has replies that
// answer nothing.
const protocol = 2

// The requests.
const (
	opOpen     = "open"
	opSocket   = "socket"
	opClaim    = "claim"
	opRelease  = "release"
	opJoin     = "join"
	opLeave    = "leave"
	opCounters = "counters"
	opClose    = "close"
)

// request is what the process asks for.
type request struct {
	Op string `json:"op"`

	// Of "open".
	Protocol  int       `json:"protocol,omitempty"`
	Interface string    `json:"interface,omitempty"` // as a check; empty is any
	Queues    []uint32  `json:"queues,omitempty"`    // nil is all
	Memory    *memory   `json:"memory,omitempty"`    // of each socket
	BusyPoll  *busyPoll `json:"busy_poll,omitempty"` // of each socket

	Queue   uint32     `json:"queue,omitempty"`  // of "socket"
	Address netip.Addr `json:"address,omitzero"` // of "claim" and "release", "join" and "leave"
}

// memory is the part of umem.Config that a process may choose.
type memory struct {
	ChunkSize int  `json:"chunk_size,omitempty"`
	Chunks    int  `json:"chunks"`
	Headroom  int  `json:"headroom,omitempty"`
	Unaligned bool `json:"unaligned,omitempty"`

	TXMetadata int            `json:"tx_metadata,omitempty"`
	HugePages  umem.HugePages `json:"huge_pages,omitempty"`
}

// memoryOf is c on its way.
func memoryOf(c umem.Config) *memory {
	return &memory{c.ChunkSize, c.Chunks, c.Headroom, c.Unaligned, c.TXMetadata, c.HugePages}
}

// config is what memoryOf was given.
func (m memory) config() umem.Config {
	return umem.Config{
		ChunkSize: m.ChunkSize, Chunks: m.Chunks, Headroom: m.Headroom, Unaligned: m.Unaligned,
		TXMetadata: m.TXMetadata, HugePages: m.HugePages,
	}
}

// busyPoll is xsk.BusyPoll.
type busyPoll struct {
	Time   time.Duration `json:"time"`
	Budget int           `json:"budget,omitempty"`
	Prefer bool          `json:"prefer,omitempty"`
}

// opLost is in a reply that answers nothing: why the connection is about to end.
const opLost = "lost"

// reply is the helper's answer.
type reply struct {
	Error *failure `json:"error,omitempty"` // nothing else then

	// To "open".
	Interface string         `json:"interface,omitempty"`
	Queues    []uint32       `json:"queues,omitempty"`
	Attach    xsk.AttachMode `json:"attach,omitempty"`

	Counters *xsk.Counters `json:"counters,omitempty"` // to "counters" and "close"

	Finding *xsk.Finding `json:"finding,omitempty"` // to nothing
}

// failure is an error on its way.
type failure struct {
	Op     string        `json:"op"`
	Text   string        `json:"text"`
	Errno  syscall.Errno `json:"errno,omitempty"`
	Remedy string        `json:"remedy,omitempty"`
}

// maxText bounds each text of a failure, so that it fits a message.
const maxText = 600

func cut(s string) string { return s[:min(len(s), maxText)] }

// failureOf makes err fit to be sent.
func failureOf(op string, err error) *failure {
	f := &failure{Op: op, Text: cut(err.Error())}
	var opErr *xsk.OpError
	if errors.As(err, &opErr) && opErr.Err != nil {
		f.Op, f.Text, f.Remedy = opErr.Op, cut(opErr.Err.Error()), cut(opErr.Remedy)
	}
	switch {
	case errors.As(err, &f.Errno):
	case errors.Is(err, errors.ErrUnsupported):
		f.Errno = syscall.EOPNOTSUPP
	case errors.Is(err, os.ErrPermission):
		f.Errno = syscall.EPERM
	case errors.Is(err, os.ErrNotExist):
		f.Errno = syscall.ENOENT
	case errors.Is(err, os.ErrExist):
		f.Errno = syscall.EEXIST
	}
	return f
}

// lostOf is failureOf, of an error that ends the connection.
func lostOf(err error) *failure {
	f := failureOf(opLost, err)
	f.Op, f.Text = opLost, cut(err.Error())
	return f
}

// remoteError is the cause of a failure at the helper: its text, and the errno for
// errors.Is.
type remoteError struct {
	text  string
	errno syscall.Errno
}

func (e *remoteError) Error() string { return "the helper: " + e.text }

func (e *remoteError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// errUnknown is what a message that is not understood wraps.
var errUnknown error = syscall.EPROTO

// decode reads a message: one JSON value with no field that is not known.
func decode[T any](msg []byte) (v T, err error) {
	d := json.NewDecoder(bytes.NewReader(msg))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, fmt.Errorf("a message that is not understood: %w: %w", err, errUnknown)
	}
	if d.More() {
		return v, fmt.Errorf("a message with something behind its end: %w", errUnknown)
	}
	return v, nil
}

// encode writes a message that fits. An error's text that does not, since what is
// quoted in it takes more room, is left out.
func encode(v any) ([]byte, error) {
	msg, err := json.Marshal(v)
	if r, ok := v.(reply); ok && r.Error != nil && len(msg) > seqpacket.MaxMessage {
		return json.Marshal(reply{Error: &failure{Op: "read reply", Text: "too long to be told", Errno: r.Error.Errno}})
	}
	return msg, err
}
