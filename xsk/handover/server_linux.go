package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what strangers can cost.
const (
	maxConns    = 16               // connections at a time, of each class
	maxClosing  = 64               // goroutines that close what has no place
	firstWithin = 10 * time.Second // from connecting to the first request
	sendTimeout = 10 * time.Second // for the other end to make room for a reply
	endWithin   = 5 * time.Second  // for Serve to return
)

// server is Serve's: one goroutine, that of Serve itself, does everything that takes
// privileges or changes state, in the namespace it was called in. It waits for nothing
// that strangers have a hand in.
type server struct {
	cfg     ServerConfig
	first   time.Duration         // firstWithin
	end     time.Duration         // endWithin
	dispose func(io.Closer) error // dispose
	events  chan event
	over    chan struct{} // closed when Serve returns
	closing chan struct{} // one in it for each that has no place and is being closed
	workers sync.WaitGroup
	logger  *logger
	granted *grant // who has the interface; nil if nobody

	mu     sync.Mutex     // guards what follows
	conns  map[*conn]bool // false once it is being closed
	ending bool
}

// event is what a goroutine tells Serve's: a request on a connection, or its end, if
// err is not nil.
type event struct {
	conn *conn
	req  request
	err  error
}

// answer is what Serve's goroutine has decided.
type answer struct {
	reply reply
	fds   []int // closed once they are sent
	last  bool  // the connection ends then
}

// Serve gives out the sockets of one interface, as the configuration says, to those
// who connect to the listener, until ctx ends. It closes the listener and takes the
// program off the interface before it returns; the error is nil if it was ctx that
// ended it, or the listener's Close. Within some seconds it returns also if processes
// have sent it descriptors that take longer to close, or Log does not return; what
// closes them goes on then.
//
// It needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, and CAP_IPC_LOCK or enough
// RLIMIT_MEMLOCK.
func Serve(ctx context.Context, l *net.UnixListener, cfg ServerConfig) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cfg, err := cfg.withDefaults()
	if err != nil {
		return errors.Join(err, l.Close())
	}
	refuseDescriptors(l)
	return newServer(cfg).serve(ctx, l)
}

// refuseDescriptors has the kernel refuse descriptors that are sent to those who are
// accepted, where it can (Linux 6.16): no request has one, and closing one can take
// as long as its sender likes, as with SO_LINGER. An older kernel lets them through.
func refuseDescriptors(l *net.UnixListener) {
	raw, err := l.SyscallConn()
	if err != nil {
		return // it is closed, and accepts nobody
	}
	raw.Control(func(fd uintptr) { //nolint:errcheck // likewise
		unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 0) //nolint:errcheck // ENOPROTOOPT
	})
}

func newServer(cfg ServerConfig) *server {
	return &server{
		cfg: cfg, first: firstWithin, end: endWithin, dispose: dispose,
		events: make(chan event), over: make(chan struct{}), closing: make(chan struct{}, maxClosing),
		conns: make(map[*conn]bool),
	}
}

func (s *server) serve(outer context.Context, ul *net.UnixListener) error {
	ctx, cancel := context.WithCancelCause(outer)
	defer cancel(nil)
	l := listenerOf(ul)
	s.logger = newLogger(s.cfg.Log)
	var accepting sync.WaitGroup
	accepting.Go(func() { cancel(s.accept(ctx, l)) })
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case e := <-s.events:
			s.handle(e)
		case f := <-s.findings():
			s.pass(f)
		case <-s.programLost():
			s.endLost()
		}
	}
	err := context.Cause(ctx)
	if outer.Err() != nil || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	// Who uses a listener last closes it, and what came on connections that nobody has
	// accepted: that is not for accept.
	l.SetDeadline(time.Unix(1, 0)) //nolint:errcheck // it is closed already
	err = errors.Join(err, s.granted.close())
	s.endAll()
	ended := make(chan error, 1)
	go func() {
		accepting.Wait()
		closeErr := s.dispose(l)
		s.workers.Wait()
		ended <- closeErr
	}()
	return errors.Join(err, s.wind(ended))
}

// wind waits for everything to end, but not for long, and returns what ended sent.
func (s *server) wind(ended <-chan error) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.end)
	defer cancel()
	defer s.logger.end(ctx)
	defer close(s.over)
	for {
		select {
		case e := <-s.events:
			if e.err == nil {
				e.conn.answer <- answer{last: true}
			}
			continue
		case err = <-ended:
		case <-ctx.Done():
		}
		break
	}
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// handle does what an event asks for.
func (s *server) handle(e event) {
	c := e.conn
	if e.err == nil {
		c.answer <- s.decide(c, e.req)
		return
	}
	if !errors.Is(e.err, io.EOF) {
		s.log(c, "connection ended", e.err)
	}
	if s.granted != nil && s.granted.conn == c {
		s.takeBack()
	}
}

// takeBack takes the program off the interface, for the next process to have it.
func (s *server) takeBack() error {
	g := s.granted
	s.granted = nil
	err := g.close()
	s.log(g.conn, "has the interface no longer", err)
	return err
}

// decide answers a request. An unknown one ends the connection.
func (s *server) decide(c *conn, req request) answer {
	if c.refused != nil {
		return s.fail(c, "take interface", c.refused, true)
	}
	mine := s.granted != nil && s.granted.conn == c
	if !mine && req.Op != opOpen {
		return s.fail(c, "read request", fmt.Errorf("%.20q before %q: %w", req.Op, opOpen, errUnknown), true)
	}
	g := s.granted
	var a answer
	var err error
	switch req.Op {
	case opOpen:
		if s.granted != nil {
			err = fmt.Errorf("process %d of user %d has %s: %w", g.conn.peer.Pid, g.conn.peer.Uid, s.cfg.Interface, unix.EBUSY)
			return s.fail(c, "take interface", err, true)
		}
		if g, err = s.open(c, req); err != nil {
			return s.fail(c, "take interface", err, true)
		}
		s.granted = g
		a.reply = reply{Interface: g.dev.Name, Queues: g.queues, Attach: g.steer.Mode()}
		s.log(c, fmt.Sprintf("has the interface, queues %v", g.queues), nil)
	case opSocket:
		a.fds, err = g.socket(req.Queue)
	case opClaim:
		if err = g.claim(s.cfg, req.Address); err == nil {
			s.log(c, "has claimed "+req.Address.String(), nil)
		}
	case opRelease:
		err = g.steer.RemoveAddress(req.Address)
	case opJoin:
		if err = g.join(s.cfg, req.Address); err == nil {
			s.log(c, "has joined "+req.Address.String(), nil)
		}
	case opLeave:
		err = g.steer.LeaveGroup(req.Address)
	case opCounters, opClose:
		if req.Op == opClose {
			a.last, err = true, s.takeBack()
		}
		if err == nil {
			counters, countErr := g.steer.Counters()
			a.reply.Counters, err = &counters, countErr
		}
	default:
		return s.fail(c, "read request", fmt.Errorf("%.20q: no such request: %w", req.Op, errUnknown), true)
	}
	if err != nil {
		return s.fail(c, req.Op, err, a.last)
	}
	return a
}

func (s *server) fail(c *conn, op string, err error, last bool) answer {
	s.log(c, "refused "+op, err)
	return answer{reply: reply{Error: failureOf(op, err)}, last: last}
}

func (s *server) log(c *conn, what string, err error) {
	if err != nil {
		what += ": " + err.Error()
	}
	what = strings.ReplaceAll(what, "\n", "; ") // errors that are joined
	s.logger.print(c.of, fmt.Sprintf("process %d of user %d: %s", c.peer.Pid, c.peer.Uid, what))
}
