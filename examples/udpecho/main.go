// Command udpecho answers ARP and UDP on a raw AF_XDP socket, in the frames that the
// questions came in: an answer is the question with its ends swapped, which leaves
// every checksum as it is. Package stack has the same with net's interfaces, for
// all of TCP and UDP.
//
//	go run ./examples/udpecho -i eth0 -addr 192.0.2.10
//
// serves 192.0.2.10, which the host must not have, on every queue. With -lab it does
// so in a private network, where a kernel's socket sends -n datagrams:
//
//	go run ./examples/udpecho -lab
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"net/netip"
	"sync"
	"time"

	"github.com/afxnet/afxnet/examples/internal/command"
	"github.com/afxnet/afxnet/examples/internal/rawlab"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

func main() {
	n := command.Count("n", 2000, "with -lab, datagrams to send")
	iface := flag.String("i", "", "interface")
	var addr netip.Addr
	flag.TextVar(&addr, "addr", netip.Addr{}, "IPv4 address to serve")
	command.Main("udpecho", command.Ways{
		Lab:  func(ctx context.Context) error { return runLab(ctx, *n) },
		Host: func(ctx context.Context) error { return run(ctx, *iface, addr) },

		LabOnly: []string{"n"}, HostOnly: []string{"i", "addr"},
	})
}

func run(ctx context.Context, iface string, addr netip.Addr) error {
	serve, err := open(iface, addr)
	if err != nil {
		return err
	}
	return serve(ctx)
}

func runLab(ctx context.Context, n int) error {
	return rawlab.Run(ctx, 2, func(l *rawlab.Lab) (serve func(context.Context) error, err error) {
		return open(lab.HostDevice, l.Address)
	}, func(ctx context.Context, l *rawlab.Lab) error { return l.Ask(ctx, n, "7") })
}

// open binds a socket to every queue and redirects the address's packets to them. They
// are one descriptor each: an MTU at which they would be several is an error.
func open(iface string, addr netip.Addr) (serve func(context.Context) error, err error) {
	if !addr.Is4() {
		return nil, errors.New("-addr: no IPv4 address")
	}
	set, err := xsk.OpenAll(xsk.SetConfig{Socket: xsk.Config{Interface: iface, MultiBuffer: xsk.MultiBufferOff}})
	if err != nil {
		return nil, err
	}
	if err := set.Program().AddAddress(addr); err != nil {
		return nil, errors.Join(err, set.Close())
	}
	return func(ctx context.Context) error {
		var wg sync.WaitGroup
		errs := make([]error, len(set.Sockets()))
		for i, s := range set.Sockets() {
			wg.Go(func() { errs[i] = echo(ctx, s, set.Program().Config().MAC) })
		}
		wg.Wait()
		return errors.Join(append(errs, set.Close())...)
	}, nil
}

// echo answers what comes to one socket until ctx ends.
func echo(ctx context.Context, s *xsk.Socket, mac []byte) error {
	defer context.AfterFunc(ctx, s.Interrupt)()
	rx, tx, batch := s.RX(), s.TX(), make([]umem.Desc, 64)
	for ctx.Err() == nil {
		n := rx.Receive(batch)
		for _, d := range batch[:n] {
			b := s.Region().Bytes(d)
			if !answer(b, mac) || !tx.Queue(d.Addr, len(b)) {
				rx.Recycle([]umem.Desc{d}) // not for us, or the ring is full
			}
		}
		tx.Flush()
		tx.Reclaim()
		rx.Refill()
		if n == 0 {
			if err := errors.Join(rx.Err(), tx.Err(), s.Wait(false, 100*time.Millisecond)); err != nil {
				return err
			}
		}
	}
	return nil
}

// answer makes the answer of a question, and tells whether it is one. The program
// has seen to it that the frame is for our address.
func answer(b []byte, mac []byte) bool {
	const eth, arp, ipv4, udp = 14, 28, 20, 8
	if len(b) < eth+arp {
		return false
	}
	switch p := b[eth:]; binary.BigEndian.Uint16(b[12:]) {
	case 0x0806: // ARP over Ethernet for IPv4: a request
		if binary.BigEndian.Uint64(p) != 0x0001_0800_0604_0001 {
			return false
		}
		p[7] = 2 // a reply
		swap(p[8:18], p[18:28])
		copy(p[8:14], mac)
	case 0x0800: // IPv4 without options, not a fragment, UDP
		if len(p) < ipv4+udp || p[0] != 0x45 || binary.BigEndian.Uint16(p[6:])&0x3fff != 0 || p[9] != 17 {
			return false
		}
		swap(p[12:16], p[16:20])
		swap(p[20:22], p[22:24])
	default:
		return false
	}
	copy(b, b[6:12])
	copy(b[6:12], mac)
	return true
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}
