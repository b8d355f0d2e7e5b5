package stack

import (
	"net"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// sendOptions are what a socket's datagrams have in their IP headers, and where
// those to groups go. They are replaced, never changed.
type sendOptions struct {
	ttl, tos     uint8 // ttl 0: netstack's default, 64
	multicastTTL uint8
	noLoop       bool // datagrams to groups do not come back
}

// defaultOptions are those of Linux: datagrams to groups stay on the link.
var defaultOptions = sendOptions{multicastTTL: 1}

func (e *udpEndpoint) options() *sendOptions {
	if o := e.set.Load(); o != nil {
		return o
	}
	return &defaultOptions
}

// header returns what netstack makes the IP header of; how may be nil.
func (o *sendOptions) header(r *gstack.Route, how *sendControl) gstack.NetworkHeaderParams {
	p := gstack.NetworkHeaderParams{Protocol: udp.ProtocolNumber, TTL: o.ttl, TOS: o.tos, DF: true}
	if isMulticast(r.RemoteAddress()) {
		p.TTL = o.multicastTTL
	}
	if how != nil {
		if how.ttl >= 0 {
			p.TTL = uint8(how.ttl)
		}
		if how.tos >= 0 {
			p.TOS = uint8(how.tos)
		}
	}
	if p.TTL == 0 {
		p.TTL = r.DefaultTTL()
	}
	return p
}

func isMulticast(a tcpip.Address) bool {
	return header.IsV4MulticastAddress(a) || header.IsV6MulticastAddress(a)
}

// setOption replaces one of the options. change reports false if its value is
// out of range.
func (c *UDPConn) setOption(change func(*sendOptions) bool) error {
	return c.set(func() tcpip.Error {
		o := *c.udp.options()
		if !change(&o) {
			return &tcpip.ErrInvalidOptionValue{}
		}
		c.udp.set.Store(&o)
		return nil
	})
}

// SetTTL sets the TTL or hop limit of datagrams to single hosts: 1 to 255; 64
// unless set. Others are refused with EINVAL.
func (c *UDPConn) SetTTL(ttl int) error {
	return c.setOption(func(o *sendOptions) bool {
		o.ttl = uint8(ttl)
		return 1 <= ttl && ttl <= 255
	})
}

// SetTOS sets the TOS or traffic class, of which the lowest two bits are for ECN:
// 0 to 255; 0 unless set. Others are refused with EINVAL.
func (c *UDPConn) SetTOS(tos int) error {
	return c.setOption(func(o *sendOptions) bool {
		o.tos = uint8(tos)
		return 0 <= tos && tos <= 255
	})
}

// SetMulticastTTL sets the TTL or hop limit of datagrams to groups: 1 to 255; 1
// unless set, which keeps them on the link. Others are refused with EINVAL.
func (c *UDPConn) SetMulticastTTL(ttl int) error {
	return c.setOption(func(o *sendOptions) bool {
		o.multicastTTL = uint8(ttl)
		return 1 <= ttl && ttl <= 255
	})
}

// SetMulticastLoopback chooses whether what is sent to a group also comes to
// those sockets of this stack that are in it. It does, unless set otherwise or
// the socket is from ListenMulticastUDP.
func (c *UDPConn) SetMulticastLoopback(on bool) error {
	return c.setOption(func(o *sendOptions) bool {
		o.noLoop = !on
		return true
	})
}

// SetMulticastInterface chooses the interface that datagrams to groups leave by.
// A stack has one: nil and that are accepted, and the error for others is ENODEV.
func (c *UDPConn) SetMulticastInterface(ifi *net.Interface) error {
	return c.set(func() tcpip.Error { return c.stack.checkInterface(ifi) })
}

// checkInterface returns an error if ifi is not the stack's.
func (s *Stack) checkInterface(ifi *net.Interface) tcpip.Error {
	if ifi == nil || ifi.Index == s.index || ifi.Name != "" && ifi.Name == s.cfg.Interface {
		return nil
	}
	return &tcpip.ErrUnknownDevice{}
}
