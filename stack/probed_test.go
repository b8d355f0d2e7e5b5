package stack_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/stack"
)

// What libraries ask connections and sockets for besides net's interfaces.
var (
	_ net.Conn       = (*stack.TCPConn)(nil)
	_ net.Listener   = (*stack.TCPListener)(nil)
	_ net.Conn       = (*stack.UDPConn)(nil)
	_ net.PacketConn = (*stack.UDPConn)(nil)

	// net/http, net/http/httputil and crypto/tls end one direction.
	_ interface{ CloseWrite() error } = (*stack.TCPConn)(nil)
	_ interface{ CloseRead() error }  = (*stack.TCPConn)(nil)

	// Servers end an accept at a time, and probe clients that are silent.
	_ interface{ SetDeadline(time.Time) error } = (*stack.TCPListener)(nil)
	_ interface {
		SetKeepAlive(bool) error
		SetKeepAlivePeriod(time.Duration) error
		SetKeepAliveConfig(net.KeepAliveConfig) error
		SetNoDelay(bool) error
		SetLinger(int) error
	} = (*stack.TCPConn)(nil)

	// quic-go wants large buffers, and says so in the log if it cannot ask.
	_ interface {
		SetReadBuffer(bytes int) error
		SetWriteBuffer(bytes int) error
	} = (*stack.UDPConn)(nil)
)

// TestNoDescriptor: libraries would set options of a descriptor that is none.
func TestNoDescriptor(t *testing.T) {
	for _, c := range []any{new(stack.TCPConn), new(stack.TCPListener), new(stack.UDPConn)} {
		if _, ok := c.(syscall.Conn); ok {
			t.Errorf("a %T is a syscall.Conn", c)
		}
	}
}
