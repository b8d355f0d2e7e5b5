// Command unprivileged is a TCP echo server on AF_XDP that any user can run: a helper
// with privileges, xsk/handover/afxnet-handover, makes the sockets and attaches the
// program for it. docs/privileges.md says what the kernel insists on.
//
//	sudo afxnet-handover -i eth0 -socket /run/eth0.sock -uid $USER -addr 192.0.2.10
//	go run ./examples/unprivileged -i eth0 -addr 192.0.2.10/24 -helper /run/eth0.sock
//
// With -lab it makes a private network, is the helper in it, and starts itself as user
// nobody without any capability; the kernel's sockets on the other side use the server:
//
//	go run ./examples/unprivileged -lab
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"github.com/afxnet/afxnet/examples/internal/command"
	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/examples/internal/privlab"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/xsk"
)

func main() {
	iface := flag.String("i", "", "interface")
	addr := flag.String("addr", "", "own address with prefix length, of those that the helper gives")
	helper := flag.String("helper", "", "path of the helper's Unix socket")
	drop := flag.Bool("drop", false, "as root: give up every privilege first, and become nobody")
	command.Main("unprivileged", command.Ways{
		Lab: func(ctx context.Context) error { return privlab.Run(ctx, again) },
		Host: func(ctx context.Context) error {
			if *drop {
				args := slices.DeleteFunc(slices.Clone(os.Args), func(s string) bool { return s == "-drop" })
				return lab.ExecUnprivileged(args, os.Environ())
			}
			return run(ctx, *iface, *addr, *helper)
		},

		HostOnly: []string{"i", "addr", "helper", "drop"},
	})
}

// again is how the server in the lab is started.
func again(address netip.Prefix, helper string) []string {
	return []string{"-drop", "-i", lab.HostDevice, "-addr", address.String(), "-helper", helper}
}

// run serves until ctx ends, or the helper does.
func run(ctx context.Context, iface, addr, helper string) (err error) {
	prefix, err := netip.ParsePrefix(addr)
	if err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := stack.OpenContext(ctx, stack.Config{
		Interface: iface, Addresses: []netip.Prefix{prefix},
		Device: netdev.Config{
			Handover: helper, // all that is different from a stack with privileges
			OnLink: func(err error) {
				if errors.Is(err, syscall.ENODEV) { // for good: the helper has gone, or the program
					cancel(err)
				}
			},
			OnFinding: func(f xsk.Finding) { fmt.Fprintln(os.Stderr, f) },
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	l, err := s.Listen("tcp", ":7")
	if err != nil {
		return err
	}
	fmt.Printf("user %d serves %v on %s, queues %v\n", os.Getuid(), l.Addr(), iface, s.Device().Info().Queues)
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if demo.Away(err) {
			continue
		}
		if err != nil {
			return err
		}
		go func() {
			io.Copy(c, c) //nolint:errcheck // the client sees it
			c.Close()
		}()
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}
