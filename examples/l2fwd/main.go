// Command l2fwd sends packets back to where they came from, with the MAC addresses
// swapped, in the chunks they arrived in: what a bridge or a load balancer does for
// each packet, and nothing else. It serves every queue of a device.
//
//	go run ./examples/l2fwd -i eth0 -addr 192.0.2.10
//
// takes from the kernel what is sent to 192.0.2.10, which the host must not have. Nobody
// answers ARP for it: senders need a neighbour entry. With -lab it makes a private
// network, sends -n datagrams from the other end and wants each of them back:
//
//	go run ./examples/l2fwd -lab
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/afxnet/afxnet/examples/internal/command"
	"github.com/afxnet/afxnet/examples/internal/rawlab"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

func main() {
	n := command.Count("n", 10000, "with -lab, datagrams to send")
	iface := flag.String("i", "", "interface")
	addr := flag.String("addr", "", "address whose packets are sent back")
	command.Main("l2fwd", command.Ways{
		Lab:  func(ctx context.Context) error { return runLab(ctx, *n) },
		Host: func(ctx context.Context) error { return run(ctx, *iface, *addr) },

		LabOnly: []string{"n"}, HostOnly: []string{"i", "addr"},
	})
}

func run(ctx context.Context, iface, address string) error {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	set, err := open(iface, addr)
	if err != nil {
		return err
	}
	return errors.Join(forward(ctx, set), set.Close())
}

// open binds a socket to every queue and redirects the address's packets to them. They
// are one descriptor each: an MTU at which they would be several is an error.
func open(iface string, addr netip.Addr) (*xsk.Set, error) {
	set, err := xsk.OpenAll(xsk.SetConfig{Socket: xsk.Config{Interface: iface, MultiBuffer: xsk.MultiBufferOff}})
	if err != nil {
		return nil, err
	}
	findings, err := set.Check()
	for _, f := range findings {
		fmt.Fprintln(os.Stderr, f)
	}
	if err := errors.Join(err, set.Program().AddAddress(addr)); err != nil {
		return nil, errors.Join(err, set.Close())
	}
	return set, nil
}

// forward serves every socket on a goroutine of its own until ctx ends.
func forward(ctx context.Context, set *xsk.Set) error {
	var wg sync.WaitGroup
	sockets := set.Sockets()
	errs := make([]error, len(sockets))
	for i, s := range sockets {
		wg.Go(func() { errs[i] = serve(ctx, s) })
	}
	wg.Wait()
	for _, s := range sockets {
		st, err := s.Statistics()
		errs = append(errs, err)
		fmt.Printf("queue %d: %d packets received, %d sent, %d lost before\n", s.Queue(), st.RXFrames, st.TXFrames, st.Kernel.RXDropped+st.Kernel.RXRingFull)
	}
	return errors.Join(errs...)
}

func serve(ctx context.Context, s *xsk.Socket) error {
	defer context.AfterFunc(ctx, s.Interrupt)()
	rx, tx, batch := s.RX(), s.TX(), make([]umem.Desc, 64)
	for ctx.Err() == nil {
		n := rx.Receive(batch)
		for _, d := range batch[:n] {
			b := s.Region().Bytes(d)
			// The frame goes from one half to the other; its completion
			// frees it.
			if !turn(b) || !tx.Queue(d.Addr, len(b)) {
				rx.Recycle([]umem.Desc{d}) // to a group, or the ring is full: dropped
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

// turn swaps the MAC addresses. A frame to a group, as an ARP request is, stays as it
// is: no frame may come from one.
func turn(b []byte) bool {
	if len(b) < 12 || b[0]&1 != 0 {
		return false
	}
	for i := range 6 {
		b[i], b[i+6] = b[i+6], b[i]
	}
	return true
}

func runLab(ctx context.Context, n int) error {
	return rawlab.Run(ctx, 2, func(l *rawlab.Lab) (serve func(context.Context) error, err error) {
		set, err := open(lab.HostDevice, l.Address)
		return func(ctx context.Context) error { return errors.Join(forward(ctx, set), set.Close()) }, err
	}, func(ctx context.Context, l *rawlab.Lab) error { return l.RoundTrips(ctx, n, 2) })
}
