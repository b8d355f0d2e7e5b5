package role

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/afxnet/afxnet/bench/internal/control"
	"github.com/afxnet/afxnet/bench/internal/kernelpeer"
	"github.com/afxnet/afxnet/bench/internal/measure"
	"github.com/afxnet/afxnet/bench/internal/offload"
	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/service"
)

// OpenRequest asks a server to open a peer and to serve on it.
type OpenRequest struct {
	Peer    string
	Config  peer.Config
	Backend netip.Addr // of the servers behind the proxy
}

// OpenReply says what was opened.
type OpenReply struct {
	Info       map[string]string
	GOMAXPROCS int
}

// UsageRequest asks for the usage of a process. With Shrink it first gives
// unused memory back.
type UsageRequest struct{ Shrink bool }

// server is the process in the host's namespace.
type server struct {
	cfg      peer.Config
	counters func() map[string]uint64
	closers  []func() error // in the order of opening
}

func serveServer(ctx context.Context, r io.Reader, w io.Writer) error {
	s := &server{}
	err := control.Serve(ctx, r, w, map[string]control.Handler{
		"open":  control.Handle(s.open),
		"usage": control.Handle(s.usage),
		"close": func(context.Context, json.RawMessage) (any, error) { return nil, s.close() },
	})
	return errors.Join(err, s.close())
}

// openTimeout bounds how often a bind is tried again that finds its queue busy:
// the kernel frees the queues of an ended process a moment later.
const openTimeout = 3 * time.Second

func (s *server) open(ctx context.Context, req OpenRequest) (_ any, err error) {
	if len(s.closers) != 0 {
		return nil, errors.New("a peer is open already")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	e, err := peers.Lookup(req.Peer)
	if err != nil {
		return nil, err
	}
	s.cfg = req.Config
	undo, err := offload.Apply(req.Config.Interface, e.Offloads)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, undo)
	reply := OpenReply{GOMAXPROCS: runtime.GOMAXPROCS(0)}
	if e.Respond != nil {
		reply.Info, err = s.respond(ctx, e)
	} else {
		reply.Info, err = s.serve(e, req.Backend)
	}
	return reply, err
}

// serve opens a peer with sockets.
func (s *server) serve(e peers.Entry, backend netip.Addr) (map[string]string, error) {
	p, err := patiently(func() (peer.Peer, error) { return e.Open(s.cfg) })
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", e.Name, err)
	}
	s.closers = append(s.closers, p.Close)
	set, err := service.Start(p, s.cfg.V4.Addr(), backend)
	if err != nil {
		return nil, fmt.Errorf("serve on %s: %w", e.Name, err)
	}
	s.closers = append(s.closers, func() error { set.Close(); return nil })
	s.counters = p.Counters
	return p.Info(), nil
}

// respond opens a peer that answers by itself.
func (s *server) respond(ctx context.Context, e peers.Entry) (map[string]string, error) {
	p, err := patiently(func() (peer.Responder, error) { return e.Respond(s.cfg) })
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", e.Name, err)
	}
	s.closers = append(s.closers, p.Close)
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	s.closers = append(s.closers, func() error { cancel(); return <-served })
	s.counters = p.Counters
	return p.Info(), nil
}

// patiently tries again while a queue is busy.
func patiently[T any](open func() (T, error)) (T, error) {
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		p, err := open()
		if err == nil || !isBusy(err) || time.Since(start) > openTimeout {
			return p, err
		}
	}
}

// isBusy finds EBUSY also where gVisor has made a text of it.
func isBusy(err error) bool {
	return errors.Is(err, syscall.EBUSY) || strings.Contains(err.Error(), syscall.EBUSY.Error())
}

func (s *server) usage(_ context.Context, req UsageRequest) (any, error) {
	if req.Shrink {
		measure.Shrink()
	}
	u := measure.Self(s.cfg.Interface)
	if s.counters != nil {
		u.Counters = s.counters()
	}
	return u, nil
}

func (s *server) close() error {
	var errs []error
	for len(s.closers) > 0 {
		last := len(s.closers) - 1
		errs = append(errs, s.closers[last]())
		s.closers = s.closers[:last]
	}
	s.counters = nil
	return errors.Join(errs...)
}

// BackendAddr is where the servers behind the proxy listen: the loopback of the
// server's namespace.
var BackendAddr = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// serveBackend serves echo and sink with kernel sockets on loopback until its
// input ends.
func serveBackend(ctx context.Context, r io.Reader, w io.Writer) error {
	p, err := kernelpeer.Open(peer.Config{})
	if err != nil {
		return err
	}
	set, err := service.Start(p, BackendAddr, netip.Addr{})
	if err != nil {
		return errors.Join(err, p.Close())
	}
	err = control.Serve(ctx, r, w, map[string]control.Handler{
		"usage": control.Handle(func(context.Context, UsageRequest) (any, error) { return measure.Self(""), nil }),
	})
	set.Close()
	return errors.Join(err, p.Close())
}
