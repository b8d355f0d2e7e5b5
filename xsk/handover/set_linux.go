package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/canceled"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/steering"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// Set is the sockets of an interface, as a helper has given them: ordinary sockets,
// with rings full, that receive what arrives on their queue for a claimed address.
// The halves of each socket are for one goroutine each, as ever; the methods of Set
// may be called from any.
type Set struct {
	conn    *seqpacket.Conn
	timeout time.Duration
	device  string
	mode    xsk.AttachMode
	sockets []*xsk.Socket
	regions []*umem.Region

	mu      sync.Mutex // held by call
	pending atomic.Bool
	replies chan received
	done    chan struct{} // closed when the connection has ended

	findings *steering.Mailbox
	unfollow func() bool // no end of Open's context ends the connection from then on

	endMu    sync.Mutex // guards what follows
	leaving  bool       // the connection ends because this side wants it to
	detached bool       // it has, and last is valid
	err      error      // why the connection ended, unless leaving
	last     xsk.Counters

	closed   sync.Once
	closeErr error
}

// received is a reply, with its descriptors.
type received struct {
	reply
	fds []int
}

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
func OpenContext(ctx context.Context, cfg Config) (_ *Set, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s, queues, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		if !s.unfollow() && err == nil {
			err = s.opError("take interface", xsk.NoQueue, canceled.Err(ctx), "")
		}
		if err != nil {
			err = errors.Join(err, s.Close())
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

// Device returns the interface's name.
func (s *Set) Device() string { return s.device }

// Sockets returns the sockets, in the order of Config.Queues or of the queues that the
// helper gives.
func (s *Set) Sockets() []*xsk.Socket { return slices.Clone(s.sockets) }

// Mode returns where the program runs, as the kernel told the helper.
func (s *Set) Mode() xsk.AttachMode { return s.mode }

// AddAddress claims an address for the sockets. The error wraps unix.EACCES if the
// helper does not give it, and unix.EADDRINUSE if the host has it; others are those
// of [xsk.Program.AddAddress], and of the connection.
func (s *Set) AddAddress(addr netip.Addr) error {
	_, err := s.call(request{Op: opClaim, Address: addr})
	return err
}

// RemoveAddress gives an address back to the kernel. The error wraps os.ErrNotExist
// if it was not claimed.
func (s *Set) RemoveAddress(addr netip.Addr) error {
	_, err := s.call(request{Op: opRelease, Address: addr})
	return err
}

// JoinGroup has UDP that is sent to a multicast group come to the sockets, and makes
// the helper's kernel a member of it on the interface, until as many calls of
// LeaveGroup as of JoinGroup. The error wraps unix.EACCES if the helper does not give
// the group, and unix.EADDRINUSE if the host is in it; errors.ErrUnsupported and
// unix.ENOBUFS are as for netdev.Device.JoinGroup.
func (s *Set) JoinGroup(group netip.Addr) error {
	_, err := s.call(request{Op: opJoin, Address: group})
	return err
}

// LeaveGroup takes back one JoinGroup that had no error.
func (s *Set) LeaveGroup(group netip.Addr) error {
	_, err := s.call(request{Op: opLeave, Address: group})
	return err
}

// Counters returns what the program has done; after Detach, what it had by then.
func (s *Set) Counters() (xsk.Counters, error) {
	s.endMu.Lock()
	detached, last := s.detached, s.last
	s.endMu.Unlock()
	if detached {
		return last, nil
	}
	r, err := s.call(request{Op: opCounters})
	if err == nil && r.Counters == nil {
		err = s.opError(opCounters, xsk.NoQueue, fmt.Errorf("no counters: %w", errUnknown), "")
	}
	if err != nil {
		return xsk.Counters{}, err
	}
	return *r.Counters, nil
}

// Done is closed when the connection to the helper has ended, and with it the
// program: no packets come any more. Err then tells why; nil if it was Detach or
// Close.
func (s *Set) Done() <-chan struct{} { return s.done }

// Findings tells what the helper finds out about the interface while the process has
// it, and that keeps packets from who should have them: they arrive on queues without
// a socket, say, or the host was given an address that was claimed. One goroutine
// should receive them, and call Findings for each: the channel has room for some, and the
// call moves up what waits behind them.
func (s *Set) Findings() <-chan xsk.Finding { return s.findings.Ready() }

// Err returns why the connection to the helper has ended, and nil if it has not, or
// was by Detach or Close.
func (s *Set) Err() error {
	s.endMu.Lock()
	defer s.endMu.Unlock()
	return s.err
}

// Detach has the helper take the program off the interface, and ends the connection.
// The sockets remain, and get no more packets. Idempotent.
func (s *Set) Detach() error {
	s.endMu.Lock()
	gone := s.leaving || s.err != nil
	s.leaving = true
	s.endMu.Unlock()
	if gone { // and the program with it
		return nil
	}
	r, err := s.call(request{Op: opClose})
	if errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		err = nil // the helper has just ended
	}
	s.endMu.Lock()
	if s.detached = true; r.Counters != nil {
		s.last = *r.Counters
	}
	s.endMu.Unlock()
	s.leave()
	return err
}

// leave ends the connection.
func (s *Set) leave() {
	s.endMu.Lock()
	s.leaving = true
	s.endMu.Unlock()
	s.conn.Close() //nolint:errcheck // nothing is under way
	<-s.done
}

// Close takes the program off the interface, closes the sockets, and unmaps their
// memory. The goroutines that use the halves must have stopped, or be in Wait.
// Idempotent; it joins the errors of every step.
func (s *Set) Close() error {
	s.closed.Do(func() {
		errs := []error{s.Detach()}
		for _, sock := range s.sockets {
			errs = append(errs, sock.Close())
		}
		for _, region := range s.regions {
			errs = append(errs, region.Close())
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}

// call asks the helper, and waits for its answer. If none comes in time, or one that
// is not understood, the connection is ended.
func (s *Set) call(req request) (received, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	msg, err := encode(req)
	if err == nil {
		s.pending.Store(true)
		err = s.conn.Send(msg, s.timeout)
	}
	if err != nil {
		return received{}, s.opError(req.Op, req.queue(), s.ended(err), "")
	}
	timer := time.NewTimer(s.timeout)
	defer timer.Stop()
	err = net.ErrClosed
	select {
	case r := <-s.replies:
		return s.judge(req, r)
	case <-s.done:
	case <-timer.C:
		err = fmt.Errorf("no answer of the helper within %v: %w", s.timeout, os.ErrDeadlineExceeded)
		s.end(err)
		<-s.done
	}
	select {
	case r := <-s.replies: // it came at the last moment
		return s.judge(req, r)
	default:
	}
	return received{}, s.opError(req.Op, req.queue(), s.ended(err), "")
}

// judge returns a reply, or the error that it is.
func (s *Set) judge(req request, r received) (received, error) {
	if f := r.Error; f != nil {
		err := error(&remoteError{f.Text, f.Errno})
		if closeErr := seqpacket.CloseAll(r.fds); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
		return received{}, s.opError(f.Op, req.queue(), err, f.Remedy)
	}
	if req.Op != opSocket && len(r.fds) != 0 {
		return received{}, s.opError(req.Op, req.queue(), errors.Join(fmt.Errorf("%d descriptors: %w", len(r.fds), errUnknown), seqpacket.CloseAll(r.fds)), "")
	}
	return r, nil
}

func (r request) queue() uint32 {
	if r.Op == opSocket {
		return r.Queue
	}
	return xsk.NoQueue
}

// read takes replies off the connection until that ends.
func (s *Set) read() {
	defer close(s.done)
	for {
		msg, fds, err := s.conn.Receive(0)
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the helper has ended: %w", unix.ECONNRESET)
		}
		r := received{fds: fds}
		if err == nil {
			r.reply, err = decode[reply](msg)
		}
		if err == nil && r.Error != nil && r.Error.Op == opLost {
			err = &remoteError{r.Error.Text, r.Error.Errno}
		}
		if err == nil && r.Finding != nil && len(fds) == 0 {
			s.findings.Put(*r.Finding)
			continue
		}
		if err == nil && !s.pending.CompareAndSwap(true, false) {
			err = fmt.Errorf("an answer to nothing: %w", errUnknown)
		}
		if err != nil {
			seqpacket.CloseAll(fds) //nolint:errcheck // of no use
			s.end(err)
			return
		}
		s.replies <- r
	}
}

// end ends the connection, for this reason unless there is one already.
func (s *Set) end(err error) {
	s.endMu.Lock()
	defer s.endMu.Unlock()
	if s.err == nil && !s.leaving {
		s.err = err
	}
	s.conn.Close() //nolint:errcheck // it has failed
}

// ended returns why the connection has, or otherwise.
func (s *Set) ended(otherwise error) error {
	if err := s.Err(); err != nil {
		return err
	}
	return otherwise
}

func (s *Set) opError(op string, queue uint32, err error, remedy string) error {
	return &xsk.OpError{Op: op, Device: s.device, Queue: queue, Err: err, Remedy: remedy}
}
