package stack

import (
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// SetNoDelay chooses whether small segments are sent at once, without waiting
// for acknowledgements of earlier ones (Nagle's algorithm). They are, unless
// set otherwise.
func (c *TCPConn) SetNoDelay(noDelay bool) error {
	return c.set(func() tcpip.Error {
		c.ep.SocketOptions().SetDelayOption(!noDelay)
		return nil
	})
}

// SetLinger chooses what Close does with bytes that are not sent or not
// acknowledged yet. With 0 it discards them and resets the connection;
// otherwise they are sent in the background, for as long as it takes.
func (c *TCPConn) SetLinger(sec int) error {
	return c.set(func() tcpip.Error {
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
	return c.set(func() tcpip.Error {
		c.ep.SocketOptions().SetKeepAlive(keepalive)
		return nil
	})
}

// SetKeepAlivePeriod sets how long the connection is idle before the first
// probe. 15 seconds unless set otherwise.
func (c *TCPConn) SetKeepAlivePeriod(d time.Duration) error {
	return c.set(func() tcpip.Error {
		idle := tcpip.KeepaliveIdleOption(d)
		return c.ep.SetSockOpt(&idle)
	})
}

// SetKeepAliveConfig sets how the connection is probed, with the meaning that
// package net gives to the fields: 0 is the default (15 s, 15 s, 9), below 0
// leaves the value as it is.
func (c *TCPConn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	return c.set(func() tcpip.Error { return c.setProbes(config) })
}

func (c *TCPConn) setProbes(config net.KeepAliveConfig) tcpip.Error {
	if d := config.Idle; d >= 0 {
		if d == 0 {
			d = keepAliveIdle
		}
		idle := tcpip.KeepaliveIdleOption(d)
		if terr := c.ep.SetSockOpt(&idle); terr != nil {
			return terr
		}
	}
	if d := config.Interval; d >= 0 {
		if d == 0 {
			d = keepAliveInterval
		}
		interval := tcpip.KeepaliveIntervalOption(d)
		if terr := c.ep.SetSockOpt(&interval); terr != nil {
			return terr
		}
	}
	if n := config.Count; n >= 0 {
		if n == 0 {
			n = keepAliveCount
		}
		if terr := c.ep.SetSockOptInt(tcpip.KeepaliveCountOption, n); terr != nil {
			return terr
		}
	}
	c.ep.SocketOptions().SetKeepAlive(config.Enable)
	return nil
}

// keepAlive returns what KeepAlive and KeepAliveConfig of a Dialer or ListenConfig
// mean together.
func keepAlive(idle time.Duration, config net.KeepAliveConfig) net.KeepAliveConfig {
	if !config.Enable && idle >= 0 {
		return net.KeepAliveConfig{Enable: true, Idle: idle}
	}
	return config
}

// SetReadBuffer fixes the size of the receive buffer in bytes; it no longer
// follows the speed of the reader. As with Linux the stack doubles it for its
// own overhead, and keeps it within its bounds.
func (c *TCPConn) SetReadBuffer(bytes int) error { return c.setReadBuffer(bytes) }

// SetWriteBuffer fixes the size of the send buffer in bytes, as SetReadBuffer
// does for the receive buffer.
func (c *TCPConn) SetWriteBuffer(bytes int) error { return c.setWriteBuffer(bytes) }

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
		if bytes < 0 {
			return &tcpip.ErrInvalidOptionValue{}
		}
		setLimit(max(2*min(bytes, bufferMax/2), bufferMin))
		return nil
	})
}

func (k *tcpSocket) setReadBuffer(bytes int) error {
	return k.set(func() tcpip.Error {
		if bytes < 0 {
			return &tcpip.ErrInvalidOptionValue{}
		}
		k.ep.SocketOptions().SetReceiveBufferSize(int64(bytes), true)
		return nil
	})
}

func (k *tcpSocket) setWriteBuffer(bytes int) error {
	return k.set(func() tcpip.Error {
		if bytes < 0 {
			return &tcpip.ErrInvalidOptionValue{}
		}
		k.ep.SocketOptions().SetSendBufferSize(int64(bytes), true)
		return nil
	})
}
