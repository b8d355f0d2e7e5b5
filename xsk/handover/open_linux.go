package handover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/canceled"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/steering"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// Open asks the helper for its interface, and opens the sockets that it gives.
// Packets come once an address is claimed. Call it in the interface's network
// namespace.
//
// Errors are *xsk.OpError, or name the Config field. What the helper refuses, or
// fails at, is in its words; errors.Is finds unix.EACCES in what it does not give to
// this user, unix.EBUSY if another process has the interface, unix.ENOBUFS if it is
// too much memory, and unix.ECONNREFUSED or os.ErrNotExist if there is no helper.
// Others are those of [xsk.Open].
func Open(cfg Config) (*Set, error) { return OpenContext(context.Background(), cfg) }

// OpenContext is Open, but ends its wait, for the helper or for a busy queue, when ctx
// does: the error wraps ctx's and its cause then, and nothing stays open. With a ctx that
// has ended it fails.
func OpenContext(ctx context.Context, cfg Config) (set *Set, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s, queues, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		// Whatever failed then failed since the connection was closed.
		if !s.unfollow() && !errors.Is(err, ctx.Err()) {
			err = s.opError("take interface", xsk.NoQueue, canceled.Err(ctx), "")
		}
		if err != nil {
			set, err = nil, errors.Join(err, s.Close())
		}
	}()
	cfg.Socket.Interface = s.device
	for _, queue := range queues {
		if err := s.open(ctx, cfg.Socket, queue); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// busyRetry is the pause between two tries to get an interface that another process
// has, which may just have ended.
const busyRetry = 10 * time.Millisecond

// connect asks for the interface. While another process has it, it asks again within
// Config.Socket.BusyTimeout.
func connect(ctx context.Context, cfg Config) (s *Set, queues []uint32, err error) {
	patience := cfg.Socket.BusyTimeout
	if patience == 0 {
		patience = 2 * time.Second
	}
	for deadline := time.Now().Add(patience); ; {
		s, queues, err = connectOnce(ctx, cfg)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return s, queues, err
		}
		select {
		case <-time.After(busyRetry):
		case <-ctx.Done(): // the next one says so
		}
	}
}

// connectOnce asks once. The end of ctx ends the connection, until s.unfollow.
func connectOnce(ctx context.Context, cfg Config) (_ *Set, queues []uint32, err error) {
	s := &Set{
		timeout: cfg.Timeout, device: cfg.Socket.Interface,
		replies: make(chan received, 1), done: make(chan struct{}), findings: steering.NewMailbox(),
	}
	if err := canceled.Err(ctx); err != nil {
		return nil, nil, s.opError("connect to the helper", xsk.NoQueue, err, "")
	}
	// It does not wait: where the helper's backlog is full, it fails (connect(2)).
	if s.conn, err = seqpacket.Dial(cfg.Path, cfg.Timeout); err != nil {
		return nil, nil, s.opError("connect to the helper", xsk.NoQueue, err, "start one that listens there: afxnet-handover -socket "+cfg.Path)
	}
	go s.read()
	s.unfollow = context.AfterFunc(ctx, func() { s.end(canceled.Err(ctx)) })
	mem := cfg.Socket.UMEM
	r, err := s.call(request{
		Op: opOpen, Protocol: protocol, Interface: cfg.Socket.Interface, Queues: cfg.Queues,
		Memory:   memoryOf(mem),
		BusyPoll: busyPollOf(cfg.Socket.BusyPoll),
	})
	if err == nil && (r.Interface == "" || len(r.Queues) == 0 || len(r.Queues) > maxQueues) {
		err = s.opError("take interface", xsk.NoQueue, fmt.Errorf("the helper gives interface %.20q with %d queues: %w", r.Interface, len(r.Queues), errUnknown), "")
	}
	if err != nil {
		s.unfollow()
		s.leave()
		return nil, nil, err
	}
	s.device, s.mode = r.Interface, r.Attach
	return s, r.Queues, nil
}

// open gets the socket of a queue, and opens it.
func (s *Set) open(ctx context.Context, one xsk.Config, queue uint32) error {
	r, err := s.call(request{Op: opSocket, Queue: queue})
	if err != nil {
		return err
	}
	if len(r.fds) != 2 {
		return s.opError("take socket", queue, errors.Join(fmt.Errorf("%d descriptors, want socket and memory: %w", len(r.fds), errUnknown), seqpacket.CloseAll(r.fds)), "")
	}
	file := os.NewFile(uintptr(r.fds[1]), "umem")
	defer file.Close()
	if err := s.checkNamespace(r.fds[0]); err != nil {
		return s.opError("take socket", queue, errors.Join(err, seqpacket.CloseAll(r.fds[:1])), "run the process in the network namespace of the interface")
	}
	one.UMEM.File = file
	region, err := umem.New(one.UMEM)
	if err != nil {
		return s.opError("map umem", queue, errors.Join(err, seqpacket.CloseAll(r.fds[:1])), "")
	}
	s.regions = append(s.regions, region)
	one.Queue, one.Region, one.UMEM = queue, region, umem.Config{}
	one.Prepared = &xsk.Prepared{FD: r.fds[0], Registered: true, BusyPoll: one.BusyPoll.Time > 0}
	sock, err := xsk.OpenContext(ctx, one)
	if err != nil {
		return err
	}
	s.sockets = append(s.sockets, sock)
	return nil
}

// checkNamespace returns an error if a socket is of another network namespace than
// the calling thread: the interface would be looked for in the wrong one.
func (s *Set) checkNamespace(fd int) error {
	mine, err := s.conn.NetNS()
	if err != nil {
		return err
	}
	its, err := hostif.NetNSOf(fd)
	if err != nil {
		return err
	}
	if mine != its {
		return fmt.Errorf("the interface %s of the helper is in another network namespace: %w", s.device, unix.EXDEV)
	}
	return nil
}
