//go:build !linux

package netdiff

import (
	"errors"
	"net"
	"net/netip"
	"time"
)

// ofKernel has no way to do what it should: the reference is Linux.
type ofKernel struct{}

func filtersAllowed() bool { return false }

func (ofKernel) mute(_, _ tcpConn) error { return errors.ErrUnsupported }

func (ofKernel) deafen(*net.Dialer) (hear func() error) {
	return func() error { return errors.ErrUnsupported }
}

func (ofKernel) watch(_, _ netip.AddrPort, _ time.Time) (func() (uint32, error), error) {
	return nil, errors.ErrUnsupported
}

func setUserTimeout(tcpConn, time.Duration) error { return errors.ErrUnsupported }

func setBacklog(*net.TCPListener, int) error { return errors.ErrUnsupported }
