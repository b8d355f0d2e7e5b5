package stack

import (
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// SetNoDelay chooses whether small segments are sent at once, without waiting
// for acknowledgements of earlier ones (Nagle's algorithm). They are, unless
// set otherwise.
func (c *TCPConn) SetNoDelay(noDelay bool) error {
	return c.setOption(func() tcpip.Error {
		c.ep.SocketOptions().SetDelayOption(!noDelay)
		return nil
	})
}

// SetLinger chooses what Close does with bytes that are not sent or not
// acknowledged yet. With 0 it discards them and resets the connection;
// otherwise they are sent in the background, for as long as it takes.
func (c *TCPConn) SetLinger(sec int) error {
	return c.setOption(func() tcpip.Error {
		c.ep.SocketOptions().SetLinger(tcpip.LingerOption{
			Enabled: sec >= 0,
			Timeout: time.Duration(max(sec, 0)) * time.Second,
		})
		return nil
	})
}

// SetKeepAlive chooses whether an idle connection is probed. It is, unless set
// otherwise.
func (c *TCPConn) SetKeepAlive(keepalive bool) error {
	return c.setOption(func() tcpip.Error {
		c.ep.SocketOptions().SetKeepAlive(keepalive)
		return nil
	})
}

// SetKeepAlivePeriod sets how long the connection is idle before the first
// probe. 15 seconds unless set otherwise.
func (c *TCPConn) SetKeepAlivePeriod(d time.Duration) error {
	return c.setOption(func() tcpip.Error { return c.setKeepAliveIdle(d) })
}

// SetKeepAliveConfig sets how the connection is probed, with the meaning that
// package net gives to the fields: 0 is the default (15 s, 15 s, 9), below 0
// leaves the value as it is.
func (c *TCPConn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	return c.setOption(func() tcpip.Error { return c.setProbes(config) })
}

func (c *TCPConn) setProbes(config net.KeepAliveConfig) tcpip.Error {
	c.ep.SocketOptions().SetKeepAlive(config.Enable)
	p, terr := newProbing(config)
	p.set(c.ep, false)
	return terr
}

// keepAlive returns what KeepAlive and KeepAliveConfig of a Dialer or ListenConfig
// mean together.
func keepAlive(idle time.Duration, config net.KeepAliveConfig) net.KeepAliveConfig {
	if !config.Enable && idle >= 0 {
		return net.KeepAliveConfig{Enable: true, Idle: idle}
	}
	return config
}

func (c *TCPConn) setKeepAliveIdle(d time.Duration) tcpip.Error {
	d, terr := keepAliveTime(d, keepAliveIdle)
	if terr != nil || d == 0 {
		return terr
	}
	idle := tcpip.KeepaliveIdleOption(d)
	return c.ep.SetSockOpt(&idle)
}

// Bounds of Linux (MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT in
// include/net/tcp.h).
const (
	maxKeepAliveTime  = 32767 * time.Second
	maxKeepAliveCount = 127
)

// keepAliveTime returns the time that a caller means: whole seconds, and for 0
// the default. The result is 0 if the option is to stay as it is.
func keepAliveTime(d, otherwise time.Duration) (time.Duration, tcpip.Error) {
	switch {
	case d < 0:
		return 0, nil
	case d == 0:
		return otherwise, nil
	case d > maxKeepAliveTime:
		return 0, &tcpip.ErrInvalidOptionValue{}
	}
	return (d + time.Second - 1).Truncate(time.Second), nil
}

// setOption acts like set for an option of TCP, whose errors, with package net,
// name the peer too.
func (c *TCPConn) setOption(f func() tcpip.Error) error {
	c.control.Lock()
	defer c.control.Unlock()
	if c.released || c.closed() {
		return c.opErr("set", net.ErrClosed)
	}
	if terr := f(); terr != nil {
		return c.opErr("set", sysError("setsockopt", terr))
	}
	return nil
}

// SetReadBuffer fixes the size of the receive buffer in bytes; it no longer
// follows the speed of the reader. As with Linux the stack doubles it for its
// own overhead, and keeps it within its bounds. While data has come out of order, and
// after CloseWrite, the buffer is not made smaller.
func (c *TCPConn) SetReadBuffer(bytes int) error {
	return c.set(func() tcpip.Error {
		size := int64(bufferSize(bytes))
		c.smaller.Store(0)
		if o := c.ep.SocketOptions(); size >= o.GetReceiveBufferSize() {
			o.SetReceiveBufferSize(size, true)
		} else if !c.shrinkReadBuffer(size) {
			c.smaller.Store(size)
		}
		return nil
	})
}

// shrinkReadBuffer makes the receive buffer smaller, unless there is data out of
// order. If that took all of the room, netstack would refuse the data before it, for
// good (segmentQueue.enqueue in pkg/tcpip/transport/tcp/segment_queue.go). Whether there
// is any can be told while netstack sends SACK blocks, which it does up to its FIN
// (Endpoint.sendRaw in connect.go there). Precondition: control is held.
func (c *TCPConn) shrinkReadBuffer(size int64) bool {
	if s := tcp.EndpointState(c.ep.State()); s == tcp.StateFinWait1 || s == tcp.StateFinWait2 {
		return false
	}
	t, flow, ok := c.stack.guard.flowOf(c.ep)
	if ok && t.gap(flow) {
		return false
	}
	o := c.ep.SocketOptions()
	before := o.GetReceiveBufferSize()
	o.SetReceiveBufferSize(size, true) // what comes after this is held to it
	if ok && t.gap(flow) {
		o.SetReceiveBufferSize(before, true)
		return false
	}
	return true
}

// SetWriteBuffer fixes the size of the send buffer in bytes, as SetReadBuffer
// does for the receive buffer.
func (c *TCPConn) SetWriteBuffer(bytes int) error {
	return c.set(func() tcpip.Error {
		c.ep.SocketOptions().SetSendBufferSize(int64(bufferSize(bytes)), true)
		return nil
	})
}

// SetReadBuffer sets the size of the receive buffer in bytes. As with Linux
// the stack doubles it for its own overhead, and keeps it within its bounds.
func (c *UDPConn) SetReadBuffer(bytes int) error {
	return c.setBuffer(bytes, c.udp.in.setLimit)
}

// SetWriteBuffer sets the size of the send buffer, as SetReadBuffer does for
// the receive buffer.
func (c *UDPConn) SetWriteBuffer(bytes int) error {
	return c.setBuffer(bytes, c.udp.out.setLimit)
}

func (c *UDPConn) setBuffer(bytes int, setLimit func(int)) error {
	return c.set(func() tcpip.Error {
		setLimit(bufferSize(bytes))
		return nil
	})
}

// bufferSize returns the size of a buffer for which a caller has asked for so
// many bytes. A number below zero is a large one, as for Linux, which takes it for
// unsigned (sock_setsockopt in net/core/sock.c).
func bufferSize(bytes int) int {
	if bytes < 0 {
		return bufferMax
	}
	return max(2*min(bytes, bufferMax/2), bufferMin)
}
