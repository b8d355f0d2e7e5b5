package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// Bounds of what strangers can cost.
const (
	maxConns    = 16               // connections at a time, and as many that are refused
	firstWithin = 10 * time.Second // from connecting to the first request
	sendTimeout = 10 * time.Second // for the other end to make room for a reply
)

// server is Serve's: one goroutine, that of Serve itself, does everything that takes
// privileges or changes state, in the namespace it was called in.
type server struct {
	cfg     ServerConfig
	first   time.Duration // firstWithin
	events  chan event
	conns   map[*conn]bool
	workers sync.WaitGroup
	granted *grant // who has the interface; nil if nobody
}

// conn is a connection, with a goroutine that reads requests and sends replies.
type conn struct {
	*seqpacket.Conn
	peer    unix.Ucred
	refused error // what he is told, whatever he asks for
	answer  chan answer
}

// event is what a goroutine tells Serve's: a new connection, a request on it, or its
// end, if err is not nil.
type event struct {
	conn     *conn
	accepted bool
	req      request
	err      error
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
// ended it, or the listener's Close.
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
	return &server{cfg: cfg, first: firstWithin, events: make(chan event), conns: make(map[*conn]bool)}
}

func (s *server) serve(outer context.Context, ul *net.UnixListener) error {
	ctx, cancel := context.WithCancelCause(outer)
	defer cancel(nil)
	l := listenerOf(ul)
	var accepting sync.WaitGroup
	accepting.Go(func() { cancel(s.accept(ctx, l)) })
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case e := <-s.events:
			s.handle(e)
		case f := <-s.findings():
			s.tell(f)
		case <-s.programLost():
			s.endLost()
		}
	}
	err := context.Cause(ctx)
	if outer.Err() != nil || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	closeErr := l.Close()
	for c := range s.conns {
		c.Close()
	}
	ended := make(chan struct{})
	go func() { accepting.Wait(); s.workers.Wait(); close(ended) }()
	for {
		select {
		case e := <-s.events:
			e.conn.Close()
			if e.err == nil && !e.accepted {
				e.conn.answer <- answer{last: true}
			}
			continue
		case <-ended:
		}
		break
	}
	if errors.Is(closeErr, net.ErrClosed) {
		closeErr = nil
	}
	return errors.Join(err, closeErr, s.granted.close())
}

// accept takes connections until the listener ends.
func (s *server) accept(ctx context.Context, l listener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		uc, err := l.AcceptUnix()
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) {
			select { // others may end meanwhile
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if err != nil {
			return err
		}
		c := &conn{Conn: seqpacket.New(uc), answer: make(chan answer)}
		if c.peer, err = c.Peer(); err != nil {
			c.Close()
			continue
		}
		s.events <- event{conn: c, accepted: true}
	}
}

// run reads requests until the connection ends.
func (s *server) run(c *conn) {
	timeout := s.first
	for {
		e := event{conn: c}
		msg, fds, err := c.Receive(timeout)
		if len(fds) > 0 {
			err = errors.Join(fmt.Errorf("a request with %d descriptors: %w", len(fds), errUnknown), seqpacket.CloseAll(fds))
		}
		if err == nil {
			e.req, err = decode[request](msg)
		}
		if e.err = err; err != nil {
			s.events <- e
			return
		}
		s.events <- e
		a := <-c.answer
		if msg, err = encode(a.reply); err == nil {
			err = c.Send(msg, sendTimeout, a.fds...)
		}
		seqpacket.CloseAll(a.fds) //nolint:errcheck // the other end has its own
		if a.last && err == nil {
			err = io.EOF
		}
		if e.err = err; err != nil {
			s.events <- e
			return
		}
		timeout = 0
	}
}

// handle does what an event asks for.
func (s *server) handle(e event) {
	c := e.conn
	switch {
	case e.accepted:
		s.welcome(c)
	case e.err != nil:
		delete(s.conns, c)
		c.Close()
		if !errors.Is(e.err, io.EOF) && !errors.Is(e.err, net.ErrClosed) { // that is endLost's
			s.log(c, "connection ended", e.err)
		}
		if s.granted != nil && s.granted.conn == c {
			s.takeBack()
		}
	default:
		c.answer <- s.decide(c, e.req)
	}
}

// findings are those about the interface while a process has it.
func (s *server) findings() <-chan xsk.Finding {
	if s.granted == nil {
		return nil
	}
	return s.granted.steer.Findings()
}

// tell passes a finding on to the process.
func (s *server) tell(f xsk.Finding) {
	c := s.granted.conn
	s.log(c, f.Text, nil)
	s.workers.Go(func() {
		if msg, err := encode(reply{Finding: &f}); err == nil {
			c.Send(msg, sendTimeout) //nolint:errcheck // it may have ended
		}
	})
}

// programLost is closed when somebody has taken the program off the interface.
func (s *server) programLost() <-chan struct{} {
	if s.granted == nil || s.granted.lost {
		return nil
	}
	return s.granted.steer.Done()
}

// endLost tells the process that it gets no more packets, and why, and ends its
// connection.
func (s *server) endLost() {
	g := s.granted
	g.lost = true
	err := g.steer.Err()
	s.log(g.conn, "has lost the program", err)
	s.workers.Go(func() {
		if msg, err := encode(reply{Error: lostOf(err)}); err == nil {
			g.conn.Send(msg, sendTimeout) //nolint:errcheck // it ends all the same
		}
		g.conn.Close() //nolint:errcheck // run tells
	})
}

// takeBack takes the program off the interface, for the next process to have it.
func (s *server) takeBack() error {
	g := s.granted
	s.granted = nil
	err := g.close()
	s.log(g.conn, "has the interface no longer", err)
	return err
}

// welcome begins a connection. Who is refused is told so when he asks; if there are
// too many of them they are not.
func (s *server) welcome(c *conn) {
	if !slices.Contains(s.cfg.Users, c.peer.Uid) {
		c.refused = fmt.Errorf("user %d may not have %s: %w", c.peer.Uid, s.cfg.Interface, unix.EACCES)
	}
	like := 0
	for o := range s.conns {
		if (o.refused == nil) == (c.refused == nil) {
			like++
		}
	}
	if like >= maxConns {
		s.log(c, "refused", fmt.Errorf("there are %d connections already: %w", like, unix.EBUSY))
		c.Close()
		return
	}
	s.conns[c] = true
	s.workers.Go(func() { s.run(c) })
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
	s.cfg.Log(fmt.Sprintf("process %d of user %d: %s", c.peer.Pid, c.peer.Uid, what))
}
