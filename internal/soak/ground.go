package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/afxnet/afxnet/internal/frames"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/stack"
)

// A ground is where a load takes place: a stack, who talks to it, and what lies
// between them.
type ground struct {
	stack  *stack.Stack
	v4, v6 netip.Addr // of the stack
	peer   peer

	// others are further stacks, which must not grow either.
	others []*stack.Stack

	// account follows every frame between the two, for as long as patience if
	// some are on their way. It is an error if frames are missing.
	account func(patience time.Duration) (fmt.Stringer, error)
	close   func() error
}

// A peer is the sockets of the other side.
type peer struct {
	v4, v6       netip.Addr
	dial         func(ctx context.Context, network, address string) (net.Conn, error)
	listen       func(network, address string) (net.Listener, error)
	listenPacket func(network, address string) (net.PacketConn, error)
}

// endpoints returns how many sockets all stacks have in their tables.
func (g *ground) endpoints() int {
	n := g.stack.Stats().Endpoints
	for _, s := range g.others {
		n += s.Stats().Endpoints
	}
	return n
}

// newLab has a kernel talk to a stack over AF_XDP, between two namespaces.
func newLab(o options) (_ *ground, err error) {
	cfg := stack.Config{Interface: lab.HostDevice}
	if err := o.without(&cfg); err != nil {
		return nil, err
	}
	l, err := lab.Open(lab.Config{Queues: o.queues, MTU: o.mtu})
	if err != nil {
		return nil, err
	}
	g := &ground{v4: l.StackV4.Addr(), v6: l.StackV6.Addr(), close: l.Close}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	cfg.Addresses = []netip.Prefix{l.StackV4, l.StackV6}
	err = l.Host.Do(func() (err error) {
		g.stack, err = stack.Open(cfg)
		return err
	})
	if err != nil {
		return nil, err
	}
	g.close = func() error { return errors.Join(g.stack.Close(), l.Close()) }
	g.peer = peer{
		v4: l.Peer.V4.Addr(), v6: l.Peer.V6.Addr(),
		dial: l.Peer.Dial, listen: l.Peer.Listen, listenPacket: l.Peer.ListenPacket,
	}
	before, err := frames.Before(l)
	if err != nil {
		return nil, err
	}
	g.account = func(patience time.Duration) (fmt.Stringer, error) {
		a, err := frames.Settle(l, g.stack.Device(), before, patience)
		if err == nil && a.Missing != 0 {
			err = fmt.Errorf("%d frames are unaccounted for", a.Missing)
		}
		return a, err
	}
	return g, nil
}
