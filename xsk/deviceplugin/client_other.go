//go:build !linux

package deviceplugin

import (
	"errors"

	"github.com/afxnet/afxnet/xsk"
)

// Client is the connection to the plugin. There is none on this system.
type Client struct{}

var errLinuxOnly error = &xsk.OpError{Op: "connect to the device plugin", Queue: xsk.NoQueue, Err: errors.ErrUnsupported}

// Dial fails: AF_XDP is Linux only. errors.Is(err, errors.ErrUnsupported).
func Dial(Config) (*Client, error) { return nil, errLinuxOnly }

func (*Client) Version() (string, error)         { return "", errLinuxOnly }
func (*Client) Map(string) (*xsk.Map, error)     { return nil, errLinuxOnly }
func (*Client) BusyPoll(int, xsk.BusyPoll) error { return errLinuxOnly }
func (*Client) Close() error                     { return nil }
