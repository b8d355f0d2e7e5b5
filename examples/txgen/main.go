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
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/afxnet/afxnet/examples/internal/rawlab"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk"
)

func main() {
	useLab := flag.Bool("lab", false, "send in a private network")
	iface := flag.String("i", "", "interface")
	queues := flag.Int("queues", 1, "queues to send on, from 0")
	n := flag.Int("n", 100000, "datagrams per queue")
	size := flag.Int("size", 60, "bytes of a frame")
	mac := flag.String("mac", "", "MAC address to send to")
	var e rawlab.Ends
	flag.TextVar(&e.To, "to", netip.AddrPort{}, "IPv4 address and port to send to")
	flag.TextVar(&e.From, "from", netip.AddrPort{}, "IPv4 address and port to send from")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second one ends the program at once
	var err error
	if *useLab {
		err = runLab(ctx, 2, *n, *size)
	} else if e.FromMAC, e.ToMAC, err = stations(*iface, *mac); err == nil {
		err = run(ctx, *iface, *queues, *n, *size, e)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "txgen:", err)
		os.Exit(1)
	}
}

func stations(iface, mac string) (from, to net.HardwareAddr, err error) {
	ifc, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, nil, fmt.Errorf("-i: %w", err)
	}
	to, err = net.ParseMAC(mac)
	return ifc.HardwareAddr, to, err
}

// run sends n datagrams on each queue and prints the rate.
func run(ctx context.Context, iface string, queues, n, size int, e rawlab.Ends) error {
	if queues < 1 || n < 1 || size < 42 || size > 4096 { // the headers; a chunk of packet memory
		return errors.New("-queues and -n are at least 1, -size from 42 to 4096")
	}
	frame := make([]byte, size)
	if err := rawlab.Datagram(frame, e, []byte("txgen ")); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, queues)
	start := time.Now()
	for q := range queues {
		s, err := xsk.Open(xsk.Config{Interface: iface, Queue: uint32(q)})
		if err != nil {
			wg.Wait()
			return errors.Join(append(errs, err)...)
		}
		wg.Go(func() { errs[q] = errors.Join(send(ctx, s, frame, n), s.Close()) })
	}
	wg.Wait()
	err := errors.Join(errs...)
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
