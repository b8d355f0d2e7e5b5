package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/afxnet/afxnet/internal/frames"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/stack"
)

// A Lab is a private network with a stack at one end and the kernel's sockets
// at the other.
type Lab struct {
	Stack  *stack.Stack
	Kernel Kernel

	lab    *lab.Lab
	before uint64 // frames that came before the stack was there
}

// OpenLab makes a lab, with a stack as the configuration says but for interface
// and addresses. It needs the privileges of lab.Open and stack.Open.
func OpenLab(cfg stack.Config) (_ *Lab, err error) {
	l := new(Lab)
	if l.lab, err = lab.Open(lab.Config{}); err != nil {
		return nil, err
	}
	l.Kernel = Kernel{l.lab.Peer}
	cfg.Interface, cfg.Addresses = lab.HostDevice, []netip.Prefix{l.lab.StackV4, l.lab.StackV6}
	err = l.lab.Host.Do(func() (err error) {
		l.Stack, err = stack.Open(cfg)
		return err
	})
	if err == nil {
		l.before, err = frames.Before(l.lab)
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// Close ends the stack and the lab. It is an error if a frame is unaccounted
// for, so services and their users end first.
func (l *Lab) Close() error {
	a, err := frames.Settle(l.lab, l.Stack.Device(), l.before, 5*time.Second)
	if err == nil && a.Missing != 0 {
		err = fmt.Errorf("%d frames are unaccounted for:\n%v", a.Missing, a)
	}
	return errors.Join(err, l.close())
}

func (l *Lab) close() error {
	var err error
	if l.Stack != nil {
		err = l.Stack.Close()
	}
	return errors.Join(err, l.lab.Close())
}

// A Pair is who serves and who uses the service, and the server's address.
type Pair struct {
	Name           string
	Server, Client Host
	Addr           netip.Addr
}

// Pairs returns both roles of the stack, over IPv4 and IPv6, and the stack as
// its own client.
func (l *Lab) Pairs() []Pair {
	return []Pair{
		{"kernel client, own server", l.Stack, l.Kernel, l.lab.StackV4.Addr()},
		{"kernel client, own server", l.Stack, l.Kernel, l.lab.StackV6.Addr()},
		{"own client, kernel server", l.Kernel, l.Stack, l.Kernel.V4.Addr()},
		{"own client, kernel server", l.Kernel, l.Stack, l.Kernel.V6.Addr()},
		{"own client, own server", l.Stack, l.Stack, l.lab.StackV4.Addr()},
	}
}

// runLab runs the program in a lab, in every role it has.
func (p Program) runLab(ctx context.Context, w io.Writer) (err error) {
	l, err := OpenLab(stack.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for _, pair := range l.Pairs() {
		if p.KernelServer && pair.Server == Host(l.Stack) {
			continue
		}
		did, err := p.Try(ctx, pair)
		if err != nil {
			return fmt.Errorf("%s, %v: %w", pair.Name, pair.Addr, err)
		}
		fmt.Fprintf(w, "%-38s %s\n", fmt.Sprintf("%s, %v:", pair.Name, pair.Addr), did)
	}
	return nil
}

// Try serves on the one host of a pair, uses the service from the other one, and
// ends the service.
func (p Program) Try(ctx context.Context, pair Pair) (did string, err error) {
	stop, err := p.Serve(pair.Server, p.listenAddress())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, stop()) }()
	start := time.Now()
	did, err = p.Use(ctx, pair.Client, p.address(pair.Addr))
	return fmt.Sprintf("%s in %v", did, time.Since(start).Round(time.Millisecond)), err
}
