//go:build !linux

package handover

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/afxnet/afxnet/xsk"
)

// Set is the sockets that a helper has given. There are none on this system.
type Set struct{}

var errLinuxOnly error = &xsk.OpError{Op: "connect to the helper", Queue: xsk.NoQueue, Err: errors.ErrUnsupported}

// Open fails: AF_XDP is Linux only. errors.Is(err, errors.ErrUnsupported).
func Open(Config) (*Set, error) { return nil, errLinuxOnly }

// OpenContext fails as Open does.
func OpenContext(context.Context, Config) (*Set, error) { return nil, errLinuxOnly }

// Listen fails: AF_XDP is Linux only.
func Listen(string, os.FileMode) (*net.UnixListener, error) { return nil, errLinuxOnly }

// Serve fails: AF_XDP is Linux only.
func Serve(context.Context, *net.UnixListener, ServerConfig) error { return errLinuxOnly }

func (*Set) Device() string                  { return "" }
func (*Set) Sockets() []*xsk.Socket          { return nil }
func (*Set) Mode() xsk.AttachMode            { return xsk.AttachAuto }
func (*Set) AddAddress(netip.Addr) error     { return errLinuxOnly }
func (*Set) RemoveAddress(netip.Addr) error  { return errLinuxOnly }
func (*Set) JoinGroup(netip.Addr) error      { return errLinuxOnly }
func (*Set) LeaveGroup(netip.Addr) error     { return errLinuxOnly }
func (*Set) Counters() (xsk.Counters, error) { return xsk.Counters{}, errLinuxOnly }
func (*Set) Done() <-chan struct{}           { return nil }
func (*Set) Findings() <-chan xsk.Finding    { return nil }
func (*Set) Err() error                      { return nil }
func (*Set) Detach() error                   { return nil }
func (*Set) Close() error                    { return nil }
