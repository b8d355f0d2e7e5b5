package deviceplugin

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// Client is the connection to the plugin. Its methods may be called from any
// goroutine. After an answer that is not understood, and after Close, they return
// net.ErrClosed.
type Client struct {
	cfg Config

	mu     sync.Mutex
	conn   *seqpacket.Conn
	closed bool

	once     sync.Once
	closeErr error
}

// Dial connects to the plugin as a pod. Errors are *xsk.OpError, or name the Config
// field: errors.Is finds os.ErrNotExist if there is no plugin, or if it has had its
// connection, unix.EACCES if it does not know the pod, or not with these devices, and
// os.ErrDeadlineExceeded if it does not answer.
func Dial(cfg Config) (_ *Client, err error) {
	cfg, err = cfg.withDefaults(os.Hostname)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg}
	if c.conn, err = seqpacket.Dial(cfg.Path, cfg.Timeout); err != nil {
		return nil, c.opError("connect to the device plugin", err, "the pod has to request the plugin's resource; the plugin accepts one connection, soon after the pod's start")
	}
	answer, _, err := c.ask(connectRequest+cfg.Pod, -1, "/host_ok", "/host_nak", "/error")
	if err == nil && answer != "/host_ok" {
		err = c.opError("connect to the device plugin", fmt.Errorf("it answers %s to pod %q: %w", answer, cfg.Pod, unix.EACCES), "the pod's name, not its host name, has to be given, and all its devices be the plugin's")
	}
	if err != nil {
		return nil, errors.Join(err, c.hangUp())
	}
	return c, nil
}

// Version asks for the version of the plugin's protocol.
func (c *Client) Version() (string, error) {
	version, _, err := c.ask("/version", -1)
	return version, err
}

// Map asks for the map of a device, with room for queue ids below 64. The caller
// closes it. The error wraps os.ErrNotExist if the pod does not have the device; see
// [xsk.TakeMap] for others.
func (c *Client) Map(device string) (*xsk.Map, error) {
	answer, fd, err := c.ask("/xsk_map_fd, "+device, -1, "/fd_ack", "/fd_nak", "/nak", "/error")
	switch {
	case err != nil:
		return nil, err
	case answer == "/fd_nak":
		err = fmt.Errorf("the pod does not have device %s from it: %w", device, os.ErrNotExist)
	case answer != "/fd_ack":
		err = fmt.Errorf("it answers %s: %w", answer, unix.EPROTO)
	case fd < 0:
		err = fmt.Errorf("no descriptor with %s: %w", answer, unix.EPROTO)
	default:
		return xsk.TakeMap(fd)
	}
	return nil, c.opError("ask for the map", err, "")
}

// BusyPoll has the plugin set a socket to busy poll, which takes CAP_NET_ADMIN: one
// of [xsk.Prepare], for Config.Prepared, whose field BusyPoll is true then. Zero
// Budget means 64. The kernel's polling is preferred whatever b says. The error wraps
// unix.EINVAL if b is not as [xsk.BusyPoll] says, unix.EBADF for a negative
// descriptor, and unix.EPERM if the plugin could not.
func (c *Client) BusyPoll(fd int, b xsk.BusyPoll) error {
	const op = "set busy polling"
	const most = 1<<16 - 1 // the kernel has 16 bits for the budget
	switch {
	case fd < 0:
		return c.opError(op, fmt.Errorf("descriptor %d: %w", fd, unix.EBADF), "")
	case b.Time <= 0 || b.Time > time.Second || b.Time%time.Microsecond != 0:
		return c.opError(op, fmt.Errorf("BusyPoll.Time: %v: whole microseconds, up to %v: %w", b.Time, time.Second, unix.EINVAL), "")
	case b.Budget < 0 || b.Budget > most:
		return c.opError(op, fmt.Errorf("BusyPoll.Budget: %d packets: from 1 to %d: %w", b.Budget, most, unix.EINVAL), "")
	}
	if b.Budget == 0 {
		b.Budget = 64
	}
	answer, _, err := c.ask(fmt.Sprintf("/config_busy_poll, %d, %d", b.Time/time.Microsecond, b.Budget), fd, "/config_busy_poll_ack", "/config_busy_poll_nak", "/nak", "/error")
	if err != nil {
		return err
	}
	if answer != "/config_busy_poll_ack" {
		return c.opError(op, fmt.Errorf("the device plugin answers %s: %w", answer, unix.EPERM), "the plugin needs CAP_NET_ADMIN and Linux 5.11")
	}
	return nil
}

// Close says goodbye and ends the connection, for good: the plugin does not accept
// another one. Maps and sockets stay. Idempotent: all calls return the same.
func (c *Client) Close() error {
	c.once.Do(func() {
		_, _, err := c.ask("/fin", -1, "/fin_ack")
		if errors.Is(err, net.ErrClosed) {
			err = nil
		}
		c.closeErr = errors.Join(err, c.hangUp())
	})
	return c.closeErr
}

func (c *Client) hangUp() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.conn.Close()
}

// ask sends a request, with a descriptor unless that is negative, and returns the
// answer, one of those given if there are any, with the descriptor that came along,
// or -1. If there is none that is understood, the connection ends: the next answer
// would be taken for this one's.
func (c *Client) ask(request string, fd int, answers ...string) (answer string, got int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return "", -1, c.opError("ask the device plugin", net.ErrClosed, "")
	}
	if len(request) > maxMessage {
		return "", -1, c.opError("ask the device plugin", fmt.Errorf("%q has %d bytes: at most %d: %w", request, len(request), maxMessage, unix.EMSGSIZE), "")
	}
	var fds []int
	if fd >= 0 {
		fds = append(fds, fd)
	}
	var msg []byte
	got, fds, err = -1, nil, c.conn.Send([]byte(request), c.cfg.Timeout, fds...)
	if err == nil {
		msg, fds, err = c.conn.Receive(c.cfg.Timeout)
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("it has ended the connection: %w", unix.ECONNRESET)
	}
	if answer = string(msg); err == nil && !understood(answer, len(fds), answers) {
		err = fmt.Errorf("it answers %.70q with %d descriptors: %w", answer, len(fds), unix.EPROTO)
	}
	if err != nil {
		c.closed = true
		err = errors.Join(err, seqpacket.CloseAll(fds), c.conn.Close())
		return "", -1, c.opError("ask the device plugin for "+request, err, "")
	}
	if len(fds) == 1 {
		got = fds[0]
	}
	return answer, got, nil
}

// understood tells whether an answer is one of those that can be, or, if any can, a
// short text; with a descriptor if it is a map's.
func understood(answer string, fds int, answers []string) bool {
	most := 0
	if answer == "/fd_ack" {
		most = 1
	}
	if len(answer) > maxMessage || fds > most {
		return false
	}
	for _, a := range answers {
		if a == answer {
			return true
		}
	}
	return len(answers) == 0
}

func (c *Client) opError(op string, err error, remedy string) error {
	return &xsk.OpError{Op: op, Device: c.cfg.Device, Queue: xsk.NoQueue, Err: err, Remedy: remedy}
}
