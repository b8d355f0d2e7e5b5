// Command txgen sends datagrams as fast as it can, on every queue of a device: the
// transmit path of packages umem and xsk alone. Nothing is received, so it attaches
// no program.
//
//	go run ./examples/txgen -i eth0 -mac 02:00:00:00:00:01 -to 192.0.2.20:9 -from 192.0.2.10:9
//
// sends -n datagrams of -size bytes from each queue, and says how fast. With -lab it
// does so in a private network, and wants all of them to arrive at the other end:
//
//	go run ./examples/txgen -lab
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/afxnet/afxnet/examples/internal/command"
	"github.com/afxnet/afxnet/examples/internal/rawlab"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk"
)

func main() {
	iface := flag.String("i", "", "interface")
	queues := command.Count("queues", 1, "queues to send on, from 0")
	n := command.Count("n", 100000, "datagrams per queue")
	size := flag.Int("size", 60, "bytes of a frame")
	var e rawlab.Ends
	flag.TextVar(&e.To, "to", netip.AddrPort{}, "IPv4 address and port to send to")
	flag.TextVar(&e.From, "from", netip.AddrPort{}, "IPv4 address and port to send from")
	flag.Func("mac", "MAC address to send to", func(s string) (err error) { e.ToMAC, err = net.ParseMAC(s); return err })
	command.Main("txgen", command.Ways{
		Lab: func(ctx context.Context) error { return runLab(ctx, 2, *n, *size) },
		Host: func(ctx context.Context) error {
			ifc, err := net.InterfaceByName(*iface)
			if err != nil {
				return fmt.Errorf("-i: %w", err)
			}
			e.FromMAC = ifc.HardwareAddr
			return run(ctx, *iface, *queues, *n, *size, e)
		},

		HostOnly: []string{"i", "queues", "mac", "to", "from"},
	})
}

// run sends n datagrams on each queue and prints the rate. If one queue fails, none goes on.
func run(ctx context.Context, iface string, queues, n, size int, e rawlab.Ends) error {
	if size < 42 || size > 4096 { // the headers; a chunk of packet memory
		return errors.New("-size is from 42 to 4096")
	}
	if len(e.ToMAC) != 6 || !e.To.IsValid() || !e.From.IsValid() {
		return errors.New("-mac, -to and -from: a MAC address of 6 bytes, and IPv4 addresses with ports, are needed")
	}
	frame := make([]byte, size)
	if err := rawlab.Datagram(frame, e, []byte("txgen ")); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	start := time.Now()
	for q := range queues {
		s, err := xsk.OpenContext(ctx, xsk.Config{Interface: iface, Queue: uint32(q)})
		if err != nil {
			stop(err) // only the first counts
			break
		}
		wg.Go(func() {
			if err := errors.Join(send(ctx, s, frame, n), s.Close()); err != nil {
				stop(err)
			}
		})
	}
	wg.Wait()
	err := context.Cause(ctx)
	if took := time.Since(start); err == nil {
		fmt.Printf("%d frames of %d bytes on %d queues in %v: %.0f a second\n", queues*n, size, queues, took.Round(time.Millisecond), float64(queues*n)/took.Seconds())
	}
	return err
}

// send sends the frame n times and waits until the device is done with the last.
func send(ctx context.Context, s *xsk.Socket, frame []byte, n int) error {
	defer context.AfterFunc(ctx, s.Interrupt)()
	s.RX().Refill() // some zero-copy drivers start only with a filled ring
	tx := s.TX()
	for n > 0 || tx.Lent() > 0 {
		if err := errors.Join(ctx.Err(), tx.Err()); err != nil {
			return err
		}
		room := min(tx.Free(tx.Burst()), tx.Burst(), n)
		for range room {
			a, chunk, _ := tx.Frame()
			tx.Queue(a, copy(chunk, frame))
		}
		n -= room
		if left := tx.Flush(); left == 0 && room != 0 {
			continue
		}
		// The ring is full, or the last frames are on their way: look again
		// when there is room, or soon.
		if tx.Reclaim() == 0 {
			if err := s.Wait(true, time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

func runLab(ctx context.Context, queues, n, size int) (err error) {
	l, err := lab.Open(lab.Config{Queues: queues})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	host, err := l.Host.Interface()
	if err != nil {
		return err
	}
	peer, err := l.Peer.Interface()
	if err != nil {
		return err
	}
	before, err := l.Peer.Stats(lab.PeerDevice)
	if err != nil {
		return err
	}
	e := rawlab.Ends{ToMAC: peer.MAC, FromMAC: host.MAC, To: netip.AddrPortFrom(l.Peer.V4.Addr(), 9), From: netip.AddrPortFrom(l.StackV4.Addr(), 9)}
	if err := l.Host.Do(func() error { return run(ctx, lab.HostDevice, queues, n, size, e) }); err != nil {
		return err
	}
	after, err := l.Peer.Stats(lab.PeerDevice)
	if got := int(after["rx_packets"] - before["rx_packets"]); err == nil && got < queues*n {
		err = fmt.Errorf("%d of %d datagrams arrived", got, queues*n)
	}
	return err
}
