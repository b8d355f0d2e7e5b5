//go:build !linux

package stack

import (
	"errors"
	"syscall"
)

// kernelStream finds none: copies to and from the kernel take a buffer.
func kernelStream(any) syscall.RawConn { return nil }

func (c *TCPConn) copyToKernel(syscall.RawConn) (int64, error) {
	return 0, errors.ErrUnsupported
}

func (c *TCPConn) copyFromKernel(syscall.RawConn, int64) (int64, error) {
	return 0, errors.ErrUnsupported
}
