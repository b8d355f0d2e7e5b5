package handover

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// Listen makes the helper's Unix socket, with these permissions: who may write to it
// may connect. A socket that is there and that nobody listens on is replaced; with
// anything else that is there, the error wraps unix.EADDRINUSE. The listener's Close
// removes it. While Listen is at it, it holds a lock on a file of that name with
// .lock behind it.
func Listen(path string, mode os.FileMode) (*net.UnixListener, error) {
	unlock, err := lock(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	defer unlock()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if errors.Is(err, unix.EADDRINUSE) {
		c, dialErr := seqpacket.Dial(path, time.Second)
		if dialErr == nil {
			c.Close()
		}
		// Files of other kinds refuse connections, too.
		if errors.Is(dialErr, unix.ECONNREFUSED) && isSocket(path) && os.Remove(path) == nil {
			l, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, fmt.Errorf("handover: %w", errors.Join(err, l.Close()))
	}
	return l, nil
}

func isSocket(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Type() == os.ModeSocket
}

// lockWithin bounds the wait for another Listen, which dials for a second at most.
const lockWithin = 2 * time.Second

// lock makes a file and locks it, until unlock removes it. Of two helpers that find a
// socket nobody listens on, one would otherwise remove what the other has just made,
// which also refuses connections until it listens.
func lock(path string) (unlock func(), err error) {
	for deadline := time.Now().Add(lockWithin); ; time.Sleep(5 * time.Millisecond) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && isAt(f, path) {
			return func() { os.Remove(path); f.Close() }, nil //nolint:errcheck // the next one finds it unlocked
		}
		f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			return nil, &os.PathError{Op: "flock", Path: path, Err: errors.Join(err, unix.EADDRINUSE)}
		}
	}
}

// isAt tells whether a file still is what its path names.
func isAt(f *os.File, path string) bool {
	mine, err := f.Stat()
	return err == nil && sameFile(mine, path)
}

func sameFile(mine os.FileInfo, path string) bool {
	is, err := os.Lstat(path)
	return err == nil && os.SameFile(mine, is)
}

// listener is Serve's, with the file that it was on when Serve began.
type listener struct {
	*net.UnixListener
	file os.FileInfo // nil if there was none
}

func listenerOf(l *net.UnixListener) listener {
	info, err := os.Lstat(l.Addr().String())
	if err != nil {
		info = nil
	}
	return listener{l, info}
}

// Close closes the listener, and leaves the socket alone that another one has made in
// place of its own.
func (l listener) Close() error {
	if l.file != nil && !sameFile(l.file, l.Addr().String()) {
		l.SetUnlinkOnClose(false)
	}
	return l.UnixListener.Close()
}
