package xsk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// setNAPI sets what is asked for, once the socket is bound, after it has restored
// what a process left that ended without doing so.
func (s *Socket) setNAPI(n NAPI, ifindex int) (err error) {
	if n == (NAPI{}) {
		hostif.RestoreSettings() //nolint:errcheck // who asks for nothing need not be able to
		return nil
	}
	if s.napi, err = hostif.SetNAPI(ifindex, s.queue, n.values()); err == nil {
		return nil
	}
	remedy := ""
	switch {
	case errors.Is(err, os.ErrPermission):
		remedy = "settings of a NAPI need CAP_NET_ADMIN in the initial user namespace: run with it, or leave Config.NAPI unset"
	case errors.Is(err, unix.EBUSY):
		remedy = "one socket sets them for all of its queue (before Linux 6.13 one process, for all of the device, with the same values): leave Config.NAPI unset in the others"
	case errors.Is(err, errors.ErrUnsupported):
		remedy = "leave Config.NAPI unset, or set it for the whole device below /sys/class/net"
	}
	return s.opError("set NAPI", err, remedy)
}
