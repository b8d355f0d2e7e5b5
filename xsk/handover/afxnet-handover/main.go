// Command afxnet-handover is the privileged half of a process that has no
// privileges: it makes AF_XDP sockets on one interface, attaches the steering
// program, and gives the sockets over a Unix socket to the users it is told to.
//
//	afxnet-handover -i eth0 -socket /run/afxnet/eth0.sock -uid www-data -addr 192.0.2.10,2001:db8::10
//
// lets processes of www-data have eth0's queues, and claim these two addresses and no
// other. They open it with package xsk/handover, or with netdev.Config.Handover. It
// needs root, or CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF and CAP_IPC_LOCK.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/handover"
)

func main() {
	cfg := handover.ServerConfig{Log: func(line string) { fmt.Fprintln(os.Stderr, line) }}
	flag.StringVar(&cfg.Interface, "i", "", "interface")
	path := flag.String("socket", "", "path of the Unix socket, in a directory that only root can write to")
	mode := os.FileMode(0o666)
	flag.Func("mode", "permissions of the Unix socket, in octal (default 666); -uid decides in any case", func(s string) (err error) {
		mode, err = parseMode(s)
		return err
	})
	flag.Func("uid", "users that may have the interface: names or ids, with commas between", func(s string) (err error) {
		cfg.Users, err = list(s, parseUser)
		return err
	})
	flag.Func("addr", "addresses, or networks, that they may claim, with commas between", func(s string) (err error) {
		cfg.Addresses, err = list(s, parsePrefix)
		return err
	})
	flag.Func("group", "multicast groups, or ranges, that they may join, with commas between", func(s string) (err error) {
		cfg.Groups, err = list(s, parsePrefix)
		return err
	})
	flag.Func("queues", "hardware queues to give, with commas between (default all)", func(s string) (err error) {
		cfg.Queues, err = list(s, parseQueue)
		return err
	})
	cfg.MaxMemory = 256 << 20
	flag.Func("memory", "MiB of packet memory that a process may have for a connection (default 256)", func(s string) (err error) {
		cfg.MaxMemory, err = parseMiB(s)
		return err
	})
	flag.BoolVar(&cfg.HugePages, "huge-pages", false, "allow huge pages")
	flag.BoolVar(&cfg.BusyPoll, "busy-poll", false, "allow busy polling")
	flag.Func("attach", "where the program runs: auto, native or generic (default auto)", func(s string) error {
		for _, m := range []xsk.AttachMode{xsk.AttachAuto, xsk.AttachNative, xsk.AttachGeneric} {
			if s == m.String() {
				cfg.Attach = m
				return nil
			}
		}
		return errors.New("auto, native or generic")
	})
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	if err := run(ctx, *path, mode, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "afxnet-handover:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, path string, mode os.FileMode, cfg handover.ServerConfig) error {
	if flag.NArg() != 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if path == "" {
		return errors.New("-socket: the path of the Unix socket is needed")
	}
	l, err := handover.Listen(path, mode)
	if err != nil {
		return err
	}
	return handover.Serve(ctx, l, cfg)
}

func list[T any](s string, parse func(string) (T, error)) (all []T, err error) {
	for word := range strings.SplitSeq(s, ",") {
		v, err := parse(strings.TrimSpace(word))
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func parseUser(s string) (uint32, error) {
	if u, err := user.Lookup(s); err == nil {
		s = u.Uid
	}
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no user", s)
	}
	return uint32(id), nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

func parseQueue(s string) (uint32, error) {
	q, err := strconv.ParseUint(s, 10, 32)
	return uint32(q), err
}

// parseMiB returns bytes.
func parseMiB(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64>>20 {
		return 0, fmt.Errorf("%q: a number of MiB from 1 to %d", s, math.MaxInt64>>20)
	}
	return n << 20, nil
}

// parseMode reads permissions as chmod(1) does, with or without a 0 before them.
func parseMode(s string) (os.FileMode, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("%q: permissions in octal, such as 660", s)
	}
	return os.FileMode(n), nil
}
