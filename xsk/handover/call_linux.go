package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// received is a reply, with its descriptors.
type received struct {
	reply
	fds []int
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
