// Command echo serves TCP and UDP echo on sockets that bypass the kernel.
//
// With -lab it makes a private network of two namespaces, serves on the AF_XDP
// side and drives the service with a kernel client from the other side, checks
// every byte and accounts for every frame:
//
//	go run ./examples/echo -lab
//
// Without it, it serves on a real interface until it is interrupted:
//
//	go run ./examples/echo -i eth0 -addr 192.0.2.10/24 -gw 192.0.2.1 -listen :7
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/afxnet/afxnet/examples/internal/command"
	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/xsk"
)

// maxSize is the longest message: it must fit one UDP datagram over IPv4.
const maxSize = 65507

type options struct {
	json     bool
	messages int
	size     int
	queues   int
	mtu      int

	iface  string
	addrs  string
	gw     string
	listen string
}

func main() {
	var o options
	flag.BoolVar(&o.json, "json", false, "with -lab, print one JSON object on stdout and nothing else")
	messages := command.Count("n", 20000, "with -lab, messages per protocol")
	flag.IntVar(&o.size, "size", 64, "with -lab, bytes per message")
	flag.IntVar(&o.queues, "queues", 1, "with -lab, hardware queues of the interface")
	flag.IntVar(&o.mtu, "mtu", 1500, "with -lab, MTU of the interface in bytes")
	flag.StringVar(&o.iface, "i", "", "interface to serve on")
	flag.StringVar(&o.addrs, "addr", "", "addresses with prefix length, separated by commas; the host must not have them")
	flag.StringVar(&o.gw, "gw", "", "gateways, separated by commas")
	flag.StringVar(&o.listen, "listen", ":7", "address to listen on, TCP and UDP")
	command.Main("echo", command.Ways{
		Lab: func(ctx context.Context) error {
			if o.size < 1 || o.size > maxSize {
				return fmt.Errorf("-size is from 1 to %d", maxSize)
			}
			o.messages = *messages
			return runLab(ctx, o)
		},
		Host: func(ctx context.Context) error { return runInterface(ctx, o) },

		LabOnly: []string{"json", "n", "size", "queues", "mtu"}, HostOnly: []string{"i", "addr", "gw", "listen"},
	})
}

// runInterface serves on a real interface until ctx ends, or the interface does.
func runInterface(ctx context.Context, o options) error {
	if o.iface == "" || o.addrs == "" {
		return errors.New("give -lab, or -i and -addr")
	}
	cfg := stack.Config{Interface: o.iface}
	ctx, cancel := demo.UntilGone(ctx, &cfg)
	defer cancel()
	cfg.Device.OnFinding = func(f xsk.Finding) { fmt.Fprintln(os.Stderr, f) }
	for _, a := range strings.Split(o.addrs, ",") {
		p, err := netip.ParsePrefix(a)
		if err != nil {
			return fmt.Errorf("-addr: %w", err)
		}
		cfg.Addresses = append(cfg.Addresses, p)
	}
	if o.gw != "" {
		for _, g := range strings.Split(o.gw, ",") {
			a, err := netip.ParseAddr(g)
			if err != nil {
				return fmt.Errorf("-gw: %w", err)
			}
			cfg.Gateways = append(cfg.Gateways, a)
		}
	}
	s, err := stack.OpenContext(ctx, cfg)
	if err != nil {
		return err
	}
	e, err := serve(s, o.listen)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	info := s.Device().Info()
	fmt.Printf("serving on %s %v, %s, queues %v, zero-copy %v, attach %v\n",
		o.iface, cfg.Addresses, o.listen, info.Queues, info.ZeroCopy, info.Attach)
	<-ctx.Done()
	return errors.Join(demo.WhyGone(ctx), demo.End(s, e.close), s.Close())
}
