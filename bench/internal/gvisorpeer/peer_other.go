//go:build !linux

package gvisorpeer

import (
	"errors"
	"fmt"

	"github.com/afxnet/afxnet/bench/internal/peer"
)

// Open is for Linux.
func Open(kind string, _ peer.Config) (peer.Peer, error) {
	return nil, fmt.Errorf("gvisorpeer: open %s: %w", kind, errors.ErrUnsupported)
}
