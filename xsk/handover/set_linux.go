package handover

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

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
