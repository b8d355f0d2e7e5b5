package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/afxnet/afxnet/internal/frames"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/stack"
)

const port = "7"

// runLab serves on the AF_XDP side of a private network and drives the service
// with a kernel client from the other side.
func runLab(ctx context.Context, o options) (err error) {
	l, err := lab.Open(lab.Config{Queues: o.queues, MTU: o.mtu})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var s *stack.Stack
	err = l.Host.Do(func() (err error) {
		s, err = stack.Open(stack.Config{
			Interface: lab.HostDevice,
			Addresses: []netip.Prefix{l.StackV4, l.StackV6},
			Profile:   stack.ProfileLAN,
		})
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	before, err := frames.Before(l)
	if err != nil {
		return err
	}
	e, err := serve(s, ":"+port)
	if err != nil {
		return err
	}

	var r report
	r.Info = s.Device().Info()
	c := client{lab: l, o: o}
	if r.TCP, err = c.drive(ctx, "tcp"); err == nil {
		r.UDP, err = c.drive(ctx, "udp")
	}
	if err := errors.Join(err, e.close()); err != nil {
		return err
	}
	if r.Frames, err = frames.Settle(l, s.Device(), before, 2*time.Second); err != nil {
		return err
	}
	if err := r.print(os.Stdout, o.json); err != nil {
		return err
	}
	return r.verdict()
}

// client is the kernel's side: package net in the peer's namespace.
type client struct {
	lab *lab.Lab
	o   options
}

// drive sends the messages of one protocol, one at a time, and waits for each
// to come back. With several queues it takes turns on several connections, so
// that flows arrive on all of them.
func (c *client) drive(ctx context.Context, network string) (result, error) {
	conns := make([]net.Conn, 1)
	if c.o.queues > 1 {
		conns = make([]net.Conn, 8*c.o.queues)
	}
	for i := range conns {
		// Every second connection over IPv6.
		addr := c.lab.StackV4.Addr()
		if i%2 == 1 {
			addr = c.lab.StackV6.Addr()
		}
		conn, err := c.lab.Peer.Dial(ctx, network, net.JoinHostPort(addr.String(), port))
		if err != nil {
			return result{}, err
		}
		defer conn.Close()
		conns[i] = conn
	}
	fmt.Fprintf(os.Stderr, "%s: %d messages of %d bytes on %d connection(s)\n", network, c.o.messages, c.o.size, len(conns))
	var res result
	rtt := make([]time.Duration, 0, c.o.messages)
	random := rand.NewChaCha8([32]byte{byte(len(network))})
	msg, back := make([]byte, c.o.size), make([]byte, maxSize+1)
	shown := time.Now()
	for i := range c.o.messages {
		if err := ctx.Err(); err != nil {
			return res, context.Cause(ctx)
		}
		random.Read(msg) //nolint:errcheck // never fails
		start := time.Now()
		n, err := exchange(conns[i%len(conns)], msg, back, network)
		if err != nil {
			return res, fmt.Errorf("%s message %d: %w", network, i, err)
		}
		now := time.Now()
		rtt = append(rtt, now.Sub(start))
		res.Messages++
		if !bytes.Equal(back[:n], msg) {
			res.Mismatches++
		}
		if now.Sub(shown) > time.Second {
			shown = now
			fmt.Fprintf(os.Stderr, "%s: %d of %d\n", network, i+1, c.o.messages)
		}
	}
	slices.Sort(rtt)
	res.P50 = microseconds(rtt[len(rtt)/2])
	res.P99 = microseconds(rtt[len(rtt)*99/100])
	return res, nil
}

// patience is how long an answer may take: far beyond TCP's retransmission of a
// lost segment. UDP has none, so a lost datagram ends the run here.
const patience = 10 * time.Second

// exchange sends one message and reads what comes back.
func exchange(c net.Conn, msg, back []byte, network string) (int, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := c.Write(msg); err != nil {
		return 0, err
	}
	if network == "udp" {
		return c.Read(back)
	}
	return io.ReadFull(c, back[:len(msg)])
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
