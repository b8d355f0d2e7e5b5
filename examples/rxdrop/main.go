// Command rxdrop receives packets on one raw AF_XDP socket and drops them: the
// least that a program needs of packages umem and xsk, without a TCP/IP stack.
//
//	go run ./examples/rxdrop -i eth0 -queue 0 -addr 192.0.2.10
//
// takes from the kernel what is sent to 192.0.2.10, which the host must not have, and
// says how much it was. Nobody answers ARP for it: senders need a neighbour entry. With
// -lab it makes a private network and sends -n datagrams to itself from the other side:
//
//	go run ./examples/rxdrop -lab
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/afxnet/afxnet/examples/internal/command"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

func main() {
	n := command.Count("n", 10000, "with -lab, datagrams to send")
	iface := flag.String("i", "", "interface")
	queue := flag.Uint("queue", 0, "hardware queue")
	var addr netip.Addr
	flag.TextVar(&addr, "addr", netip.Addr{}, "address whose packets are dropped")
	command.Main("rxdrop", command.Ways{
		Lab:  func(ctx context.Context) error { return runLab(ctx, *n) },
		Host: func(ctx context.Context) error { return run(ctx, *iface, uint32(*queue), addr) },

		LabOnly: []string{"n"}, HostOnly: []string{"i", "queue", "addr"},
	})
}

// open binds a socket to the queue and redirects the address's packets to it.
func open(iface string, queue uint32, addr netip.Addr) (*xsk.Set, error) {
	set, err := xsk.OpenAll(xsk.SetConfig{Socket: xsk.Config{Interface: iface}, Queues: []uint32{queue}})
	if err != nil {
		return nil, err
	}
	if err := set.Program().AddAddress(addr); err != nil {
		return nil, errors.Join(err, set.Close())
	}
	return set, nil
}

// drop receives until ctx ends, or enough says so at a moment with nothing to
// receive.
func drop(ctx context.Context, s *xsk.Socket, enough func(packets int) bool) (packets int, err error) {
	defer context.AfterFunc(ctx, s.Interrupt)()
	rx, batch := s.RX(), make([]umem.Desc, 64)
	for {
		n := rx.Receive(batch)
		if n == 0 {
			if ctx.Err() != nil || enough(packets) {
				return packets, nil
			}
			if err := errors.Join(rx.Err(), s.Wait(false, 100*time.Millisecond)); err != nil {
				return packets, err
			}
			continue
		}
		for range umem.Packets(batch[:n]) {
			packets++ // read it here: its bytes are s.Region().Bytes of each descriptor
		}
		rx.Recycle(batch[:n])
		rx.Refill()
	}
}

func run(ctx context.Context, iface string, queue uint32, addr netip.Addr) error {
	if !addr.IsValid() { // before the device is touched
		return errors.New("-addr: the address whose packets to drop is needed")
	}
	set, err := open(iface, queue, addr)
	if err != nil {
		return err
	}
	s := set.Sockets()[0]
	fmt.Printf("dropping %s on %s queue %d, zero-copy %v, attach %v\n", addr, iface, queue, s.ZeroCopy(), set.Program().Mode())
	n, err := drop(ctx, s, func(int) bool { return false })
	fmt.Printf("%d packets dropped\n", n)
	return errors.Join(err, set.Close())
}

func runLab(ctx context.Context, n int) (err error) {
	l, err := lab.Open(lab.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var set *xsk.Set
	if err := l.Host.Do(func() (err error) { set, err = open(lab.HostDevice, 0, l.StackV4.Addr()); return err }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	// Nobody answers ARP for the address: the sender is told the MAC.
	host, err := l.Host.Interface()
	if err != nil {
		return err
	}
	if err := l.Peer.SetNeighbor(l.StackV4.Addr(), host.MAC); err != nil {
		return err
	}
	c, err := l.Peer.Dial(ctx, "udp", net.JoinHostPort(l.StackV4.Addr().String(), "9"))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	sent := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < n && err == nil; i++ {
			_, err = c.Write([]byte("drop me"))
		}
		if err != nil {
			cancel() // nothing more comes
		}
		sent <- err
	}()
	start := time.Now()
	lost := func() int {
		st, _ := set.Sockets()[0].Statistics()
		return int(st.Kernel.RXRingFull + st.Kernel.FillRingEmpty)
	}
	got, err := drop(ctx, set.Sockets()[0], func(packets int) bool { return packets+lost() >= n })
	took := time.Since(start)
	err = errors.Join(err, <-sent)
	fmt.Printf("%d of %d packets dropped in %v, %d lost before\n", got, n, took.Round(time.Millisecond), lost())
	if got+lost() != n {
		err = errors.Join(err, fmt.Errorf("%d packets are missing", n-got-lost()))
	}
	return err
}
