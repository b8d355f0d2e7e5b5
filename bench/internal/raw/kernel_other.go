//go:build !linux

package raw

import (
	"errors"
	"net"
)

// setSegment needs Linux.
func setSegment(*net.UDPConn, int) error { return errors.ErrUnsupported }
