package netdiff

import (
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/afxnet/afxnet/stack"
)

// A kernelUDP is a socket of package net with what golang.org/x/net puts around it.
type kernelUDP struct {
	*net.UDPConn
	v4 *ipv4.PacketConn // nil: IPv6
	v6 *ipv6.PacketConn
}

func newKernelUDP(c *net.UDPConn) udpConn {
	k := kernelUDP{UDPConn: c}
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok && a.IP.To4() != nil {
		k.v4 = ipv4.NewPacketConn(c)
	} else {
		k.v6 = ipv6.NewPacketConn(c)
	}
	return k
}

func (k kernelUDP) ReadBatch(ms []message, flags int) (n int, err error) {
	if k.v4 != nil {
		n, err = k.v4.ReadBatch(ms, flags)
	} else {
		n, err = k.v6.ReadBatch(ms, flags)
	}
	return max(n, 0), err // recvmmsg's -1 comes through
}

func (k kernelUDP) WriteBatch(ms []message, flags int) (n int, err error) {
	if k.v4 != nil {
		n, err = k.v4.WriteBatch(ms, flags)
	} else {
		n, err = k.v6.WriteBatch(ms, flags)
	}
	return max(n, 0), err
}

// link returns the interface that has the socket's address.
func (k kernelUDP) link() *net.Interface {
	a := k.LocalAddr().(*net.UDPAddr)
	if a.IP.IsLoopback() {
		return &net.Interface{Index: 1, Name: "lo"}
	}
	return nil // the route says it
}

func (k kernelUDP) JoinGroup(group net.Addr) error {
	if k.v4 != nil {
		return k.v4.JoinGroup(k.link(), group)
	}
	return k.v6.JoinGroup(k.link(), group)
}

func (k kernelUDP) LeaveGroup(group net.Addr) error {
	if k.v4 != nil {
		return k.v4.LeaveGroup(k.link(), group)
	}
	return k.v6.LeaveGroup(k.link(), group)
}

// A stackUDP is a socket of a stack: its messages and groups have other signatures.
type stackUDP struct{ *stack.UDPConn }

func (u stackUDP) ReadBatch(ms []message, flags int) (int, error) {
	mine := toStack(ms)
	n, err := u.UDPConn.ReadBatch(mine, flags)
	for i := range mine[:n] {
		ms[i] = message(mine[i])
	}
	return n, err
}

func (u stackUDP) WriteBatch(ms []message, flags int) (int, error) {
	mine := toStack(ms)
	n, err := u.UDPConn.WriteBatch(mine, flags)
	for i := range mine[:n] {
		ms[i] = message(mine[i])
	}
	return n, err
}

func toStack(ms []message) []stack.Message {
	all := make([]stack.Message, len(ms))
	for i, m := range ms {
		all[i] = stack.Message(m)
	}
	return all
}

func (u stackUDP) JoinGroup(group net.Addr) error  { return u.UDPConn.JoinGroup(nil, group) }
func (u stackUDP) LeaveGroup(group net.Addr) error { return u.UDPConn.LeaveGroup(nil, group) }
