package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// class is whose bounds a connection counts towards: each user who may have the
// interface has his own, and all others have theirs together.
type class struct {
	may bool
	uid uint32 // if may
}

func (of class) String() string {
	if of.may {
		return fmt.Sprintf("user %d", of.uid)
	}
	return "users that may not have the interface"
}

// conn is a connection, with a goroutine that reads requests, sends replies, and
// closes it.
type conn struct {
	*seqpacket.Conn
	peer    unix.Ucred
	of      class
	refused error // what he is told, whatever he asks for
	answer  chan answer
}

// newConn looks at who has connected. Who is refused is told so when he asks.
func (s *server) newConn(uc *net.UnixConn) (c *conn, err error) {
	c = &conn{Conn: seqpacket.New(uc), answer: make(chan answer)}
	if c.peer, err = c.Peer(); err != nil {
		return c, err
	}
	if slices.Contains(s.cfg.Users, c.peer.Uid) {
		c.of = class{true, c.peer.Uid}
	} else {
		c.refused = fmt.Errorf("user %d may not have %s: %w", c.peer.Uid, s.cfg.Interface, unix.EACCES)
	}
	return c, nil
}

// accept takes connections until the listener ends.
func (s *server) accept(ctx context.Context, l listener) error {
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
		c, err := s.newConn(uc)
		if err == nil {
			err = s.enter(c)
		}
		if err == nil {
			s.workers.Go(func() { s.run(c) })
			continue
		}
		if ctx.Err() == nil {
			s.log(c, "refused", err)
		}
		s.turnAway(ctx, c)
	}
}

// turnAway ends a connection that has no place. If too many are being closed, it
// waits.
func (s *server) turnAway(ctx context.Context, c *conn) {
	c.End()
	select {
	case s.closing <- struct{}{}:
		s.workers.Go(func() { s.dispose(c); <-s.closing })
	case <-ctx.Done(): // the last one
		s.workers.Go(func() { s.dispose(c) })
	}
}

// enter gives a connection a place.
func (s *server) enter(c *conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	like := 0
	for o := range s.conns {
		if o.of == c.of {
			like++
		}
	}
	if like >= maxConns {
		return fmt.Errorf("there are %d connections of %v already: %w", like, c.of, unix.EBUSY)
	}
	if s.ending {
		return net.ErrClosed
	}
	s.conns[c] = true
	return nil
}

// leave closes a connection, and gives its place free when that is done.
func (s *server) leave(c *conn) {
	s.mu.Lock()
	s.conns[c] = false // the last use of a file closes it: there is no other from here on
	s.mu.Unlock()
	s.dispose(c)
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// endAll ends all connections, and lets no more in.
func (s *server) endAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	for c, open := range s.conns {
		if open {
			c.End()
		}
	}
}

// run serves a connection until it ends.
func (s *server) run(c *conn) {
	s.tell(event{conn: c, err: s.requests(c)})
	s.leave(c)
}

// requests reads requests, and sends replies, until the connection ends.
func (s *server) requests(c *conn) error {
	for timeout := s.first; ; timeout = 0 {
		msg, err := c.ReceiveBare(timeout)
		if err != nil {
			return err
		}
		req, err := decode[request](msg)
		if err != nil {
			return err
		}
		if !s.tell(event{conn: c, req: req}) {
			return net.ErrClosed
		}
		a := <-c.answer
		if msg, err = encode(a.reply); err == nil {
			err = c.Send(msg, sendTimeout, a.fds...)
		}
		seqpacket.CloseAll(a.fds) //nolint:errcheck // the other end has its own
		if a.last && err == nil {
			err = io.EOF
		}
		if err != nil {
			return err
		}
	}
}

// tell tells Serve's goroutine, unless that has returned.
func (s *server) tell(e event) bool {
	select {
	case s.events <- e:
		return true
	case <-s.over:
		return false
	}
}

// closeWithin is how long a close takes before it is told to hurry.
const closeWithin = 100 * time.Millisecond

// dispose closes what may hold descriptors that strangers have sent. That can take as
// long as they like (see [seqpacket.Conn.Close]): no goroutine may call it that others
// wait for. Where the kernel waits for a signal too, as with SO_LINGER, it gets one:
// SIGURG, which the runtime sends to its threads for preemption.
func dispose(c io.Closer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, tid, done := unix.Getpid(), unix.Gettid(), make(chan struct{})
	defer close(done)
	go func() {
		ticker := time.NewTicker(closeWithin)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				unix.Tgkill(pid, tid, unix.SIGURG) //nolint:errcheck // it cannot be made to hurry
			}
		}
	}()
	return c.Close()
}
