//go:build !linux

package xsk

import (
	"context"
	"errors"
)

// Open fails: AF_XDP is Linux only. errors.Is(err, errors.ErrUnsupported).
func Open(cfg Config) (*Socket, error) {
	return OpenContext(context.Background(), cfg)
}

// OpenContext fails as Open does.
func OpenContext(_ context.Context, cfg Config) (*Socket, error) {
	return nil, &OpError{Op: "create socket", Device: cfg.Interface, Queue: cfg.Queue, Err: errors.ErrUnsupported}
}
