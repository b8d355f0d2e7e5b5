package demo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/afxnet/afxnet/examples/internal/command"
	"github.com/afxnet/afxnet/stack"
)

// A Program is an example: a service, and a user of it.
type Program struct {
	Name string // of the command
	Port uint16 // of the service

	// Serve starts the service on a host, at an address as in ":80". The
	// function that it returns ends the service.
	Serve func(h Host, address string) (stop func() error, err error)

	// KernelServer says that Serve takes a Kernel only, because the server is
	// a program of somebody else's.
	KernelServer bool

	// Use uses the service at address from a host, checks every byte that
	// comes back, and returns what it did in a few words.
	Use func(ctx context.Context, h Host, address string) (string, error)
}

// address returns where to find the program's service on a host.
func (p Program) address(host netip.Addr) string {
	return netip.AddrPortFrom(host, p.Port).String()
}

func (p Program) listenAddress() string { return net.JoinHostPort("", strconv.Itoa(int(p.Port))) }

// options are the flags of every example.
type options struct {
	iface, addr, gw string
	to              string
}

// Main runs a program as its flags say, and exits the process if that fails. It
// is called once, by main.
func Main(p Program) {
	var o options
	flag.StringVar(&o.iface, "i", "", "interface to run on")
	flag.StringVar(&o.addr, "addr", "", "own address with prefix length; the host must not have it")
	flag.StringVar(&o.gw, "gw", "", "gateway")
	flag.StringVar(&o.to, "to", "", "use the service at this IP address and port, instead of serving")
	command.Main(p.Name, command.Ways{
		Lab:  func(ctx context.Context) error { return p.runLab(ctx, os.Stdout) },
		Host: func(ctx context.Context) error { return p.runInterface(ctx, o) },

		HostOnly: []string{"i", "addr", "gw", "to"},
	})
}

// runInterface serves on a stack on a real interface until ctx ends, or the interface
// does, or uses a service from there.
func (p Program) runInterface(ctx context.Context, o options) (err error) {
	switch {
	case o.iface == "" || o.addr == "":
		return errors.New("give -lab, or -i and -addr")
	case p.KernelServer && o.to == "":
		return errors.New("the server is a program of its own: give its address with -to")
	}
	prefix, err := netip.ParsePrefix(o.addr)
	if err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	cfg := stack.Config{Interface: o.iface, Addresses: []netip.Prefix{prefix}}
	ctx, cancel := UntilGone(ctx, &cfg)
	defer cancel()
	if o.gw != "" {
		gw, err := netip.ParseAddr(o.gw)
		if err != nil {
			return fmt.Errorf("-gw: %w", err)
		}
		cfg.Gateways = append(cfg.Gateways, gw)
	}
	s, err := stack.OpenContext(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if o.to != "" {
		did, err := p.Use(ctx, s, o.to)
		if err == nil {
			fmt.Println(did)
		}
		return err
	}
	stop, err := p.Serve(s, p.listenAddress())
	if err != nil {
		return err
	}
	fmt.Printf("serving on %s, %s\n", p.address(prefix.Addr()), o.iface)
	<-ctx.Done()
	return errors.Join(WhyGone(ctx), End(s, stop))
}

// UntilGone returns a context that ends with ctx, or when the interface of a stack that is
// opened with cfg is gone. WhyGone tells why.
func UntilGone(ctx context.Context, cfg *stack.Config) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	cfg.Device.OnLink = func(err error) {
		if errors.Is(err, syscall.ENODEV) { // for good
			cancel(err)
		}
	}
	return ctx, func() { cancel(nil) }
}

// WhyGone is the cause of ctx's end, unless that is that it was canceled, as by a signal.
func WhyGone(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// hangUp is how long the clients of a service that ends have to hang up.
const hangUp = time.Second

// End ends a service on a stack that is to be closed next. Clients may stay
// connected for good: if some do, the stack is closed at once, which resets them.
func End(s *stack.Stack, stop func() error) error {
	defer time.AfterFunc(hangUp, func() { s.Close() }).Stop()
	return stop()
}
